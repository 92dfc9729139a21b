//! What a GGUF header says about a Llama model, checked against the tensors that are there.
//!
//! [`ModelConfig::read`] is the one door: hyperparameters, vocabulary, shard metadata, then names,
//! shapes and types of every tensor that the file's layer range needs. Whoever holds a `ModelConfig` may index by it.

mod error;
mod rope;
mod shard;
mod tensors;
mod vocab;

use std::ops::Range;

pub use error::ConfigError;
pub use rope::{Rope, RopeFactors};
pub(crate) use shard::{LAYER_END, LAYER_START, SHARD_COUNT, SHARD_ID};
pub use shard::{MODEL_SHA256, ShardInfo};
pub use tensors::{Expected, Role, expected_tensors};

use crate::gguf::{Gguf, Metadata};

/// The name of the token embedding, and of the head where it is tied to it.
pub const TOKEN_EMBD: &str = "token_embd.weight";
/// The name of an untied head.
pub const OUTPUT: &str = "output.weight";
/// The name of the norm before the head.
pub const OUTPUT_NORM: &str = "output_norm.weight";
/// The name of the divisors of rope frequencies (Llama 3.1 and later).
pub const ROPE_FREQS: &str = "rope_freqs.weight";

/// The one architecture so far; also the prefix of its keys.
const ARCHITECTURE: &str = "llama";
const MAX_CONTEXT: u32 = 1 << 24;
/// The deepest models have 126 layers.
const MAX_LAYERS: u32 = 1024;

/// A Llama model, or the shard of one, as its file describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// `general.name`, empty where there is none.
    pub name: String,
    /// Layers of the whole model.
    pub block_count: u32,
    /// Width of the hidden state.
    pub embedding_length: u32,
    /// Width of the feed-forward layer.
    pub feed_forward_length: u32,
    /// Query heads.
    pub head_count: u32,
    /// Key and value heads: divides `head_count`.
    pub head_count_kv: u32,
    /// Width of every head, of queries, keys and values alike.
    pub head_dim: u32,
    /// Positions.
    pub rope: Rope,
    /// Added to the mean square in every norm.
    pub rms_eps: f32,
    /// Longest sequence that the model was made for: 1 to 2^24.
    pub context_length: u32,
    /// Rows of the embedding and of the head.
    pub vocab_size: u32,
    /// Layers in this file: the whole model's where it is not a shard.
    pub layers: Range<u32>,
    /// This file is a shard.
    pub shard: Option<ShardInfo>,
    /// The head is the embedding. Known where the last layer is in this file, `false` elsewhere.
    pub tied_head: bool,
}

impl ModelConfig {
    /// Reads and checks the model in `parts`: one file, or all parts of a multi-part one in order.
    pub fn read(parts: &[Gguf]) -> Result<Self, ConfigError> {
        let first = parts.first().ok_or(ConfigError::NoFile)?;
        check_parts(parts)?;
        let config = Self::from_metadata(&first.metadata)?;
        let find = |name: &str| parts.iter().find_map(|part| part.tensor(name));
        let config = Self { tied_head: config.has_last_layer() && find(OUTPUT).is_none(), ..config };
        tensors::check(&config, parts)?;
        Ok(config)
    }

    /// This file has the first layer, and so the embedding.
    #[must_use]
    pub fn has_first_layer(&self) -> bool {
        self.layers.start == 0
    }

    /// This file has the last layer, and so the output norm and the head.
    #[must_use]
    pub fn has_last_layer(&self) -> bool {
        self.layers.end == self.block_count
    }

    /// The tensor of the head; `None` where the last layer is not in this file.
    #[must_use]
    pub fn head_tensor(&self) -> Option<&'static str> {
        self.has_last_layer().then_some(if self.tied_head { TOKEN_EMBD } else { OUTPUT })
    }

    fn from_metadata(metadata: &Metadata) -> Result<Self, ConfigError> {
        let found: &str = metadata.require("general.architecture")?;
        if found != ARCHITECTURE {
            return Err(ConfigError::Architecture { found: found.to_owned() });
        }
        if let Some(experts) = metadata.get::<u32>("llama.expert_count")?.filter(|&n| n > 0) {
            return Err(ConfigError::Experts { experts });
        }
        let block_count = positive(metadata, "llama.block_count", None)?;
        if block_count > MAX_LAYERS {
            return Err(ConfigError::value("llama.block_count", &block_count, "at most 1024"));
        }
        let embedding_length = positive(metadata, "llama.embedding_length", None)?;
        let head_count = positive(metadata, "llama.attention.head_count", None)?;
        let head_count_kv = positive(metadata, "llama.attention.head_count_kv", Some(head_count))?;
        divides("llama.attention.head_count_kv", head_count_kv, "llama.attention.head_count", head_count)?;
        let head_dim = head_dim(metadata, embedding_length, head_count)?;
        let context_length = positive(metadata, "llama.context_length", None)?;
        if context_length > MAX_CONTEXT {
            return Err(ConfigError::value(
                "llama.context_length",
                &context_length,
                "at most 16777216 (2^24)",
            ));
        }
        let rms_eps = finite_positive(metadata, "llama.attention.layer_norm_rms_epsilon", None)?;
        if rms_eps >= 1.0 {
            return Err(ConfigError::value("llama.attention.layer_norm_rms_epsilon", &rms_eps, "below 1"));
        }
        let shard = shard::read(metadata, block_count)?;
        Ok(Self {
            name: metadata.get::<&str>("general.name")?.unwrap_or_default().to_owned(),
            block_count,
            embedding_length,
            feed_forward_length: positive(metadata, "llama.feed_forward_length", None)?,
            head_count,
            head_count_kv,
            head_dim,
            rope: rope::read(metadata, head_dim)?,
            rms_eps,
            context_length,
            vocab_size: vocab::read(metadata)?,
            layers: shard.as_ref().map_or(0..block_count, |shard| shard.layers.clone()),
            shard,
            tied_head: false,
        })
    }
}

/// Query, key and value heads of one width; it may differ from embedding / heads (Mistral Nemo).
fn head_dim(metadata: &Metadata, embedding_length: u32, head_count: u32) -> Result<u32, ConfigError> {
    let key = "llama.attention.key_length";
    let head_dim = match metadata.get::<u32>(key)? {
        Some(_) => positive(metadata, key, None)?,
        None => {
            divides("llama.attention.head_count", head_count, "llama.embedding_length", embedding_length)?;
            embedding_length / head_count
        }
    };
    let value_length = positive(metadata, "llama.attention.value_length", Some(head_dim))?;
    if value_length != head_dim {
        let must = format!("{head_dim}, the width of a key head (others are not supported)");
        return Err(ConfigError::value("llama.attention.value_length", &value_length, must));
    }
    Ok(head_dim)
}

fn check_parts(parts: &[Gguf]) -> Result<(), ConfigError> {
    for (index, part) in parts.iter().enumerate() {
        let count = part.metadata.get::<u32>("split.count")?.unwrap_or(1).max(1);
        let number = part.metadata.get::<u32>("split.no")?.unwrap_or(0);
        if count as usize != parts.len() || number as usize != index {
            return Err(ConfigError::Part { index, given: parts.len(), number, count });
        }
    }
    Ok(())
}

/// An integer above zero.
fn positive(metadata: &Metadata, key: &str, default: Option<u32>) -> Result<u32, ConfigError> {
    let value = match default {
        Some(default) => metadata.get(key)?.unwrap_or(default),
        None => metadata.require(key)?,
    };
    if value == 0 {
        return Err(ConfigError::value(key, &value, "above zero"));
    }
    Ok(value)
}

/// A number above zero, neither NaN nor infinite.
fn finite_positive(metadata: &Metadata, key: &str, default: Option<f32>) -> Result<f32, ConfigError> {
    let value: f32 = match default {
        Some(default) => metadata.get(key)?.unwrap_or(default),
        None => metadata.require(key)?,
    };
    if !value.is_finite() || value <= 0.0 {
        return Err(ConfigError::value(key, &value, "finite and above zero"));
    }
    Ok(value)
}

fn divides(key: &str, divisor: u32, of: &str, value: u32) -> Result<(), ConfigError> {
    if value.is_multiple_of(divisor) {
        return Ok(());
    }
    Err(ConfigError::value(key, &divisor, format!("a divisor of {of}, which is {value}")))
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
