//! Llama models of random weights: speed depends on shapes and types, not on what a model knows.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use shard_kernels::half::f32_to_f16;

use crate::config::{ModelConfig, Role, Rope, RopeFactors, expected_tensors};
use crate::gguf::{GgmlType, GgufError, HeaderWriter};

/// Which tensor has which type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// All matrices of one type; F16 where a row is not a whole number of its blocks.
    Uniform(GgmlType),
    /// llama.cpp's `Q4_K_M`: `Q4_K`, and `Q6_K` for the head, and for values and `ffn_down` of half the layers.
    Q4KM,
}

/// Why a model was not written.
#[derive(Debug, thiserror::Error)]
pub enum RandomError {
    /// A shape that GGUF cannot hold.
    #[error("cannot lay out the model: {0}")]
    Layout(#[from] GgufError),
    /// A type whose blocks are not made here.
    #[error("cannot make random blocks of type {ty}")]
    Type {
        /// The type.
        ty: GgmlType,
    },
    /// The file system refused.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// TinyLlama 1.1B: 22 layers of width 2048, 4 key-value heads.
pub fn tiny_llama_1b() -> ModelConfig {
    shape("random TinyLlama 1.1B", 22, 2048, 5632, 32, 4, 2048, 32_000)
}

/// Llama 3.2 1B: 16 layers of width 2048, 8 key-value heads, a tied head of 128,256 tokens.
pub fn llama_3_2_1b() -> ModelConfig {
    let mut config = shape("random Llama 3.2 1B", 16, 2048, 8192, 32, 8, 131_072, 128_256);
    config.tied_head = true;
    config.rope.base = 500_000.0;
    config.rope.factors = RopeFactors::Llama3 {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 8192,
    };
    config
}

#[allow(clippy::too_many_arguments, reason = "one line per model above")]
fn shape(
    name: &str,
    block_count: u32,
    width: u32,
    inner: u32,
    heads: u32,
    kv_heads: u32,
    context: u32,
    vocab: u32,
) -> ModelConfig {
    let head_dim = width / heads;
    ModelConfig {
        name: name.to_owned(),
        block_count,
        embedding_length: width,
        feed_forward_length: inner,
        head_count: heads,
        head_count_kv: kv_heads,
        head_dim,
        rope: Rope { dims: head_dim, base: 10_000.0, linear_factor: 1.0, factors: RopeFactors::None },
        rms_eps: 1e-5,
        context_length: context,
        vocab_size: vocab,
        layers: 0..block_count,
        shard: None,
        tied_head: false,
    }
}

/// Writes a whole model of this shape to `path`, and tells `progress` how many of how many bytes are written. The same
/// seed gives the same bytes.
pub fn write(
    path: &Path,
    config: &ModelConfig,
    mix: Mix,
    seed: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), RandomError> {
    let mut header = HeaderWriter::default();
    describe(config, &mut header);
    let mut tensors = Vec::new();
    for tensor in expected_tensors(config).filter(|tensor| !tensor.optional) {
        let ty = match tensor.role {
            Role::Vector => GgmlType::F32,
            Role::Matrix => mix.of(&tensor.name, tensor.dims[0], config.block_count),
        };
        header.tensor(&tensor.name, &tensor.dims, ty)?;
        tensors.push((tensor, ty));
    }
    let header = header.finish();

    let failed = |source| RandomError::Write { path: path.to_owned(), source };
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
    out.write_all(&header.bytes).map_err(failed)?;
    let mut written = header.bytes.len() as u64;
    let mut random = Random(seed);
    for ((tensor, ty), offset) in tensors.iter().zip(&header.offsets) {
        out.write_all(&vec![0; (offset - written) as usize]).map_err(failed)?;
        let blocks = tensor.dims.iter().product::<u64>() / ty.block_values();
        let mut block = vec![0; ty.block_bytes() as usize];
        // Uniform in ±this: sums over a row keep the size of what goes in.
        let reach = (3.0 / tensor.dims[0] as f32).sqrt();
        for _ in 0..blocks {
            match tensor.role {
                Role::Vector => block.copy_from_slice(&random.within(0.9, 1.1).to_le_bytes()),
                Role::Matrix => fill(*ty, reach, &mut random, &mut block)?,
            }
            out.write_all(&block).map_err(failed)?;
        }
        written = offset + blocks * ty.block_bytes();
        progress(written, header.file_bytes);
    }
    out.write_all(&vec![0; (header.file_bytes - written) as usize]).map_err(failed)?;
    out.flush().map_err(failed)
}

fn describe(config: &ModelConfig, header: &mut HeaderWriter) {
    let Rope { dims, base, linear_factor, factors } = &config.rope;
    header
        .put("general.architecture", "llama")
        .put("general.name", config.name.as_str())
        .put("llama.block_count", config.block_count)
        .put("llama.context_length", config.context_length)
        .put("llama.embedding_length", config.embedding_length)
        .put("llama.feed_forward_length", config.feed_forward_length)
        .put("llama.attention.head_count", config.head_count)
        .put("llama.attention.head_count_kv", config.head_count_kv)
        .put("llama.attention.key_length", config.head_dim)
        .put("llama.attention.value_length", config.head_dim)
        .put("llama.attention.layer_norm_rms_epsilon", config.rms_eps)
        .put("llama.rope.dimension_count", *dims)
        .put("llama.rope.freq_base", *base)
        .put("llama.vocab_size", config.vocab_size);
    vocabulary(config.vocab_size, header);
    match factors {
        RopeFactors::None if *linear_factor == 1.0 => {}
        RopeFactors::None => {
            header.put("llama.rope.scaling.type", "linear").put("llama.rope.scaling.factor", *linear_factor);
        }
        RopeFactors::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            header
                .put("llama.rope.scaling.type", "llama3")
                .put("llama.rope.scaling.factor", *factor)
                .put("llama.rope.scaling.low_freq_factor", *low_freq_factor)
                .put("llama.rope.scaling.high_freq_factor", *high_freq_factor)
                .put("llama.rope.scaling.original_context_length", *original_context);
        }
    }
}

/// The bytes of a SentencePiece vocabulary, and words that are only numbers, so that such a model can be served, too.
fn vocabulary(size: u32, header: &mut HeaderWriter) {
    const SPECIAL: [&str; 3] = ["<unk>", "<s>", "</s>"];
    // `tokenizer.ggml.token_type`.
    const NORMAL: i32 = 1;
    const UNKNOWN: i32 = 2;
    const CONTROL: i32 = 3;
    const BYTE: i32 = 6;
    let special = SPECIAL.into_iter().map(str::to_owned).zip([UNKNOWN, CONTROL, CONTROL]);
    let bytes = (0..=255).map(|byte: u8| (format!("<0x{byte:02X}>"), BYTE));
    let words = (0..).map(|word: u32| (format!("\u{2581}{word}"), NORMAL));
    let (texts, types): (Vec<String>, Vec<i32>) =
        special.chain(bytes).chain(words).take(size as usize).unzip();
    if texts.len() < SPECIAL.len() + 256 {
        // llama.cpp's name for a model without a tokenizer.
        header.put("tokenizer.ggml.model", "none");
        return;
    }
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let scores: Vec<f32> = (0..size).map(|id| -(id as f32)).collect();
    header
        .put("tokenizer.ggml.model", "llama")
        .put("tokenizer.ggml.tokens", texts.as_slice())
        .put("tokenizer.ggml.scores", scores.as_slice())
        .put("tokenizer.ggml.token_type", types.as_slice())
        .put("tokenizer.ggml.unknown_token_id", 0u32)
        .put("tokenizer.ggml.bos_token_id", 1u32)
        .put("tokenizer.ggml.eos_token_id", 2u32);
}

impl Mix {
    fn of(self, name: &str, row: u64, layers: u32) -> GgmlType {
        let wanted = match self {
            Self::Uniform(ty) => ty,
            Self::Q4KM => q4_k_m(name, layers),
        };
        if row.is_multiple_of(wanted.block_values()) { wanted } else { GgmlType::F16 }
    }
}

/// llama.cpp's `llama_tensor_get_type` for `LLAMA_FTYPE_MOSTLY_Q4_K_M`.
fn q4_k_m(name: &str, layers: u32) -> GgmlType {
    let layer = name.split('.').nth(1).and_then(|layer| layer.parse::<u32>().ok()).unwrap_or(0);
    let eighth = layers / 8;
    let more_bits = layer < eighth || layer >= 7 * eighth || (layer - eighth) % 3 == 2;
    let six = name == crate::config::OUTPUT
        || more_bits && (name.ends_with("attn_v.weight") || name.ends_with("ffn_down.weight"));
    if six { GgmlType::Q6K } else { GgmlType::Q4K }
}

/// One block of values spread over ±`reach`, in ggml's layout (`ggml-common.h`).
fn fill(ty: GgmlType, reach: f32, random: &mut Random, block: &mut [u8]) -> Result<(), RandomError> {
    let half = |value: f32| f32_to_f16(value).to_le_bytes();
    match ty {
        GgmlType::F32 => block.copy_from_slice(&random.within(-reach, reach).to_le_bytes()),
        GgmlType::F16 => block.copy_from_slice(&half(random.within(-reach, reach))),
        GgmlType::Bf16 => block.copy_from_slice(&random.within(-reach, reach).to_le_bytes()[2..]),
        GgmlType::Q4_0 => {
            random.bytes(block);
            block[..2].copy_from_slice(&half(reach / 8.0));
        }
        GgmlType::Q8_0 => {
            random.bytes(block);
            block[2..].iter_mut().filter(|q| **q == 0x80).for_each(|q| *q = 0);
            block[..2].copy_from_slice(&half(reach / 127.0));
        }
        // Every minimum is its scale, and `dmin` half the range of `d`: the values lie around zero.
        GgmlType::Q4K | GgmlType::Q5K => {
            let middle = if ty == GgmlType::Q4K { 7.5 } else { 15.5 };
            random.bytes(block);
            let d = reach / (63.0 * middle);
            block[..2].copy_from_slice(&half(d));
            block[2..4].copy_from_slice(&half(d * middle));
            block.copy_within(4..8, 8);
            block[12..16].iter_mut().for_each(|b| *b = *b & 15 | *b << 4);
        }
        GgmlType::Q6K => {
            random.bytes(block);
            block[192..208].iter_mut().for_each(|scale| *scale = (*scale & 31) + 32);
            block[208..].copy_from_slice(&half(reach / (32.0 * 63.0)));
        }
        GgmlType::Q4_1 | GgmlType::Q5_1 => {
            let steps = if ty == GgmlType::Q4_1 { 15.0 } else { 31.0 };
            random.bytes(block);
            block[..2].copy_from_slice(&half(2.0 * reach / steps));
            block[2..4].copy_from_slice(&half(-reach));
        }
        GgmlType::Q5_0 => {
            random.bytes(block);
            block[..2].copy_from_slice(&half(reach / 16.0));
        }
        GgmlType::Q2K => {
            random.bytes(block);
            block[..16].iter_mut().for_each(|b| *b = *b & 15 | *b << 4);
            let d = reach / (15.0 * 1.5);
            block[80..82].copy_from_slice(&half(d));
            block[82..].copy_from_slice(&half(d * 1.5));
        }
        GgmlType::Q3K => {
            random.bytes(block);
            block[108..].copy_from_slice(&half(reach / (32.0 * 4.0)));
        }
        _ => return Err(RandomError::Type { ty }),
    }
    Ok(())
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn within(&mut self, low: f32, high: f32) -> f32 {
        let unit = (self.next() >> 40) as f32 / (1u64 << 24) as f32;
        low + (high - low) * unit
    }

    fn bytes(&mut self, out: &mut [u8]) {
        for some in out.chunks_mut(8) {
            some.copy_from_slice(&self.next().to_le_bytes()[..some.len()]);
        }
    }
}
