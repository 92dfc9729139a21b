//! Which model is measured: the user's file, or one of random weights in the cache folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use shard_engine::config::ModelConfig;
use shard_engine::gguf::{GgmlType, Gguf};
use shard_engine::random::{self, Mix, RandomError};
use thiserror::Error;

use super::say;
use crate::config::word;

/// Any: speed does not depend on it.
const SEED: u64 = 1;

/// The model.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub(super) struct ModelArgs {
    /// GGUF file to measure [default: random weights of --shape]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["shape", "quant"])]
    model: Option<PathBuf>,
    /// Shape of a model of random weights
    #[arg(long, default_value = "tinyllama-1.1b")]
    shape: Shape,
    /// Quantisation of the random weights
    #[arg(long, default_value = "q4_k_m")]
    quant: Quant,
    /// Folder where made models and shards are kept
    #[arg(long, value_name = "DIR", default_value = "models_cache/bench")]
    pub(super) cache: PathBuf,
}

/// A known shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// 22 layers of width 2048
    #[value(name = "tinyllama-1.1b")]
    TinyLlama1B,
    /// 16 layers of width 2048, a head of 128,256 tokens
    #[value(name = "llama-3.2-1b")]
    Llama32_1B,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Quant {
    /// Q4_K, in part Q6_K, as llama.cpp mixes them
    #[value(name = "q4_k_m")]
    Q4KM,
    #[value(name = "q4_0")]
    Q4_0,
    #[value(name = "q5_k")]
    Q5K,
    #[value(name = "q6_k")]
    Q6K,
    #[value(name = "q8_0")]
    Q8_0,
    F16,
    Bf16,
    F32,
}

/// What is measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measured {
    /// The file.
    pub(super) path: PathBuf,
    /// As the file has it.
    pub(super) name: String,
    /// Size of the file.
    pub(super) bytes: u64,
    #[serde(skip)]
    pub(super) vocabulary: u32,
}

/// Why there is nothing to measure.
#[derive(Debug, Error)]
pub(super) enum ModelError {
    #[error("cannot use the model {}: {reason}", path.display())]
    Unusable { path: PathBuf, reason: String },
    #[error("cannot make a model of random weights")]
    Random(#[from] RandomError),
    #[error("cannot keep the model of random weights: {action} {}: {source}; give another folder with --cache DIR", path.display())]
    Cache { action: &'static str, path: PathBuf, source: io::Error },
}

impl ModelArgs {
    /// The model's file; one of random weights is made where it is not there.
    pub(super) fn find(&self) -> Result<Measured, ModelError> {
        let path = match &self.model {
            Some(path) => path.clone(),
            None => self.random()?,
        };
        let unusable = |reason: String| ModelError::Unusable { path: path.clone(), reason };
        let bytes = fs::metadata(&path).map_err(|error| unusable(error.to_string()))?.len();
        let config = read(&path).map_err(unusable)?;
        Ok(Measured { bytes, name: config.name, vocabulary: config.vocab_size, path })
    }

    fn random(&self) -> Result<PathBuf, ModelError> {
        let name = format!("random-{}-{}.gguf", word(&self.shape), word(&self.quant));
        make(&self.cache, &name, &self.shape.config(), self.quant.mix())
    }
}

/// A model of random weights of about `bytes` bytes in `cache`, with layers for up to 16 shards.
pub(super) fn sized(cache: &Path, bytes: u64) -> Result<Measured, ModelError> {
    let config = of_size(bytes);
    let path = make(cache, &format!("random-{bytes}-bytes.gguf"), &config, Mix::Uniform(GgmlType::Q8_0))?;
    let unusable = |error: io::Error| ModelError::Unusable { path: path.clone(), reason: error.to_string() };
    let bytes = fs::metadata(&path).map_err(unusable)?.len();
    Ok(Measured { bytes, name: config.name, vocabulary: config.vocab_size, path })
}

/// The smallest that [`sized`] makes.
pub(super) const MIN_SIZE: u64 = 10_000_000;

/// Narrow layers, so that nearly all bytes are in the inner width, which fits any size.
fn of_size(bytes: u64) -> ModelConfig {
    const LAYERS: u32 = 16;
    const WIDTH: u32 = 256;
    const VOCABULARY: u32 = 2048;
    /// Rows are whole superblocks of every type.
    const STEP: u64 = 256;
    let q8 = |weights: u64| weights * 34 / 32;
    let (layers, width) = (u64::from(LAYERS), u64::from(WIDTH));
    let fixed = q8(2 * u64::from(VOCABULARY) * width + layers * 4 * width * width);
    let step = q8(layers * 3 * width * STEP);
    let steps = (bytes.saturating_sub(fixed) + step / 2) / step;
    let tiny = random::tiny_llama_1b();
    ModelConfig {
        name: format!("random, {:.1} MB", bytes as f64 / 1e6),
        block_count: LAYERS,
        embedding_length: WIDTH,
        feed_forward_length: u32::try_from(steps.max(1) * STEP).unwrap_or(u32::MAX - u32::MAX % 256),
        head_count: 4,
        head_count_kv: 4,
        vocab_size: VOCABULARY,
        layers: 0..LAYERS,
        ..tiny
    }
}

/// Makes a model, unless it is there.
fn make(cache: &Path, name: &str, config: &ModelConfig, mix: Mix) -> Result<PathBuf, ModelError> {
    let path = cache.join(name);
    if read(&path).is_ok_and(|found| found == *config) {
        return Ok(path);
    }
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| ModelError::Cache { action, path, source }
    };
    fs::create_dir_all(cache).map_err(failed("create", cache))?;
    say(&format!("making {}: random weights, kept for the next time", path.display()));
    let part = cache.join(format!("{name}.{}.part", process::id()));
    let written = write(&part, config, mix);
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written?;
    fs::rename(&part, &path).map_err(failed("rename", &part))?;
    Ok(path)
}

fn read(path: &Path) -> Result<ModelConfig, String> {
    let gguf = Gguf::open(path).map_err(|error| error.to_string())?;
    ModelConfig::read(std::slice::from_ref(&gguf)).map_err(|error| error.to_string())
}

fn write(path: &Path, config: &ModelConfig, mix: Mix) -> Result<(), RandomError> {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
    {
        bar.set_style(style);
    }
    let written = random::write(path, config, mix, SEED, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    written
}

impl Shape {
    fn config(self) -> ModelConfig {
        match self {
            Self::TinyLlama1B => random::tiny_llama_1b(),
            Self::Llama32_1B => random::llama_3_2_1b(),
        }
    }
}

impl Quant {
    fn mix(self) -> Mix {
        Mix::Uniform(match self {
            Self::Q4KM => return Mix::Q4KM,
            Self::Q4_0 => GgmlType::Q4_0,
            Self::Q5K => GgmlType::Q5K,
            Self::Q6K => GgmlType::Q6K,
            Self::Q8_0 => GgmlType::Q8_0,
            Self::F16 => GgmlType::F16,
            Self::Bf16 => GgmlType::Bf16,
            Self::F32 => GgmlType::F32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_of_a_size_is_about_that_size_and_is_a_model() {
        let cache = tempfile::tempdir().unwrap();
        for bytes in [MIN_SIZE, 32_000_000] {
            let model = sized(cache.path(), bytes).unwrap();
            let off = model.bytes.abs_diff(bytes);
            assert!(off < 2_000_000, "{bytes}: {}", model.bytes);
            assert!(read(&model.path).is_ok());
        }
    }
}
