//! A shard from its file to the engine: verified, loaded, described for the announcement. Each step runs on a thread of
//! its own: they read every byte.

use std::path::Path;
use std::sync::Arc;

use shard_engine::config::ModelConfig;
use shard_engine::{Device, KvDtype, LoadError, LoadOptions, ShardModel, Weights};
use shard_wire::announce::{Capabilities, ReplicaState, ShardInfo};
use shard_wire::frame::Dtype;
use shard_wire::layers::LayerRange;
use thiserror::Error;

use crate::config::{self, ActivationDtype, EngineConfig};
use crate::library::{Library, LibraryError, Verified};
use crate::ring::stage::table::Served;
use crate::ring::stage::worker::Model;

/// Why a shard cannot be served.
#[derive(Debug, Error)]
pub enum LoadShardError {
    /// Its file cannot be used.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// Its weights cannot be loaded.
    #[error("{path}: {source}")]
    Engine {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: LoadError,
    },
    /// The thread that loaded it ended.
    #[error("the thread that loads shard {0} has ended")]
    Thread(u32),
}

/// A shard that is ready for the engine thread.
pub struct Loaded {
    /// Its file.
    pub file: Verified,
    /// Its weights.
    pub model: Box<dyn Model>,
    /// What the user should know about them.
    pub warnings: Vec<String>,
    /// How it stands in a route.
    pub served: Served,
    /// How it is announced.
    pub info: ShardInfo,
}

/// Verifies the file of a shard. `progress` gets bytes hashed and in all.
///
/// # Errors
/// Where it is missing or wrong.
pub async fn verify(
    library: Arc<Library>,
    shard: u32,
    mut progress: impl FnMut(u64, u64) + Send + 'static,
) -> Result<Verified, LoadShardError> {
    let work = move || Ok(library.verify_shard(shard, &mut progress)?);
    tokio::task::spawn_blocking(work).await.map_err(|_| LoadShardError::Thread(shard))?
}

/// Loads a verified shard. `progress` gets bytes loaded and in all.
///
/// # Errors
/// Where its weights cannot be used.
pub async fn load(
    library: Arc<Library>,
    shard: u32,
    file: Verified,
    engine: EngineConfig,
    progress: impl FnMut(u64, u64) + Send + 'static,
) -> Result<Loaded, LoadShardError> {
    let work = move || load_now(&library, shard, file, engine, progress);
    tokio::task::spawn_blocking(work).await.map_err(|_| LoadShardError::Thread(shard))?
}

/// How a shard is announced that is not loaded. `library` is the plan's, where it is known.
pub fn unloaded(
    library: Option<&Library>,
    shard: u32,
    state: ReplicaState,
    engine: &EngineConfig,
) -> ShardInfo {
    let file = library.and_then(|library| Some((library, library.file(shard).ok()?)));
    ShardInfo {
        state,
        shard_id: shard,
        total_shards: file.map_or(0, |(library, _)| library.shard_count()),
        total_layers: file.map_or(0, |(library, _)| library.manifest.total_layers),
        layers: file.map_or_else(LayerRange::default, |(_, file)| file.layers()),
        plan: file.map_or_else(String::new, |(library, _)| library.plan.clone()),
        model_name: String::new(),
        model_sha256: file.map_or_else(String::new, |(library, _)| library.manifest.model_sha256.clone()),
        download: None,
        capabilities: capabilities(engine),
    }
}

/// What the machine can do for a shard.
pub fn capabilities(engine: &EngineConfig) -> Capabilities {
    Capabilities {
        shard_loaded: false,
        memory_mb: memory_mb(),
        cpu_cores: options(*engine).threads as u32,
        gpu_available: engine.device != Device::Cpu,
        max_sessions: engine.max_sessions as u32,
        context_length: 0,
    }
}

fn load_now(
    library: &Library,
    shard: u32,
    file: Verified,
    engine: EngineConfig,
    mut progress: impl FnMut(u64, u64),
) -> Result<Loaded, LoadShardError> {
    let Weighed { model, mut warnings, config, context_length } =
        weigh(&file.path, engine.device, &options(engine), &mut progress)
            .map_err(|source| LoadShardError::Engine { path: file.path.clone(), source })?;
    if let Some(asked) = engine.context.filter(|asked| *asked as usize > context_length) {
        warnings
            .push(format!("--context-length {asked} is more than the model's {context_length}, which holds"));
    }
    let layers = LayerRange { start: config.layers.start, end: config.layers.end };
    let served = Served {
        plan: library.plan.clone(),
        width: config.embedding_length,
        context: context_length as u32,
        first: config.has_first_layer(),
        last: config.has_last_layer(),
    };
    let info = ShardInfo {
        layers,
        model_name: file.name.clone(),
        capabilities: Capabilities {
            shard_loaded: true,
            context_length: context_length as u32,
            ..capabilities(&engine)
        },
        ..unloaded(Some(library), shard, ReplicaState::Ready, &engine)
    };
    Ok(Loaded { file, model, warnings, served, info })
}

/// Weights in place, and what they turned out to be.
struct Weighed {
    model: Box<dyn Model>,
    warnings: Vec<String>,
    config: ModelConfig,
    context_length: usize,
}

/// Our kernels on the processor, candle on any other device.
fn weigh(
    path: &Path,
    device: Device,
    options: &LoadOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Weighed, LoadError> {
    match device {
        Device::Cpu => {
            let model = ShardModel::load(path, options, progress)?;
            let (config, context_length) = (model.config().clone(), model.context_length());
            Ok(Weighed { warnings: model.warnings(), config, context_length, model: Box::new(model) })
        }
        #[cfg(feature = "candle")]
        Device::Cuda(_) | Device::Metal => {
            let model = shard_engine::DeviceModel::load(path, None, device, options, progress)?;
            let (config, context_length) = (model.config().clone(), model.context_length());
            Ok(Weighed { warnings: Vec::new(), config, context_length, model: Box::new(model) })
        }
    }
}

fn options(engine: EngineConfig) -> LoadOptions {
    let defaults = LoadOptions::default();
    LoadOptions {
        threads: engine.threads.unwrap_or(defaults.threads),
        weights: match engine.weights {
            config::Weights::Auto => Weights::Auto,
            config::Weights::Map => Weights::Map,
            config::Weights::Packed => Weights::Packed,
        },
        kv_dtype: match engine.kv {
            config::KvDtype::F32 => KvDtype::F32,
            config::KvDtype::F16 => KvDtype::F16,
        },
        context_length: engine.context.map(|positions| positions as usize),
    }
}

/// The type in which hidden states leave this node.
pub fn activations(dtype: ActivationDtype) -> Dtype {
    match dtype {
        ActivationDtype::F32 => Dtype::F32,
        ActivationDtype::F16 => Dtype::F16,
        ActivationDtype::Bf16 => Dtype::Bf16,
    }
}

/// Memory of the machine in MiB; 0 where the system does not tell.
fn memory_mb() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}
