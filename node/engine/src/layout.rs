//! Which bytes of a model go into which file when it is cut into shards. Pure: headers in, headers and ranges out.
//!
//! Every shard is a GGUF file of its own: the model's metadata byte for byte, five keys that say which shard it is,
//! and the tensors it needs in the order of the model file: its layers', the embedding in the first, output norm
//! and head in the last (a tied head is the embedding, then in both), the divisors of rope frequencies in all.
//! `tokenizer.gguf` has the vocabulary and the chat template, and no tensors.
//!
//! `split` writes these files; the origin serves them as views: header, then ranges of the model file.

use std::ops::Range;

use crate::config::{self, ConfigError, ModelConfig, OUTPUT, OUTPUT_NORM, ROPE_FREQS, TOKEN_EMBD};
use crate::gguf::{Gguf, GgufError, Header, HeaderWriter};

/// Where every byte of the files of a split model comes from.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The shards in order, then the tokenizer.
    pub files: Vec<FileLayout>,
    shard_count: u32,
}

/// Where every byte of one file comes from. Bytes that are neither header nor tensor are zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLayout {
    /// What it holds.
    pub kind: FileKind,
    /// Size of the header, padding included.
    pub header_bytes: u64,
    /// In the order of the file.
    pub tensors: Vec<PlacedTensor>,
    /// Size of the file.
    pub file_bytes: u64,
}

/// What a file of a split model holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Layers.
    Shard {
        /// Index of the shard.
        id: u32,
        /// Its layers.
        layers: Range<u32>,
    },
    /// Vocabulary and chat template.
    Tokenizer,
}

/// A tensor, here and in the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedTensor {
    /// Its name in both.
    pub name: String,
    /// First byte in this file.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
    /// Index of the model's part that has it.
    pub part: usize,
    /// First byte in that part.
    pub part_offset: u64,
}

/// Why a model cannot be cut like that.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The file is no model that the engine can run.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file was already cut.
    #[error("this file is shard {id} of {count}: only a whole model can be split")]
    AlreadyShard {
        /// `shardcluster.shard_id` in the file.
        id: u32,
        /// `shardcluster.shard_count` in the file.
        count: u32,
    },
    /// Ranges do not follow one another from the first layer to the last.
    #[error("the ranges {ranges:?} do not cover the {block_count} layers of the model once, in order")]
    Ranges {
        /// As given.
        ranges: Vec<Range<u32>>,
        /// Layers of the model.
        block_count: u32,
    },
}

impl Layout {
    /// Cuts the model in `parts` (all of them, in order) into shards of the layers `ranges`.
    pub fn new(parts: &[Gguf], ranges: &[Range<u32>]) -> Result<Self, LayoutError> {
        let config = ModelConfig::read(parts)?;
        if let Some(shard) = &config.shard {
            return Err(LayoutError::AlreadyShard { id: shard.id, count: shard.count });
        }
        check_ranges(ranges, config.block_count)?;
        let mut layout = Self { files: Vec::new(), shard_count: ranges.len() as u32 };
        for (id, layers) in (0..).zip(ranges) {
            let kind = FileKind::Shard { id, layers: layers.clone() };
            layout.files.push(layout.place(parts, kind, |name| is_needed(name, layers, &config))?);
        }
        layout.files.push(layout.place(parts, FileKind::Tokenizer, |_| false)?);
        Ok(layout)
    }

    /// The first [`FileLayout::header_bytes`] bytes of `file`; `model_sha256` is the model's, in hex.
    ///
    /// Made anew at every call: a header has megabytes where the vocabulary is large, and there may be many files.
    pub fn header(
        &self,
        parts: &[Gguf],
        file: &FileLayout,
        model_sha256: &str,
    ) -> Result<Vec<u8>, LayoutError> {
        let names: Vec<&str> = file.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        Ok(self.write_header(parts, &file.kind, &names, model_sha256)?.bytes)
    }

    fn place(
        &self,
        parts: &[Gguf],
        kind: FileKind,
        needed: impl Fn(&str) -> bool,
    ) -> Result<FileLayout, LayoutError> {
        let mut tensors: Vec<PlacedTensor> = parts
            .iter()
            .enumerate()
            .flat_map(|(part, gguf)| gguf.tensors.iter().map(move |tensor| (part, tensor)))
            .filter(|(_, tensor)| needed(&tensor.name))
            .map(|(part, tensor)| PlacedTensor {
                name: tensor.name.clone(),
                offset: 0,
                bytes: tensor.bytes,
                part,
                part_offset: tensor.offset,
            })
            .collect();
        let names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        // A hash of any value has the same length, so the place of everything is known before the hash is.
        let header = self.write_header(parts, &kind, &names, &"0".repeat(64))?;
        for (tensor, &offset) in tensors.iter_mut().zip(&header.offsets) {
            tensor.offset = offset;
        }
        Ok(FileLayout {
            kind,
            header_bytes: header.bytes.len() as u64,
            tensors,
            file_bytes: header.file_bytes,
        })
    }

    fn write_header(
        &self,
        parts: &[Gguf],
        kind: &FileKind,
        tensors: &[&str],
        model_sha256: &str,
    ) -> Result<Header, LayoutError> {
        let first = parts.first().ok_or(ConfigError::NoFile)?;
        let mut writer = HeaderWriter::new(first.alignment);
        for key in first.metadata.keys().filter(|key| belongs(key, kind)) {
            writer.copy(&first.metadata, key);
        }
        if let FileKind::Shard { id, layers } = kind {
            writer
                .put(config::SHARD_ID, *id)
                .put(config::SHARD_COUNT, self.shard_count)
                .put(config::LAYER_START, layers.start)
                .put(config::LAYER_END, layers.end)
                .put(config::MODEL_SHA256, model_sha256);
        }
        for tensor in tensors.iter().filter_map(|name| parts.iter().find_map(|part| part.tensor(name))) {
            writer.tensor(&tensor.name, &tensor.dims, tensor.ty).map_err(gguf)?;
        }
        Ok(writer.finish())
    }
}

fn gguf(error: GgufError) -> LayoutError {
    LayoutError::Config(error.into())
}

/// The metadata key goes into files of this kind. What says that the model came in parts is no longer true.
fn belongs(key: &str, kind: &FileKind) -> bool {
    match kind {
        FileKind::Shard { .. } => !key.starts_with("split."),
        FileKind::Tokenizer => {
            key.starts_with("tokenizer.") || matches!(key, "general.architecture" | "general.name")
        }
    }
}

/// A shard of these layers needs the tensor.
fn is_needed(name: &str, layers: &Range<u32>, config: &ModelConfig) -> bool {
    let last = layers.end == config.block_count;
    match name {
        TOKEN_EMBD => layers.start == 0 || (last && config.tied_head),
        OUTPUT_NORM | OUTPUT => last,
        ROPE_FREQS => true,
        _ => layer_of(name).is_some_and(|layer| layers.contains(&layer)),
    }
}

/// 12 for `blk.12.attn_q.weight`; `None` for tensors of no layer.
#[must_use]
pub fn layer_of(tensor: &str) -> Option<u32> {
    tensor.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

fn check_ranges(ranges: &[Range<u32>], block_count: u32) -> Result<(), LayoutError> {
    let starts = ranges.iter().map(|range| range.start);
    let ends = [0].into_iter().chain(ranges.iter().map(|range| range.end));
    let follow = starts.eq(ends.take(ranges.len()));
    let cover = ranges.last().is_some_and(|last| last.end == block_count);
    if !follow || !cover || ranges.iter().any(Range::is_empty) {
        return Err(LayoutError::Ranges { ranges: ranges.to_vec(), block_count });
    }
    Ok(())
}
