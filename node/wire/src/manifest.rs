//! The manifest: the files of a split model and the pieces that the swarm moves them in.
//!
//! ```text
//! file:    | header            | tensor             | 0 | tensor    | 0 | …      0: zeros up to the alignment
//! pieces:  | one, of any size  | 1 MiB | 1 MiB |rest|   | 1 MiB|rest|
//! ```
//! Pieces are cut inside tensors, each from its own start, so that files which share a tensor share its pieces
//! whatever lies around it. The zeros between tensors are in no piece; the file's SHA-256 covers them.
//!
//! The bytes are canonical: JSON without whitespace, keys in the order of the structs. Their SHA-256 names the
//! manifest, so [`Manifest::from_bytes`] takes no others.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::json::brief;
use crate::layers::{LayerRange, LayersError, ranges};

/// The format that this is.
pub const VERSION: u32 = 1;
/// Every piece of a tensor but its last.
pub const PIECE_SIZE: u64 = 1 << 20;
/// A model of 400 GB has 400,000 pieces of about 110 bytes each.
pub const MAX_BYTES: usize = 64 << 20;
/// Of a file's header: the largest vocabularies take 12 MiB.
pub const MAX_HEADER: u64 = 64 << 20;
/// Of a file.
const MAX_FILE: u64 = 1 << 48;
/// ggml's limit.
const MAX_TENSOR_NAME: usize = 64;
/// The name of the file that the manifest itself is kept in.
pub const FILE_NAME: &str = "manifest.json";
/// The name of the file with the vocabulary and the chat template.
pub const TOKENIZER: &str = "tokenizer.gguf";

/// All files of a split model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// Hex SHA-256 of the model file; of a multi-part one, of its parts one after the other.
    pub model_sha256: String,
    /// Size of the model file, or of all its parts.
    pub model_bytes: u64,
    /// Layers of the model.
    pub total_layers: u32,
    /// First layer of every shard.
    pub layer_starts: Vec<u32>,
    /// [`PIECE_SIZE`].
    pub piece_size: u64,
    /// The shards in order, then the tokenizer.
    pub files: Vec<File>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// `shard-{i}.gguf` or [`TOKENIZER`].
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Hex SHA-256 of the file.
    pub sha256: String,
    /// First layer; 0 for the tokenizer.
    pub start: u32,
    /// One past the last layer; 0 for the tokenizer.
    pub end: u32,
    /// In the order of the file.
    pub tensors: Vec<Tensor>,
    /// In the order of the file.
    pub pieces: Vec<Piece>,
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tensor {
    /// Its name in the model.
    pub name: String,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Hex SHA-256 of its bytes.
    pub sha256: String,
}

/// One piece of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// First byte in the file.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Hex SHA-256 of its bytes.
    pub sha256: String,
}

/// Why bytes are not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Beyond [`MAX_BYTES`].
    #[error("the manifest has {bytes} bytes: more than the limit of {MAX_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not JSON of this shape.
    #[error("the manifest cannot be read: {}", brief(.0))]
    Json(#[source] serde_json::Error),
    /// Another version.
    #[error("the manifest has version {found}: only {VERSION} is supported")]
    Version {
        /// The version in it.
        found: u32,
    },
    /// Whitespace, or keys in another order.
    #[error("the manifest is not in its canonical form (keys in order, no whitespace)")]
    NotCanonical,
    /// Layers and starts do not fit.
    #[error("the manifest's layer starts are wrong: {0}")]
    Layers(#[source] LayersError),
    /// A value cannot be.
    #[error("the manifest's {what} is {value}: it must be {must}")]
    Value {
        /// Which value, and of which file, tensor or piece.
        what: String,
        /// The value.
        value: String,
        /// What would be right.
        must: String,
    },
}

impl ManifestError {
    fn value(what: impl Into<String>, value: &dyn std::fmt::Display, must: impl Into<String>) -> Self {
        Self::Value { what: what.into(), value: value.to_string(), must: must.into() }
    }
}

impl Manifest {
    /// The canonical bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        serde_json::to_vec(self).map_err(ManifestError::Json)
    }

    /// Reads and checks a manifest: what it returns has the files of a whole model, with pieces as they must be cut.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        if bytes.len() > MAX_BYTES {
            return Err(ManifestError::TooLarge { bytes: bytes.len() });
        }
        // First, so that a later version is named as such and not by its unknown keys.
        let Version { version } = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        if version != VERSION {
            return Err(ManifestError::Version { found: version });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        manifest.check()?;
        if manifest.to_bytes()? != bytes {
            return Err(ManifestError::NotCanonical);
        }
        Ok(manifest)
    }

    /// The layers of every shard.
    #[must_use]
    pub fn shards(&self) -> Vec<LayerRange> {
        self.files.iter().map(File::layers).filter(|layers| !layers.is_empty()).collect()
    }

    /// The file called `name`.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&File> {
        self.files.iter().find(|file| file.name == name)
    }

    fn check(&self) -> Result<(), ManifestError> {
        if self.piece_size != PIECE_SIZE {
            return Err(ManifestError::value("piece_size", &self.piece_size, PIECE_SIZE.to_string()));
        }
        check_sha256(|| "model_sha256".to_owned(), &self.model_sha256)?;
        let layers = ranges(&self.layer_starts, self.total_layers).map_err(ManifestError::Layers)?;
        let count = layers.len() + 1;
        if self.files.len() != count {
            let must = format!("{count}: {} shards and {TOKENIZER}", layers.len());
            return Err(ManifestError::value("number of files", &self.files.len(), must));
        }
        let expected = layers.into_iter().enumerate().map(|(i, layers)| (shard_name(i), layers));
        let expected = expected.chain([(TOKENIZER.to_owned(), LayerRange::default())]);
        for (file, (name, layers)) in self.files.iter().zip(expected) {
            // Whole names and nothing else: a name from a peer is never a path.
            if file.name != name {
                let value = quote(&file.name);
                return Err(ManifestError::value("file name", &value, format!("{name:?}")));
            }
            if file.layers() != layers {
                return Err(ManifestError::value(
                    format!("layer range of {name}"),
                    &file.layers(),
                    layers.to_string(),
                ));
            }
            file.check()?;
        }
        Ok(())
    }
}

/// The name of shard `id`'s file.
#[must_use]
pub fn shard_name(id: usize) -> String {
    format!("shard-{id}.gguf")
}

/// Offset and size of every piece of a file: its header, then its tensors, given by offset and size.
pub fn cut(header: u64, tensors: impl IntoIterator<Item = (u64, u64)>) -> impl Iterator<Item = (u64, u64)> {
    let inside = tensors.into_iter().flat_map(|(offset, size)| cut_tensor(offset, size));
    [(0, header)].into_iter().chain(inside)
}

/// Offset and size of every piece of the tensor that begins at `offset`.
pub fn cut_tensor(offset: u64, size: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..size.div_ceil(PIECE_SIZE)).map(move |i| {
        let begin = i * PIECE_SIZE;
        (offset + begin, PIECE_SIZE.min(size - begin))
    })
}

impl File {
    /// Its layers; empty for the tokenizer.
    #[must_use]
    pub fn layers(&self) -> LayerRange {
        LayerRange { start: self.start, end: self.end }
    }

    /// Bytes before the first tensor.
    #[must_use]
    pub fn header_bytes(&self) -> u64 {
        self.tensors.first().map_or(self.size, |tensor| tensor.offset)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let of = |what: &str| format!("{what} of {}", self.name);
        check_sha256(|| of("sha256"), &self.sha256)?;
        let header = self.header_bytes();
        if header == 0 || header > MAX_HEADER {
            return Err(ManifestError::value(of("header size"), &header, format!("1 to {MAX_HEADER}")));
        }
        // So that no sum below can overflow.
        if self.size > MAX_FILE {
            return Err(ManifestError::value(of("size"), &self.size, format!("at most {MAX_FILE}")));
        }
        let mut end = header;
        let mut names = HashSet::new();
        for tensor in &self.tensors {
            tensor.check(self, end)?;
            if !names.insert(&tensor.name) {
                return Err(ManifestError::value(
                    of("tensor name"),
                    &quote(&tensor.name),
                    "different from the others",
                ));
            }
            end = tensor.offset + tensor.size;
        }
        // Padding only: a file cannot claim more than its pieces hold.
        if !(end..end + PIECE_SIZE).contains(&self.size) {
            return Err(ManifestError::value(
                of("size"),
                &self.size,
                format!("its tensors' end at {end}, padded"),
            ));
        }
        self.check_pieces(header)
    }

    /// Pieces lie exactly where [`cut`] puts them.
    fn check_pieces(&self, header: u64) -> Result<(), ManifestError> {
        let mut expected = cut(header, self.tensors.iter().map(|tensor| (tensor.offset, tensor.size)));
        for (i, piece) in self.pieces.iter().enumerate() {
            let what = |what: &str| format!("{what} of piece {i} of {}", self.name);
            check_sha256(|| what("sha256"), &piece.sha256)?;
            let must = expected.next();
            if must != Some((piece.offset, piece.size)) {
                let value = format!("{}+{}", piece.offset, piece.size);
                let must = must.map_or("absent".to_owned(), |(offset, size)| format!("{offset}+{size}"));
                return Err(ManifestError::value(what("place"), &value, must));
            }
        }
        if let Some((offset, size)) = expected.next() {
            let what = format!("number of pieces of {}", self.name);
            return Err(ManifestError::value(
                what,
                &self.pieces.len(),
                format!("higher: {offset}+{size} is in none"),
            ));
        }
        Ok(())
    }
}

impl Tensor {
    /// `end` is where the tensor before it ends; gaps are padding.
    fn check(&self, file: &File, end: u64) -> Result<(), ManifestError> {
        let of = |what: &str| format!("{what} of tensor {} of {}", quote(&self.name), file.name);
        if self.name.is_empty() || self.name.len() > MAX_TENSOR_NAME {
            return Err(ManifestError::value(of("name"), &self.name.len(), "1 to 64 bytes long"));
        }
        check_sha256(|| of("sha256"), &self.sha256)?;
        if self.size == 0 || self.size > file.size {
            return Err(ManifestError::value(
                of("size"),
                &self.size,
                format!("1 to the file's {}", file.size),
            ));
        }
        if !(end..end + PIECE_SIZE).contains(&self.offset) {
            return Err(ManifestError::value(
                of("offset"),
                &self.offset,
                format!("at or a little above {end}"),
            ));
        }
        if self.offset + self.size > file.size {
            return Err(ManifestError::value(
                of("end"),
                &(self.offset + self.size),
                format!("in the file's {}", file.size),
            ));
        }
        Ok(())
    }
}

fn check_sha256(what: impl Fn() -> String, text: &str) -> Result<(), ManifestError> {
    if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(());
    }
    Err(ManifestError::value(what(), &quote(text), "64 lower-case hexadecimal digits"))
}

/// A peer's text may be as long as the manifest.
fn quote(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
