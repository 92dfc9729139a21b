//! What is in a model, a shard, a tokenizer or a manifest: one report, as JSON or as text.

mod text;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use shard_engine::config::ModelConfig;
use shard_engine::gguf::{Gguf, TensorInfo};
use shard_wire::layers::LayerRange;
use shard_wire::manifest::{self, Manifest, ManifestError};

use super::hash;
use super::model::{Model, ModelError};

/// What a file is, and what it says.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Report {
    /// A whole model, of one file or several.
    Model(GgufReport),
    /// Some layers of one.
    Shard(GgufReport),
    /// A vocabulary without weights.
    Tokenizer(GgufReport),
    /// A GGUF file that no part of this system can run; `problem` says why.
    Other(GgufReport),
    /// The list of the files of a split model.
    Manifest(ManifestReport),
}

/// What a GGUF file says.
#[derive(Clone, Debug, Serialize)]
pub struct GgufReport {
    /// All parts.
    pub paths: Vec<PathBuf>,
    /// Of all parts.
    pub file_bytes: u64,
    /// Of GGUF.
    pub gguf_version: u32,
    /// Hyperparameters; `None` where the file has none that are right.
    pub model: Option<ModelReport>,
    /// Place in the model; `None` where the file is not a shard.
    pub shard: Option<ShardReport>,
    /// Values in all tensors.
    pub parameters: u64,
    /// Tensors and bytes by type.
    pub types: BTreeMap<&'static str, TypeReport>,
    /// Values by key; arrays and long texts are shortened.
    pub metadata: Vec<(String, String)>,
    /// In the order of the file, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensors: Option<Vec<TensorReport>>,
    /// Why the engine cannot run it.
    pub problem: Option<String>,
}

/// Hyperparameters of a model.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the names of GGUF")]
pub struct ModelReport {
    pub name: String,
    pub total_layers: u32,
    pub layers: LayerRange,
    pub embedding_length: u32,
    pub feed_forward_length: u32,
    pub head_count: u32,
    pub head_count_kv: u32,
    pub head_dim: u32,
    pub context_length: u32,
    pub vocab_size: u32,
    /// `None` where the head is not in the file.
    pub tied_head: Option<bool>,
    /// Of this file's layers, with f16 keys and values.
    pub kv_bytes_per_token: u64,
}

/// Place of a shard in its model.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the names of the metadata keys")]
pub struct ShardReport {
    pub shard_id: u32,
    pub shard_count: u32,
    pub model_sha256: String,
}

/// How much of a file is of one type.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct TypeReport {
    pub tensors: u64,
    pub bytes: u64,
}

/// One tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: &'static str,
    /// The length of a row first.
    pub dims: Vec<u64>,
    /// From the beginning of its file.
    pub offset: u64,
    /// Size.
    pub bytes: u64,
}

/// What a manifest says.
#[derive(Clone, Debug, Serialize)]
pub struct ManifestReport {
    /// The file.
    pub path: PathBuf,
    /// The name of the manifest: hex SHA-256 of its bytes.
    pub manifest_sha256: String,
    /// Hex SHA-256 of the model.
    pub model_sha256: String,
    /// Size of the model.
    pub model_bytes: u64,
    /// Layers of the model.
    pub total_layers: u32,
    /// First layer of every shard.
    pub layer_starts: Vec<u32>,
    /// The shards in order, then the tokenizer.
    pub files: Vec<FileReport>,
}

/// One file of a manifest.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Hex SHA-256.
    pub sha256: String,
    /// Its layers; empty for the tokenizer.
    pub layers: LayerRange,
    /// How many.
    pub pieces: usize,
    /// How many.
    pub tensor_count: usize,
    /// Names, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensors: Option<Vec<String>>,
}

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The file system refused.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The header is wrong.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// It begins like a manifest but is none.
    #[error("{path}: {source}", path = path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
}

/// Looks at the file at `path`; lists every tensor where `with_tensors`.
pub fn inspect(path: &Path, with_tensors: bool) -> Result<Report, InspectError> {
    if let Some(bytes) = manifest_bytes(path)? {
        let failed = |source| InspectError::Manifest { path: path.to_owned(), source };
        let manifest = Manifest::from_bytes(&bytes).map_err(failed)?;
        return Ok(Report::Manifest(ManifestReport::new(path, &bytes, manifest, with_tensors)));
    }
    match Model::open(path) {
        Ok(model) => {
            let report = GgufReport::new(&model.paths, &model.parts, Ok(&model.config), with_tensors);
            Ok(if model.config.shard.is_some() { Report::Shard(report) } else { Report::Model(report) })
        }
        Err(error @ ModelError::Header { .. }) => Err(error.into()),
        // The header is sound, so there is something to show.
        Err(error) => {
            let header = |source| ModelError::Header { path: path.to_owned(), source };
            let gguf = Gguf::open(path).map_err(header)?;
            let is_tokenizer = gguf.tensors.is_empty()
                && gguf.metadata.contains("tokenizer.ggml.tokens")
                && !gguf.metadata.contains("llama.block_count");
            let problem = if is_tokenizer { String::new() } else { error.to_string() };
            let report = GgufReport::new(&[path.to_owned()], &[gguf], Err(problem), with_tensors);
            Ok(if is_tokenizer { Report::Tokenizer(report) } else { Report::Other(report) })
        }
    }
}

/// The file's bytes if it begins like JSON; a model has gigabytes and is not read.
fn manifest_bytes(path: &Path) -> Result<Option<Vec<u8>>, InspectError> {
    let failed = |source| InspectError::Read { path: path.to_owned(), source };
    // A pipe would be waited for; `Gguf::open` names what it is.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Ok(None);
    }
    let mut file = File::open(path).map_err(failed)?.take(manifest::MAX_BYTES as u64 + 1);
    let mut bytes = Vec::new();
    file.by_ref().take(1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes != b"{" {
        return Ok(None);
    }
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

impl Report {
    /// Why the engine cannot run the file.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Other(report) => report.problem.as_deref(),
            _ => None,
        }
    }
}

impl GgufReport {
    fn new(
        paths: &[PathBuf],
        parts: &[Gguf],
        config: Result<&ModelConfig, String>,
        with_tensors: bool,
    ) -> Self {
        let all = || parts.iter().flat_map(|part| &part.tensors);
        let mut types: BTreeMap<&'static str, TypeReport> = BTreeMap::new();
        for tensor in all() {
            let sum = types.entry(tensor.ty.name()).or_default();
            sum.tensors += 1;
            sum.bytes += tensor.bytes;
        }
        let metadata = parts.first().map(|part| &part.metadata);
        let values = metadata.iter().flat_map(|metadata| {
            metadata.keys().filter_map(|key| Some((key.to_owned(), metadata.value(key)?.to_string())))
        });
        Self {
            paths: paths.to_vec(),
            file_bytes: parts.iter().map(|part| part.file_bytes).sum(),
            gguf_version: parts.first().map_or(0, |part| part.version),
            model: config.as_ref().ok().map(|config| ModelReport::new(config)),
            shard: config.as_ref().ok().and_then(|config| ShardReport::new(config)),
            parameters: all().map(TensorInfo::values).sum(),
            types,
            metadata: values.collect(),
            tensors: with_tensors.then(|| all().map(TensorReport::new).collect()),
            problem: config.err().filter(|problem| !problem.is_empty()),
        }
    }
}

impl ModelReport {
    fn new(config: &ModelConfig) -> Self {
        let layers = LayerRange { start: config.layers.start, end: config.layers.end };
        let heads = u64::from(config.head_count_kv) * u64::from(config.head_dim);
        Self {
            name: config.name.clone(),
            total_layers: config.block_count,
            layers,
            embedding_length: config.embedding_length,
            feed_forward_length: config.feed_forward_length,
            head_count: config.head_count,
            head_count_kv: config.head_count_kv,
            head_dim: config.head_dim,
            context_length: config.context_length,
            vocab_size: config.vocab_size,
            tied_head: config.has_last_layer().then_some(config.tied_head),
            // A key and a value of two bytes each.
            kv_bytes_per_token: u64::from(layers.len()) * heads * 4,
        }
    }
}

impl ShardReport {
    fn new(config: &ModelConfig) -> Option<Self> {
        let shard = config.shard.as_ref()?;
        let model_sha256 = shard.model_sha256.clone();
        Some(Self { shard_id: shard.id, shard_count: shard.count, model_sha256 })
    }
}

impl TensorReport {
    fn new(tensor: &TensorInfo) -> Self {
        Self {
            name: tensor.name.clone(),
            ty: tensor.ty.name(),
            dims: tensor.dims.clone(),
            offset: tensor.offset,
            bytes: tensor.bytes,
        }
    }
}

impl ManifestReport {
    fn new(path: &Path, bytes: &[u8], manifest: Manifest, with_tensors: bool) -> Self {
        let file = |file: manifest::File| FileReport {
            layers: file.layers(),
            pieces: file.pieces.len(),
            tensor_count: file.tensors.len(),
            tensors: with_tensors.then(|| file.tensors.into_iter().map(|tensor| tensor.name).collect()),
            name: file.name,
            size: file.size,
            sha256: file.sha256,
        };
        Self {
            path: path.to_owned(),
            manifest_sha256: hash::sha256(bytes),
            model_sha256: manifest.model_sha256,
            model_bytes: manifest.model_bytes,
            total_layers: manifest.total_layers,
            layer_starts: manifest.layer_starts,
            files: manifest.files.into_iter().map(file).collect(),
        }
    }
}
