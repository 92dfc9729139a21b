use std::io::{self, Read};
use std::ops::Range;

use super::{Field, GgufError, MAX_ENTRIES, MAX_HEADER, ValueType};

/// Longer than any key, name, token or chat template.
const MAX_STRING: u64 = 4 << 20;
/// ggml's own limit is 64; GGUF allows keys of 65,535 bytes.
const MAX_KEY: u64 = 65_535;
const MAX_NESTING: u32 = 4;

/// Reads a header front to back and keeps its bytes. Nothing is taken into memory that the file does not hold.
pub(super) struct Scan<R> {
    input: R,
    file_bytes: u64,
    bytes: Vec<u8>,
}

pub(super) struct Preamble {
    pub(super) version: u32,
    pub(super) tensor_count: u64,
    pub(super) metadata_count: u64,
}

impl<R: Read> Scan<R> {
    pub(super) fn new(input: R, file_bytes: u64) -> Self {
        Self { input, file_bytes, bytes: Vec::new() }
    }

    pub(super) fn position(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The bytes of the file from its beginning up to `position`.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn preamble(&mut self) -> Result<Preamble, GgufError> {
        let magic: [u8; 4] = self.array(Field::Preamble)?;
        if &magic != b"GGUF" {
            return Err(GgufError::Magic { found: magic });
        }
        let version = self.u32(Field::Preamble)?;
        match version {
            2 | 3 => {}
            1 => {
                return Err(GgufError::Version { found: 1, hint: ": convert the file anew with llama.cpp" });
            }
            _ if matches!(version.swap_bytes(), 1..=3) => {
                return Err(GgufError::Version { found: version, hint: ": this is a big-endian file" });
            }
            _ => return Err(GgufError::Version { found: version, hint: "" }),
        }
        let tensor_count = self.count(Field::TensorCount)?;
        let metadata_count = self.count(Field::MetadataCount)?;
        Ok(Preamble { version, tensor_count, metadata_count })
    }

    /// A number of entries of the header.
    fn count(&mut self, what: Field<'_>) -> Result<u64, GgufError> {
        let value = self.u64(what)?;
        if value > MAX_ENTRIES {
            return Err(GgufError::TooLarge { what: what.to_string(), value, limit: MAX_ENTRIES });
        }
        Ok(value)
    }

    /// A key or a name.
    pub(super) fn name(&mut self, what: Field<'_>) -> Result<String, GgufError> {
        let range = self.string(what, MAX_KEY)?;
        if range.is_empty() {
            return Err(GgufError::Empty { what: what.to_string() });
        }
        Ok(String::from_utf8_lossy(&self.bytes[range]).into_owned())
    }

    /// A value of type `ty`; its bytes are kept, not returned.
    pub(super) fn value(&mut self, ty: ValueType, what: Field<'_>) -> Result<(), GgufError> {
        self.nested_value(ty, what, 0)
    }

    fn nested_value(&mut self, ty: ValueType, what: Field<'_>, depth: u32) -> Result<(), GgufError> {
        if let Some(width) = ty.width() {
            return self.scalars(ty, width, what);
        }
        if ty == ValueType::String {
            return self.string(what, MAX_STRING).map(drop);
        }
        if depth == MAX_NESTING {
            return Err(GgufError::Nested { what: what.to_string(), limit: MAX_NESTING });
        }
        let element = self.value_type(what)?;
        let count = self.u64(what)?;
        let need = count.saturating_mul(element.min_width());
        self.require(need, what)?;
        if element.width().is_some() {
            return self.scalars(element, need, what);
        }
        for _ in 0..count {
            self.nested_value(element, what, depth + 1)?;
        }
        Ok(())
    }

    fn scalars(&mut self, ty: ValueType, bytes: u64, what: Field<'_>) -> Result<(), GgufError> {
        let range = self.take(bytes, what)?;
        if ty == ValueType::Bool
            && let Some(&found) = self.bytes[range].iter().find(|&&b| b > 1)
        {
            return Err(GgufError::Bool { what: what.to_string(), found });
        }
        Ok(())
    }

    pub(super) fn value_type(&mut self, what: Field<'_>) -> Result<ValueType, GgufError> {
        let found = self.u32(what)?;
        ValueType::from_number(found).ok_or_else(|| GgufError::ValueType { what: what.to_string(), found })
    }

    pub(super) fn u32(&mut self, what: Field<'_>) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: Field<'_>) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self, what: Field<'_>) -> Result<[u8; N], GgufError> {
        let range = self.take(N as u64, what)?;
        let mut out = [0; N];
        out.copy_from_slice(&self.bytes[range]);
        Ok(out)
    }

    fn string(&mut self, what: Field<'_>, limit: u64) -> Result<Range<usize>, GgufError> {
        let length = self.u64(what)?;
        self.require(length, what)?;
        if length > limit {
            let what = format!("the length of {what}");
            return Err(GgufError::TooLarge { what, value: length, limit });
        }
        let range = self.take(length, what)?;
        if std::str::from_utf8(&self.bytes[range.clone()]).is_err() {
            return Err(GgufError::NotUtf8 { what: what.to_string(), at: range.start as u64 });
        }
        Ok(range)
    }

    /// `need` more bytes are in the file, and the header stays within its limit.
    fn require(&self, need: u64, what: Field<'_>) -> Result<(), GgufError> {
        let at = self.position();
        if need > self.file_bytes.saturating_sub(at) {
            return Err(GgufError::CutShort {
                what: what.to_string(),
                need,
                at,
                file_bytes: self.file_bytes,
            });
        }
        if at + need > MAX_HEADER {
            let what = format!("the size of the header with {what}");
            return Err(GgufError::TooLarge { what, value: at + need, limit: MAX_HEADER });
        }
        Ok(())
    }

    fn take(&mut self, bytes: u64, what: Field<'_>) -> Result<Range<usize>, GgufError> {
        self.require(bytes, what)?;
        let start = self.bytes.len();
        let failed = |source| GgufError::Read { what: what.to_string(), at: start as u64, source };
        // Memory grows with the bytes that are there: of a peer's file we know the size only by what it says.
        let read = self.input.by_ref().take(bytes).read_to_end(&mut self.bytes).map_err(failed)?;
        if (read as u64) < bytes {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(start..self.bytes.len())
    }
}
