//! JSON in little memory: the objects of a kind are alike, so each is kept as what the first one does not have.

use lz4_flex::block::{
    DecompressError, compress_prepend_size_with_dict, decompress_size_prepended_with_dict,
};
use thiserror::Error;

/// The first object that there ever was, against which all are packed.
#[derive(Debug, Default)]
pub(super) struct Packer {
    first: Box<[u8]>,
}

/// One object. Two are equal where their JSON is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packed(Box<[u8]>);

/// Why an object that was put here does not come back: a fault of this program.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// It is not what was packed.
    #[error("the bytes do not unpack: {0}")]
    Bytes(#[source] DecompressError),
    /// It is no object of its kind.
    #[error("the JSON cannot be read: {0}")]
    Json(#[source] serde_json::Error),
}

impl Packer {
    pub(super) fn pack(&mut self, json: &[u8]) -> Packed {
        if self.first.is_empty() {
            self.first = json.into();
        }
        Packed(compress_prepend_size_with_dict(json, &self.first).into())
    }

    /// # Errors
    /// What another one has packed.
    pub(super) fn unpack(&self, packed: &Packed) -> Result<Vec<u8>, UnpackError> {
        decompress_size_prepended_with_dict(&packed.0, &self.first).map_err(UnpackError::Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_like_the_first_takes_little_and_all_of_it_comes_back() {
        let words: Vec<String> = (0..500).map(|number| format!("\"word {number}\"")).collect();
        let object = |name: &str| format!("{{\"name\":\"{name}\",\"words\":[{}]}}", words.join(","));
        let mut packer = Packer::default();
        let first = packer.pack(object("a").as_bytes());
        for name in ["a", "b", "", "another one"] {
            let packed = packer.pack(object(name).as_bytes());
            assert_eq!(packer.unpack(&packed).unwrap(), object(name).as_bytes());
            assert!(packed.0.len() < 100, "{name}: {} bytes", packed.0.len());
            assert_eq!(packed == first, name == "a");
        }
        let unlike = b"{}";
        let packed = packer.pack(unlike);
        assert_eq!(packer.unpack(&packed).unwrap(), unlike);
        assert!(Packer::default().unpack(&first).is_err());
    }
}
