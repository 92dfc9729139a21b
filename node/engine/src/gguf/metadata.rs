use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;

use super::scan::Scan;
use super::value::{FromValue, Value, ValueType, decode};
use super::{Field, GgufError};

/// Keys and values of a file, kept as the bytes they are there.
#[derive(Clone, Debug)]
pub struct Metadata {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    by_key: HashMap<String, usize>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: String,
    ty: ValueType,
    value: Range<usize>,
    /// Key, type and value.
    all: Range<usize>,
}

impl Metadata {
    pub(super) fn scan(scan: &mut Scan<impl Read>, count: u64) -> Result<Self, GgufError> {
        let begin = scan.bytes().len();
        let mut entries = Vec::new();
        let mut by_key = HashMap::new();
        for i in 0..count {
            let start = scan.bytes().len() - begin;
            let key = scan.name(Field::Key(i))?;
            let ty = scan.value_type(Field::Value(&key))?;
            let value = scan.bytes().len() - begin;
            scan.value(ty, Field::Value(&key))?;
            let end = scan.bytes().len() - begin;
            if by_key.insert(key.clone(), entries.len()).is_some() {
                return Err(GgufError::DuplicateKey { key });
            }
            entries.push(Entry { key, ty, value: value..end, all: start..end });
        }
        Ok(Self { bytes: scan.bytes()[begin..].to_vec(), entries, by_key })
    }

    /// Keys in the order of the file.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    /// There is a value of this key.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.by_key.contains_key(key)
    }

    /// The value of `key` as it is.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<Value<'_>> {
        let entry = self.entry(key)?;
        decode(entry.ty, self.bytes.get(entry.value.clone())?).map(|(value, _)| value)
    }

    /// Key, type and value of `key`, byte for byte as in the file.
    #[must_use]
    pub fn raw(&self, key: &str) -> Option<&[u8]> {
        self.bytes.get(self.entry(key)?.all.clone())
    }

    /// The value of `key` as a `T`; `None` where there is none, an error where it is of another type.
    pub fn get<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, GgufError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let wrong = || GgufError::WrongType {
            key: key.to_owned(),
            expected: T::EXPECTED,
            found: self.describe(key, value),
        };
        T::from_value(value).ok_or_else(wrong).map(Some)
    }

    /// The value of `key` as a `T`; an error where there is none or it is of another type.
    pub fn require<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, GgufError> {
        self.get(key)?.ok_or_else(|| GgufError::MissingKey { key: key.to_owned() })
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.get(*self.by_key.get(key)?)
    }

    fn describe(&self, key: &str, value: Value<'_>) -> String {
        match (value, self.entry(key)) {
            (Value::Array(_), _) | (_, None) => value.to_string(),
            (_, Some(entry)) => format!("the {} {value}", entry.ty),
        }
    }
}
