use std::fmt;

/// The type of a metadata value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// Unsigned, 8 bits.
    U8,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 16 bits.
    U16,
    /// Signed, 16 bits.
    I16,
    /// Unsigned, 32 bits.
    U32,
    /// Signed, 32 bits.
    I32,
    /// IEEE 754, 32 bits.
    F32,
    /// One byte, 0 or 1.
    Bool,
    /// UTF-8 with its length in front.
    String,
    /// Values of one type with that type and their count in front.
    Array,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 64 bits.
    I64,
    /// IEEE 754, 64 bits.
    F64,
}

impl ValueType {
    /// Index = number in the file.
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    pub(super) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }

    pub(super) fn number(self) -> u32 {
        self as u32
    }

    /// Bytes of one value; `None` where it depends on the value.
    pub(super) fn width(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }

    /// The fewest bytes that one value takes.
    pub(super) fn min_width(self) -> u64 {
        match self {
            Self::String => 8,
            Self::Array => 12,
            _ => self.width().unwrap_or(1),
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Array => "array",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
        })
    }
}

/// A metadata value, read in place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Any unsigned integer type.
    Unsigned(u64),
    /// Any signed integer type.
    Signed(i64),
    /// `f32` or `f64`.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A text.
    String(&'a str),
    /// Several values of one type.
    Array(Array<'a>),
}

/// The values of an array, read in place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    /// Of every element.
    pub element: ValueType,
    /// Elements in all.
    pub len: u64,
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// The elements in order.
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> {
        let mut rest = self.bytes;
        (0..self.len).map_while(move |_| {
            let (value, behind) = decode(self.element, rest)?;
            rest = behind;
            Some(value)
        })
    }
}

/// The value of type `ty` at the front of `bytes`, and what is behind it. `None` where `bytes` is too short, which
/// cannot be for bytes that a scan has accepted.
pub(super) fn decode(ty: ValueType, bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    fn split<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
        bytes.split_first_chunk::<N>().map(|(front, rest)| (*front, rest))
    }
    macro_rules! number {
        ($kind:ident, $ty:ty) => {{
            let (front, rest) = split(bytes)?;
            (Value::$kind(<$ty>::from_le_bytes(front).into()), rest)
        }};
    }
    Some(match ty {
        ValueType::U8 => number!(Unsigned, u8),
        ValueType::U16 => number!(Unsigned, u16),
        ValueType::U32 => number!(Unsigned, u32),
        ValueType::U64 => number!(Unsigned, u64),
        ValueType::I8 => number!(Signed, i8),
        ValueType::I16 => number!(Signed, i16),
        ValueType::I32 => number!(Signed, i32),
        ValueType::I64 => number!(Signed, i64),
        ValueType::F32 => number!(Float, f32),
        ValueType::F64 => number!(Float, f64),
        ValueType::Bool => {
            let (&front, rest) = bytes.split_first()?;
            (Value::Bool(front != 0), rest)
        }
        ValueType::String => {
            let (length, rest) = split(bytes)?;
            let (text, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(length)).ok()?)?;
            (Value::String(std::str::from_utf8(text).ok()?), rest)
        }
        ValueType::Array => {
            let (element, rest) = split(bytes)?;
            let (len, rest) = split(rest)?;
            let element = ValueType::from_number(u32::from_le_bytes(element))?;
            let len = u64::from_le_bytes(len);
            let behind = match element.width() {
                Some(width) => rest.get(usize::try_from(len.checked_mul(width)?).ok()?..)?,
                None => (0..len).try_fold(rest, |rest, _| decode(element, rest).map(|(_, behind)| behind))?,
            };
            let bytes = &rest[..rest.len() - behind.len()];
            (Value::Array(Array { element, len, bytes }), behind)
        }
    })
}

/// The value, shortened to what fits a message.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 60;
        match self {
            Self::Unsigned(v) => write!(f, "{v}"),
            Self::Signed(v) => write!(f, "{v}"),
            // As f32 where that is what it was: 1e-5 and not 0.000009999999747378752.
            Self::Float(v) if f64::from(*v as f32) == *v => write!(f, "{}", *v as f32),
            Self::Float(v) => write!(f, "{v}"),
            Self::Bool(v) => write!(f, "{v}"),
            Self::String(v) if v.chars().nth(SHOWN).is_none() => write!(f, "{v:?}"),
            Self::String(v) => {
                write!(f, "{:?}… ({} bytes)", v.chars().take(SHOWN).collect::<String>(), v.len())
            }
            Self::Array(v) => write!(f, "an array of {} {}", v.len, v.element),
        }
    }
}

/// What a metadata value can be read as.
pub trait FromValue<'a>: Sized {
    /// In words, with its article.
    const EXPECTED: &'static str;

    /// `None` where `value` is of another type or does not fit.
    fn from_value(value: Value<'a>) -> Option<Self>;
}

macro_rules! integer {
    ($ty:ty, $expected:literal) => {
        impl FromValue<'_> for $ty {
            const EXPECTED: &'static str = $expected;
            fn from_value(value: Value<'_>) -> Option<Self> {
                match value {
                    Value::Unsigned(v) => v.try_into().ok(),
                    Value::Signed(v) => v.try_into().ok(),
                    _ => None,
                }
            }
        }
    };
}
integer!(u32, "an unsigned integer of 32 bits");
integer!(u64, "an unsigned integer");
integer!(i32, "an integer of 32 bits");

impl FromValue<'_> for f32 {
    const EXPECTED: &'static str = "a floating-point number";
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Float(v) => Some(v as Self),
            _ => None,
        }
    }
}

impl FromValue<'_> for bool {
    const EXPECTED: &'static str = "a boolean";
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a str {
    const EXPECTED: &'static str = "a string";
    fn from_value(value: Value<'a>) -> Option<Self> {
        match value {
            Value::String(v) => Some(v),
            _ => None,
        }
    }
}

macro_rules! array {
    ($item:ty, $expected:literal) => {
        impl<'a> FromValue<'a> for Vec<$item> {
            const EXPECTED: &'static str = $expected;
            fn from_value(value: Value<'a>) -> Option<Self> {
                match value {
                    Value::Array(array) => array.iter().map(<$item>::from_value).collect(),
                    _ => None,
                }
            }
        }
    };
}
array!(&'a str, "an array of strings");
array!(f32, "an array of floating-point numbers");
array!(i32, "an array of integers of 32 bits");
array!(u32, "an array of unsigned integers of 32 bits");
