//! Arguments of those that fetch and give model files.

use clap::Args;
use shard_wire::contract as c;

use crate::config::SwarmConfig;
use crate::config::values::bytes;
use crate::torrent::replicate::Replicate;

/// How a program gives files to peers.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Swarm")]
pub struct UploadArgs {
    /// Bytes per second of model files to all peers together, such as 20M [default: no limit]
    #[arg(long = c::UPLOAD_LIMIT.flag, env = c::UPLOAD_LIMIT.env, value_name = "BYTES", value_parser = bytes)]
    pub(super) upload_limit: Option<u64>,
}

/// Which files a node fetches.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Swarm")]
pub struct SwarmArgs {
    /// Files to fetch and give beside those of its shards: own is none, all, or how many, the rarest first
    #[arg(long = c::REPLICATE.flag, env = c::REPLICATE.env, default_value = c::REPLICATE.default, value_name = "own|all|N")]
    replicate: Replicate,
    /// Bytes that all model files in the folder may have, such as 50G; those of its shards are fetched all the same [default: no limit]
    #[arg(long = c::STORAGE_LIMIT.flag, env = c::STORAGE_LIMIT.env, value_name = "BYTES", value_parser = bytes)]
    storage_limit: Option<u64>,
    #[command(flatten)]
    upload: UploadArgs,
}

impl SwarmArgs {
    pub(super) fn resolve(self) -> SwarmConfig {
        SwarmConfig {
            replicate: self.replicate,
            storage_limit: self.storage_limit,
            upload_limit: self.upload.upload_limit,
        }
    }
}
