//! GGUF, the file format of llama.cpp: a bounded reader and a writer of headers.
//!
//! ```text
//! "GGUF" | version u32 | tensor count u64 | metadata count u64
//! metadata:     key string | type u32 | value                        × metadata count
//! tensor infos: name string | n u32 | n × dim u64 | type u32 | offset u64   × tensor count
//! zeros up to general.alignment (32) | tensor data, each tensor aligned likewise
//! ```
//! Little-endian; a string is a u64 length and that many bytes of UTF-8. Versions 2 and 3 are the same on disk.
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
//!
//! A file may say anything. [`Gguf::open`] reads only the header, checks every length against the bytes that are
//! really there before it takes memory, and names what is wrong with its key or tensor and its value. What it
//! returns can be trusted: tensors lie inside the file, apart from one another, and have the size that their
//! shape and type ask for. What the numbers mean for a model is [`crate::config`]'s to check.

mod error;
mod metadata;
mod scan;
mod tensor;
mod value;
mod write;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

pub use error::GgufError;
pub use metadata::Metadata;
pub use tensor::{GgmlType, TensorInfo};
pub use value::{Array, FromValue, Value, ValueType};
pub use write::{Header, HeaderWriter, MetaValue};

use error::Field;
use scan::Scan;

/// Alignment of tensor data where a file has no `general.alignment`.
pub const DEFAULT_ALIGNMENT: u64 = 32;
/// Of a header: the largest vocabularies in use (Llama 4, Gemma 3) take 12 MiB.
const MAX_HEADER: u64 = 64 << 20;
/// Of metadata entries, and of tensors: llama-3.1-405b has 1,138 tensors.
const MAX_ENTRIES: u64 = 65_536;
const MAX_ALIGNMENT: u64 = 1 << 20;

/// The header of one GGUF file.
#[derive(Clone, Debug)]
pub struct Gguf {
    /// 2 or 3.
    pub version: u32,
    /// Keys and values in the order of the file.
    pub metadata: Metadata,
    /// In the order of the file.
    pub tensors: Vec<TensorInfo>,
    /// Of tensor data, in bytes: a power of two.
    pub alignment: u64,
    /// First byte of tensor data.
    pub data_offset: u64,
    /// Size of the file.
    pub file_bytes: u64,
    by_name: HashMap<String, usize>,
}

impl Gguf {
    /// Reads and checks the header of the file at `path`.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let failed = |source| GgufError::Open { source };
        let about = std::fs::metadata(path).map_err(failed)?;
        // Before it is opened: opening a pipe would wait for a writer.
        if !about.is_file() {
            return Err(GgufError::NotAFile);
        }
        let file = File::open(path).map_err(failed)?;
        Self::read(BufReader::with_capacity(1 << 16, file), about.len())
    }

    /// Reads and checks the header of a file of `file_bytes` bytes from its beginning.
    pub fn read(input: impl Read, file_bytes: u64) -> Result<Self, GgufError> {
        let mut scan = Scan::new(input, file_bytes);
        let preamble = scan.preamble()?;
        let metadata = Metadata::scan(&mut scan, preamble.metadata_count)?;
        let alignment = alignment(&metadata)?;
        let mut tensors = tensor::scan(&mut scan, preamble.tensor_count)?;
        // Without tensors there need not be any padding.
        let data_offset = scan.position().next_multiple_of(alignment);
        tensor::place(&mut tensors, alignment, data_offset, file_bytes)?;
        let by_name = tensor::by_name(&tensors)?;
        Ok(Self { version: preamble.version, metadata, tensors, alignment, data_offset, file_bytes, by_name })
    }

    /// The tensor called `name`.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).and_then(|&i| self.tensors.get(i))
    }
}

fn alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    let alignment = metadata.get::<u64>("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() || !(8..=MAX_ALIGNMENT).contains(&alignment) {
        return Err(GgufError::Alignment { value: alignment });
    }
    Ok(alignment)
}

#[cfg(test)]
#[path = "gguf/tests.rs"]
mod tests;
