//! What each program is told: flags and `LLAMA_*` variables, read once, checked, and turned into plain values.
//!
//! ```text
//! args/*.rs (clap, built from shard_wire::contract)  →  Config (here; nothing left to resolve or to doubt)
//! ```

pub mod args;
mod bootstrap;
mod origin;
mod values;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use libp2p::Multiaddr;
use shard_engine::Device;
use shard_wire::layers::LayersError;
use thiserror::Error;

pub use bootstrap::{Bootstrap, BootstrapError};
pub use origin::{OriginConfig, SourceConfig};

use crate::torrent::replicate::Replicate;

/// A name that fits a protocol name, a DNS label's length.
const CLUSTER_NAME_BYTES: usize = 63;
/// Shards of a plan at most; a route's trace has as many entries.
pub const MAX_SHARDS: u32 = 256;
/// Positions of a session at most: no model's file may say more either.
pub const MAX_CONTEXT: u32 = 1 << 24;

/// Which transports a program listens on and dials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// QUIC first, TCP where that fails.
    #[default]
    Dual,
    /// TCP with Noise and Yamux.
    Tcp,
    /// QUIC.
    Quic,
}

impl Transport {
    /// Whether TCP is on.
    pub fn tcp(self) -> bool {
        self != Self::Quic
    }

    /// Whether QUIC is on.
    pub fn quic(self) -> bool {
        self != Self::Tcp
    }
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Form of what a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How weights lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Weights {
    /// Packed where the type has it and memory allows.
    Auto,
    /// Read from the mapped file.
    Map,
    /// Rows interleaved, at the file's size.
    Packed,
}

/// Type of the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KvDtype {
    /// 4 bytes.
    F32,
    /// 2 bytes.
    F16,
}

/// Type of the activations between shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ActivationDtype {
    /// 4 bytes, exact.
    F32,
    /// 2 bytes, 11 bits of precision.
    F16,
    /// 2 bytes, 8 bits of precision.
    Bf16,
}

/// The word that the user types for a value of one of the enums above.
pub fn word<T: ValueEnum>(value: &T) -> String {
    value.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
}

/// Where the cluster secret is kept. It is read when the network starts, and stands in no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file.
    File(PathBuf),
    /// In the variable of [`shard_wire::contract::CLUSTER_SECRET`].
    Variable,
}

/// How a program takes part in the network.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// The cluster.
    pub cluster: String,
    /// What its members know; `None` is an open cluster.
    pub secret: Option<SecretSource>,
    /// What to listen on and dial.
    pub transport: Transport,
    /// The interface to listen on.
    pub listen: IpAddr,
    /// TCP and UDP; 0 is any.
    pub port: u16,
    /// Addresses at which others reach this program.
    pub external: Vec<Multiaddr>,
    /// Entries to the network; empty for the bootstrap itself.
    pub bootstrap: Vec<Bootstrap>,
    /// The key pair, made when it is not there; `None` is a new one for this run.
    pub identity_file: Option<PathBuf>,
}

/// How a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunConfig {
    /// Form of the log.
    pub log: LogFormat,
    /// End, as on SIGTERM, when standard input closes: so a child ends with its parent, however that ended.
    pub until_stdin_closes: bool,
}

/// `server`.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The network.
    pub net: NetConfig,
    /// The model that it gives to nodes, if any.
    pub origin: Option<OriginConfig>,
    /// What whoever started it calls this start of it; empty where nobody does.
    pub incarnation: String,
    /// Where diagnostics are answered.
    pub diagnostics: SocketAddr,
    /// Bytes per second of model files to all peers together.
    pub upload_limit: Option<u64>,
    /// The process.
    pub run: RunConfig,
}

/// How a node fetches model files and gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwarmConfig {
    /// Which files beside those of its shards.
    pub replicate: Replicate,
    /// Bytes that all model files in its folder may have.
    pub storage_limit: Option<u64>,
    /// Bytes per second to all peers together.
    pub upload_limit: Option<u64>,
}

/// `shard_listener`.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// The network.
    pub net: NetConfig,
    /// The shards to serve, ascending; none is a spare.
    pub shard_ids: Vec<u32>,
    /// What the manifest must say.
    pub expected: Expected,
    /// Where shard files and manifest lie.
    pub shards_dir: PathBuf,
    /// Between announcements.
    pub refresh: Duration,
    /// Fetching and giving model files.
    pub swarm: SwarmConfig,
    /// The engine.
    pub engine: EngineConfig,
    /// Where diagnostics are answered.
    pub diagnostics: Option<SocketAddr>,
    /// The process.
    pub run: RunConfig,
}

/// What the user says of the model; the manifest is the truth, and a difference is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Short name of the plan.
    pub plan: Option<String>,
    /// Shards that the plan must have.
    pub shards: Vec<u32>,
    /// Shards of the plan.
    pub total_shards: Option<u32>,
    /// Layers of the model.
    pub total_layers: Option<u32>,
    /// The model's name.
    pub model_name: Option<String>,
}

/// How shards are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// `None`: the cores that this process may use.
    pub threads: Option<usize>,
    /// What computes the layers.
    pub device: Device,
    /// How weights lie in memory.
    pub weights: Weights,
    /// Type of the KV cache.
    pub kv: KvDtype,
    /// Type of the activations between shards.
    pub activations: ActivationDtype,
    /// Sessions at a time.
    pub max_sessions: usize,
    /// Positions of a session; `None`: the model's.
    pub context: Option<u32>,
}

/// `web_server`.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The network.
    pub net: NetConfig,
    /// Peers can dial it; else it only dials.
    pub listens: bool,
    /// Where the API is answered.
    pub http: SocketAddr,
    /// API keys of clients, one per line.
    pub api_keys_file: Option<PathBuf>,
    /// A key that is good for the pipeline object only.
    pub operator_key_file: Option<PathBuf>,
    /// Prompts are told that the cluster is suspended.
    pub suspended: bool,
    /// How long a lost shard is waited for.
    pub recovery: Duration,
    /// The process.
    pub run: RunConfig,
}

/// Flags that are each right and together wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A shard twice.
    #[error("--shard-id names shard {0} twice")]
    ShardTwice(u32),
    /// A way to cut that no model has.
    #[error("--layers {starts}: {source}", starts = starts.iter().map(u32::to_string).collect::<Vec<_>>().join(","))]
    Layers {
        /// As given.
        starts: Vec<u32>,
        /// What does not fit.
        source: LayersError,
    },
    /// Two ways to cut that differ.
    #[error("--shards {shards} does not fit --layers, which names {starts} shards")]
    ShardsAndLayers {
        /// By `--shards`.
        shards: u16,
        /// By `--layers`.
        starts: usize,
    },
    /// A shard that the plan cannot have.
    #[error("--shard-id {shard} does not exist among --total-shards {total} (0 to {last})", last = total - 1)]
    NoSuchShard {
        /// The shard.
        shard: u32,
        /// Shards of the plan.
        total: u32,
    },
}
