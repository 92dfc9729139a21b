//! Arguments of the engine; `shardctl up` hands them on to its shards.

use clap::Args;
use shard_engine::Device;
use shard_wire::contract as c;

use crate::config::{ActivationDtype, EngineConfig, KvDtype, MAX_CONTEXT, Weights};

/// How shards are computed.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Engine")]
pub struct EngineArgs {
    /// What computes the layers: cpu, cuda, cuda:N or metal; a GPU needs a build with that feature
    #[arg(long = c::DEVICE.flag, env = c::DEVICE.env, default_value = c::DEVICE.default, value_name = "DEVICE")]
    device: Device,
    /// How weights lie in memory
    #[arg(long = c::WEIGHTS.flag, env = c::WEIGHTS.env, default_value = c::WEIGHTS.default)]
    weights: Weights,
    /// Type of the key and value cache
    #[arg(long = c::KV_DTYPE.flag, env = c::KV_DTYPE.env, default_value = c::KV_DTYPE.default)]
    kv_dtype: KvDtype,
    /// Type of the activations between shards
    #[arg(long = c::ACTIVATION_DTYPE.flag, env = c::ACTIVATION_DTYPE.env, default_value = c::ACTIVATION_DTYPE.default)]
    activation_dtype: ActivationDtype,
    /// Sessions that a shard holds at a time
    #[arg(long = c::MAX_SESSIONS.flag, env = c::MAX_SESSIONS.env, default_value = c::MAX_SESSIONS.default, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    max_sessions: u16,
    /// Positions of a session, prompt and answer together [default: the model's]
    #[arg(long = c::CONTEXT_LENGTH.flag, env = c::CONTEXT_LENGTH.env, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CONTEXT)))]
    context_length: Option<u32>,
}

impl EngineArgs {
    pub(super) fn resolve(self, threads: Option<u16>) -> EngineConfig {
        EngineConfig {
            threads: threads.map(usize::from),
            device: self.device,
            weights: self.weights,
            kv: self.kv_dtype,
            activations: self.activation_dtype,
            max_sessions: self.max_sessions.into(),
            context: self.context_length,
        }
    }
}
