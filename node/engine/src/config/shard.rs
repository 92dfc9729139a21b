use std::ops::Range;

use super::ConfigError;
use crate::gguf::Metadata;

// The keys that make a GGUF file a shard.
pub(crate) const SHARD_ID: &str = "shardcluster.shard_id";
pub(crate) const SHARD_COUNT: &str = "shardcluster.shard_count";
pub(crate) const LAYER_START: &str = "shardcluster.layer_start";
pub(crate) const LAYER_END: &str = "shardcluster.layer_end";
/// The key of the model's hash in a shard file.
pub const MODEL_SHA256: &str = "shardcluster.model_sha256";

/// What a shard file says about its place in the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardInfo {
    /// Index of the shard, below `count`.
    pub id: u32,
    /// Shards of the model.
    pub count: u32,
    /// Layers of the shard: not empty, within the model.
    pub layers: Range<u32>,
    /// Hex SHA-256 of the model file that it was cut from.
    pub model_sha256: String,
}

/// `None` where the file is not a shard.
pub(super) fn read(metadata: &Metadata, block_count: u32) -> Result<Option<ShardInfo>, ConfigError> {
    if !metadata.keys().any(|key| key.starts_with("shardcluster.")) {
        return Ok(None);
    }
    let id: u32 = metadata.require(SHARD_ID)?;
    let count: u32 = metadata.require(SHARD_COUNT)?;
    let start: u32 = metadata.require(LAYER_START)?;
    let end: u32 = metadata.require(LAYER_END)?;
    let model_sha256: &str = metadata.require(MODEL_SHA256)?;
    if count == 0 || count > block_count {
        let must = format!("1 to the model's layers, which are {block_count}");
        return Err(ConfigError::value(SHARD_COUNT, &count, must));
    }
    if id >= count {
        return Err(ConfigError::value(SHARD_ID, &id, format!("below {SHARD_COUNT}, which is {count}")));
    }
    if end > block_count {
        let must = format!("at most the model's layers, which are {block_count}");
        return Err(ConfigError::value(LAYER_END, &end, must));
    }
    if start >= end {
        return Err(ConfigError::value(LAYER_START, &start, format!("below {LAYER_END}, which is {end}")));
    }
    if (id == 0) != (start == 0) || (id + 1 == count) != (end == block_count) {
        let must = format!("the range of shard {id} of {count} over {block_count} layers");
        return Err(ConfigError::value(LAYER_START, &format!("{start} and {LAYER_END} {end}"), must));
    }
    if model_sha256.len() != 64 || !model_sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        let must = "64 lower-case hexadecimal digits";
        return Err(ConfigError::value(MODEL_SHA256, &format!("{model_sha256:?}"), must));
    }
    Ok(Some(ShardInfo { id, count, layers: start..end, model_sha256: model_sha256.to_owned() }))
}
