//! What a gateway learns of a plan from its peers: the manifest, and from a shard file's header the model.

use std::io::Cursor;

use libp2p::PeerId;
use libp2p_stream::Control;
use shard_engine::config::ModelConfig;
use shard_engine::gguf::Gguf;
use shard_wire::frame;
use shard_wire::manifest::{self, Manifest};
use shard_wire::pipeline::{ManifestShard, ManifestSummary};
use thiserror::Error;

use crate::cluster::{ClusterView, ManifestFacts};
use crate::library::manifest_sha256;
use crate::model::{About, Model, ModelError};
use crate::torrent::fetch::{self, FetchError};

/// Bytes of a cached value: the default of `--kv-dtype`, f16.
const KV_BYTES: u64 = 2;

/// A plan, as far as a gateway needs it.
#[derive(Debug)]
pub(super) struct Learned {
    /// What its manifest says.
    pub manifest: ManifestFacts,
    /// The hash of every file that it names.
    pub files: Vec<String>,
    /// Tokenizer, template, context; `None` while nobody serves it.
    pub model: Option<Model>,
}

/// Why a plan could not be learned from a peer.
#[derive(Debug, Error)]
pub(super) enum LearnError {
    /// The peer did not give it.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The manifest does not name the peer's shard.
    #[error("the manifest has no shard {0}")]
    NoShard(u32),
    /// The header is no model's.
    #[error("the header of {name}: {reason}")]
    Header {
        /// The file.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The vocabulary cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Learns the plan of a view from the first of its serving replicas that can tell.
///
/// # Errors
/// What the last of them said; `Ok(None)` where nobody serves yet.
pub(super) async fn learn(control: &mut Control, view: &ClusterView) -> Result<Option<Learned>, LearnError> {
    let Some(plan) = &view.plan else { return Ok(None) };
    let serving = || view.serving().filter(|replica| replica.shard.plan == plan.name);
    // A session fits every stage of its route.
    let contexts = serving().map(|replica| replica.shard.capabilities.context_length);
    let context_length = contexts.filter(|positions| *positions > 0).min();
    let replicas = serving().map(|replica| (replica.peer, replica.shard.shard_id));
    let Some((mut learned, gguf)) = first_of(control, &plan.name, frame::VERSION, replicas).await? else {
        return Ok(None);
    };
    let about = About {
        plan: plan.name.clone(),
        name: plan.model_name.clone(),
        sha256: learned.manifest.model_sha256.clone(),
        context_length,
    };
    learned.model = Some(Model::from_gguf(&gguf, about)?);
    Ok(Some(learned))
}

/// Learns of a plan that nobody serves to this gateway, yet or ever, what its manifest says, from one of those that have
/// its files.
///
/// # Errors
/// What the last of them said; `Ok(None)` where there are none.
pub(super) async fn describe(
    control: &mut Control,
    plan: &str,
    wire: u8,
    seeders: Vec<PeerId>,
) -> Result<Option<Learned>, LearnError> {
    let first_shards = seeders.into_iter().map(|peer| (peer, 0));
    Ok(first_of(control, plan, wire, first_shards).await?.map(|(learned, _)| learned))
}

/// From the first peer that gives the manifest, and the header of the shard that is named with it.
async fn first_of(
    control: &mut Control,
    plan: &str,
    wire: u8,
    peers: impl Iterator<Item = (PeerId, u32)>,
) -> Result<Option<(Learned, Gguf)>, LearnError> {
    let mut result = Ok(None);
    for (peer, shard) in peers {
        match learn_from(control, (peer, shard), plan, wire).await {
            Ok(learned) => return Ok(Some(learned)),
            Err(error) => {
                tracing::debug!(%peer, "the plan could not be learned: {error}");
                result = Err(error);
            }
        }
    }
    result
}

async fn learn_from(
    control: &mut Control,
    (peer, shard): (PeerId, u32),
    plan: &str,
    wire: u8,
) -> Result<(Learned, Gguf), LearnError> {
    let manifest = fetch::manifest(control, peer, plan, wire).await?;
    let name = manifest::shard_name(shard as usize);
    let file = manifest.file(&name).ok_or(LearnError::NoShard(shard))?;
    let header = fetch::header(control, peer, file).await?;
    let wrong = |reason: String| LearnError::Header { name: name.clone(), reason };
    let gguf = Gguf::read(Cursor::new(&header), file.size).map_err(|error| wrong(error.to_string()))?;
    let config = ModelConfig::read(std::slice::from_ref(&gguf)).map_err(|error| wrong(error.to_string()))?;
    let facts = ManifestFacts {
        plan: plan.to_owned(),
        model_sha256: manifest.model_sha256.clone(),
        model_bytes: manifest.model_bytes,
        total_layers: manifest.total_layers,
        summary: summary(&manifest, &config),
    };
    let files = manifest.files.into_iter().map(|file| file.sha256).collect();
    Ok((Learned { manifest: facts, files, model: None }, gguf))
}

fn summary(manifest: &Manifest, config: &ModelConfig) -> ManifestSummary {
    let kv_of_layer = 2 * u64::from(config.head_count_kv) * u64::from(config.head_dim) * KV_BYTES;
    let shards = manifest.files.iter().filter(|file| file.name != manifest::TOKENIZER).enumerate();
    let shard = |(id, file): (usize, &manifest::File)| ManifestShard {
        shard_id: id as u32,
        start: file.start,
        end: file.end,
        weight_bytes: file.tensors.iter().map(|tensor| tensor.size).sum(),
        kv_bytes_per_token: u64::from(file.end - file.start) * kv_of_layer,
    };
    ManifestSummary {
        manifest_sha256: manifest_sha256(manifest),
        layer_starts: manifest.layer_starts.clone(),
        shards: shards.map(shard).collect(),
    }
}
