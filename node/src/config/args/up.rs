//! Arguments of `shardctl up`.

use std::path::PathBuf;

use clap::Args;
use shard_wire::contract as c;

use super::{AskArgs, EngineArgs};
use crate::config::values::port;
use crate::config::{EngineConfig, MAX_SHARDS, Output, Transport};

/// A whole fleet on this machine: server, shards and gateway, each a process of its own.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  shardctl up --prompt 'Once upon a time'         one answer, then everything stops
  shardctl up                                     serves until Ctrl-C
  shardctl up --model llama-3.2-1b-q4_k_m.gguf --shards 2 --transport tcp

The answer goes to standard output, all the rest to standard error.
The shard files stay in the state folder, so that the next start need not split again.")]
pub struct UpArgs {
    /// GGUF file to serve [default: models_cache/tiny-tales-f16.gguf]
    #[arg(long = c::MODEL.flag, env = c::MODEL.env, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Shards to cut it into, each a process
    #[arg(long = c::SHARDS.flag, env = c::SHARDS.env, default_value = c::SHARDS.default, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SHARDS)))]
    pub shards: u32,
    /// What the processes talk over; dual is QUIC first, then TCP
    #[arg(long = c::TRANSPORT.flag, env = c::TRANSPORT.env, default_value = c::TRANSPORT.default)]
    pub transport: Transport,
    /// Where it listens.
    #[command(flatten)]
    pub ports: UpPorts,
    /// Folder for shard files, links and logs [default: models_cache/up]
    #[arg(long = c::STATE.flag, env = c::STATE.env, value_name = "DIR")]
    pub state: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
    /// Engine threads of each shard [default: the cores, shared out]
    #[arg(long = c::THREADS_PER_SHARD.flag, env = c::THREADS_PER_SHARD.env, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads_per_shard: Option<u16>,
    /// What to ask, if anything.
    #[command(flatten)]
    pub ask: AskArgs,
    /// Form of the answer and its summary
    #[arg(long = c::OUTPUT.flag, env = c::OUTPUT.env, default_value = c::OUTPUT.default)]
    pub output: Output,
}

/// Where the fleet listens; without a value the usual port, or with one answer to give any free one.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Ports, on 127.0.0.1")]
pub struct UpPorts {
    /// Port of the OpenAI API [default: 8080; with --prompt or --chat any free one]
    #[arg(long = c::UP_HTTP_PORT.flag, env = c::UP_HTTP_PORT.env, value_name = "PORT", value_parser = port)]
    pub http_port: Option<u16>,
    /// Port of the bootstrap [default: 51820; with --prompt or --chat any free one]
    #[arg(long = c::UP_PORT.flag, env = c::UP_PORT.env, value_name = "PORT", value_parser = port)]
    pub port: Option<u16>,
    /// Port of the bootstrap's diagnostics [default: 51821; with --prompt or --chat any free one]
    #[arg(long = c::UP_DIAGNOSTICS_PORT.flag, env = c::UP_DIAGNOSTICS_PORT.env, value_name = "PORT", value_parser = port)]
    pub diagnostics_port: Option<u16>,
}

impl UpArgs {
    /// How the shards compute; `share` is the threads of each where the user names none.
    pub fn engine(&self, share: u16) -> EngineConfig {
        self.engine.resolve(Some(self.threads_per_shard.unwrap_or(share)))
    }
}
