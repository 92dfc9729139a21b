//! The files of a split model as views of the one model file: nothing is written twice.
//!
//! ```text
//!  shard-1.gguf   | header, made | tensor      | 0 | tensor | …        read_at(offset, buffer)
//!                                   │               │
//!  model.gguf     | … |             ▼ |       | ▼      |               read where they lie
//! ```
//! The manifest is byte-identical to that of [`split`](super::split::split) for the same model and starts.

use std::io;
use std::path::Path;
use std::sync::Arc;

use shard_wire::manifest::Manifest;

use super::hash;
use super::split::cut::{Cut, in_parallel};
use super::split::{OnProgress, Shards, SplitError, Step};

/// A model, its manifest, and a view for every file of the manifest.
#[derive(Clone, Debug)]
pub struct Views {
    /// The manifest.
    pub manifest: Manifest,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their hex SHA-256.
    pub manifest_sha256: String,
    /// In the order of the manifest's files.
    pub files: Vec<View>,
}

impl Views {
    /// Views of the model at `path`. `model_sha256` is its hash where the caller has just hashed it.
    ///
    /// # Errors
    /// As a split that writes nothing.
    pub fn open(
        path: &Path,
        shards: &Shards,
        model_sha256: Option<&str>,
        progress: OnProgress<'_>,
    ) -> Result<Self, SplitError> {
        let cut = Cut::open(path, shards, model_sha256, progress)?;
        let total = cut.bytes();
        let described = in_parallel(cut.files().len(), |i| {
            cut.describe(i, |more| progress(Step::Describe, more, total), |_| Ok(()))
        })?;
        let manifest = cut.manifest(described)?;
        let bytes = manifest.to_bytes()?;
        let manifest_sha256 = hash::sha256(&bytes);
        let cut = Arc::new(cut);
        let files = (0..manifest.files.len()).map(|index| View { cut: Arc::clone(&cut), index }).collect();
        Ok(Self { manifest, bytes, manifest_sha256, files })
    }
}

/// One file that a split would write.
#[derive(Clone, Debug)]
pub struct View {
    cut: Arc<Cut>,
    index: usize,
}

impl View {
    /// Size of the file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.cut.files()[self.index].file_bytes
    }

    /// Fills `buffer` with the file's bytes from `offset` on.
    ///
    /// # Errors
    /// Where the range is not in the file, or the model cannot be read or is no longer what was hashed.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let file = &self.cut.files()[self.index];
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= file.file_bytes);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        // What is in neither header nor tensor.
        buffer.fill(0);
        if offset < file.header_bytes && !buffer.is_empty() {
            let header = self.cut.header(self.index).map_err(io::Error::other)?;
            let part = &header[offset as usize..file.header_bytes.min(end) as usize];
            buffer[..part.len()].copy_from_slice(part);
        }
        let first = file.tensors.partition_point(|tensor| tensor.offset + tensor.bytes <= offset);
        for tensor in file.tensors[first..].iter().take_while(|tensor| tensor.offset < end) {
            let from = tensor.offset.max(offset);
            let to = (tensor.offset + tensor.bytes).min(end);
            let part = &mut buffer[(from - offset) as usize..(to - offset) as usize];
            self.cut.read_unchanged(tensor.part, tensor.part_offset + (from - tensor.offset), part)?;
        }
        Ok(())
    }
}
