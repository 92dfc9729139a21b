//! Models of other shapes than the test model, against a plain forward in double precision.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::f64::consts::TAU;
use std::path::{Path, PathBuf};

use shard_engine::config::{ModelConfig, Rope, RopeFactors};
use shard_engine::gguf::{GgmlType, Gguf};
use shard_engine::random::{self, Mix};
use shard_engine::{Input, KvDtype, LoadOptions, Output, Rows, ShardModel, Weights};
use shard_kernels::WeightType;

/// A small model of an unusual shape: each test changes what it is about.
fn shape() -> ModelConfig {
    ModelConfig {
        name: "reference".to_owned(),
        block_count: 3,
        embedding_length: 40,
        feed_forward_length: 72,
        head_count: 6,
        head_count_kv: 2,
        head_dim: 20,
        rope: Rope { dims: 20, base: 10_000.0, linear_factor: 1.0, factors: RopeFactors::None },
        rms_eps: 1e-5,
        context_length: 256,
        vocab_size: 97,
        layers: 0..3,
        shard: None,
        tied_head: false,
    }
}

/// A file that is gone when the test is over.
struct Model(PathBuf);

impl Model {
    fn new(name: &str, config: &ModelConfig, mix: Mix) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.gguf"));
        random::write(&path, config, mix, 42, &mut |_, _| {}).unwrap();
        Self(path)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const TOKENS: [u32; 30] = [
    3, 96, 0, 17, 17, 5, 80, 41, 2, 9, 33, 12, 64, 1, 0, 95, 7, 28, 50, 50, 6, 19, 72, 88, 4, 23, 61, 90, 11,
    3,
];

fn kernels_name(ty: GgmlType) -> WeightType {
    match ty {
        GgmlType::F32 => WeightType::F32,
        GgmlType::F16 => WeightType::F16,
        GgmlType::Bf16 => WeightType::Bf16,
        GgmlType::Q4_0 => WeightType::Q4_0,
        GgmlType::Q4_1 => WeightType::Q4_1,
        GgmlType::Q5_0 => WeightType::Q5_0,
        GgmlType::Q5_1 => WeightType::Q5_1,
        GgmlType::Q8_0 => WeightType::Q8_0,
        GgmlType::Q2K => WeightType::Q2K,
        GgmlType::Q3K => WeightType::Q3K,
        GgmlType::Q4K => WeightType::Q4K,
        GgmlType::Q5K => WeightType::Q5K,
        GgmlType::Q6K => WeightType::Q6K,
        ty => panic!("{ty}"),
    }
}

/// Logits after the last of [`TOKENS`], through two shards, the prompt cut at `cuts`.
fn engine(path: &Path, weights: Weights, kv_dtype: KvDtype, cuts: &[usize]) -> Vec<f32> {
    let options = LoadOptions { threads: 2, weights, kv_dtype, context_length: None };
    let load = |layers| ShardModel::load_range(path, layers, &options, &mut |_, _| {}).unwrap();
    let (mut first, mut second) = (load(0..1), load(1..3));
    let (mut a, mut b) = (first.session(TOKENS.len()).unwrap(), second.session(TOKENS.len()).unwrap());
    let mut logits = Vec::new();
    for end in cuts.iter().copied().chain([TOKENS.len()]) {
        let position = a.position();
        let input = Input::Tokens(&TOKENS[position..end]);
        let rows = Rows { session: &mut a, position, input, logits: false };
        let Output::Hidden(hidden) = first.forward(&mut [rows]).unwrap().remove(0) else {
            panic!("not hidden")
        };
        let rows = Rows { session: &mut b, position, input: Input::Hidden(&hidden), logits: true };
        let Output::Logits(l) = second.forward(&mut [rows]).unwrap().remove(0) else { panic!("no logits") };
        logits = l;
    }
    logits
}

/// The weights in double precision.
struct Reference {
    gguf: Gguf,
    bytes: Vec<u8>,
    config: ModelConfig,
}

impl Reference {
    fn open(path: &Path) -> Self {
        let gguf = Gguf::open(path).unwrap();
        let config = ModelConfig::read(std::slice::from_ref(&gguf)).unwrap();
        Self { gguf, bytes: std::fs::read(path).unwrap(), config }
    }

    fn rows(&self, name: &str) -> Vec<Vec<f64>> {
        let tensor = self.gguf.tensor(name).unwrap_or_else(|| panic!("{name}"));
        let ty = kernels_name(tensor.ty);
        let cols = tensor.dims[0] as usize;
        let data = &self.bytes[tensor.offset as usize..][..tensor.bytes as usize];
        let row = |bytes| {
            let mut out = vec![0.0; cols];
            shard_kernels::dequantize_row(ty, bytes, &mut out);
            out.into_iter().map(f64::from).collect()
        };
        data.chunks(ty.row_bytes(cols).unwrap()).map(row).collect()
    }

    fn times(&self, name: &str, x: &[f64]) -> Vec<f64> {
        self.rows(name).iter().map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (mean + f64::from(self.config.rms_eps)).sqrt();
        x.iter().zip(&self.rows(name)[0]).map(|(x, w)| x * scale * w).collect()
    }

    /// Turns every head of `row`.
    fn rope(&self, position: usize, row: &mut [f64]) {
        let Rope { dims, base, linear_factor, factors } = &self.config.rope;
        for head in row.chunks_mut(self.config.head_dim as usize) {
            for pair in 0..(*dims as usize) / 2 {
                let mut turn = f64::from(*base).powf(-2.0 * pair as f64 / f64::from(*dims));
                if let RopeFactors::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } =
                    factors
                {
                    // As written in Meta's `apply_scaling`.
                    let (low, high) = (f64::from(*low_freq_factor), f64::from(*high_freq_factor));
                    let (wavelength, old) = (TAU / turn, f64::from(*original_context));
                    let smooth = (old / wavelength - low) / (high - low);
                    turn = if wavelength < old / high {
                        turn
                    } else if wavelength > old / low {
                        turn / f64::from(*factor)
                    } else {
                        (1.0 - smooth) * turn / f64::from(*factor) + smooth * turn
                    };
                }
                let (sin, cos) = (position as f64 / f64::from(*linear_factor) * turn).sin_cos();
                let (a, b) = (head[2 * pair], head[2 * pair + 1]);
                (head[2 * pair], head[2 * pair + 1]) = (a * cos - b * sin, a * sin + b * cos);
            }
        }
    }

    fn logits(&self, tokens: &[u32]) -> Vec<f64> {
        let size = self.config.head_dim as usize;
        let group = (self.config.head_count / self.config.head_count_kv) as usize;
        let embedding = self.rows("token_embd.weight");
        let mut x: Vec<Vec<f64>> = tokens.iter().map(|&token| embedding[token as usize].clone()).collect();
        for layer in 0..self.config.block_count {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for (position, x) in x.iter_mut().enumerate() {
                let normed = self.norm(&name("attn_norm"), x);
                let [mut q, mut k, v] =
                    ["attn_q", "attn_k", "attn_v"].map(|part| self.times(&name(part), &normed));
                self.rope(position, &mut q);
                self.rope(position, &mut k);
                keys.push(k);
                values.push(v);
                let mut attended = Vec::new();
                for (head, q) in q.chunks(size).enumerate() {
                    let kv = head / group * size..(head / group + 1) * size;
                    let score = |k: &Vec<f64>| k[kv.clone()].iter().zip(q).map(|(k, q)| k * q).sum::<f64>();
                    let weights: Vec<f64> =
                        keys.iter().map(|k| (score(k) / (size as f64).sqrt()).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    let mix = |d| weights.iter().zip(&values).map(|(w, v)| w / total * v[d]).sum::<f64>();
                    attended.extend(kv.clone().map(mix));
                }
                let add = |x: &mut Vec<f64>, y: Vec<f64>| x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
                add(x, self.times(&name("attn_output"), &attended));
                let normed = self.norm(&name("ffn_norm"), x);
                let (gate, up) =
                    (self.times(&name("ffn_gate"), &normed), self.times(&name("ffn_up"), &normed));
                let inner: Vec<f64> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                add(x, self.times(&name("ffn_down"), &inner));
            }
        }
        let normed = self.norm("output_norm.weight", x.last().unwrap());
        self.times(self.config.head_tensor().unwrap(), &normed)
    }
}

fn check(name: &str, config: &ModelConfig, mix: Mix, kv_dtype: KvDtype, tolerance: f64) {
    let model = Model::new(name, config, mix);
    let expect = Reference::open(&model.0).logits(&TOKENS);
    let got = engine(&model.0, Weights::Map, kv_dtype, &[7, 8]);
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let packed = engine(&model.0, Weights::Packed, kv_dtype, &[]);
    assert_eq!(bits(&got), bits(&packed), "{name}: packed, in one chunk");
    let size = (expect.iter().map(|e| e * e).sum::<f64>() / expect.len() as f64).sqrt();
    assert!(size > 0.1, "{name}: logits of size {size} say nothing");
    let off = got.iter().zip(&expect).map(|(g, e)| (f64::from(*g) - e).abs()).fold(0.0, f64::max) / size;
    println!("{name}: largest difference {off:.1e} of the logits' size");
    assert!(got.len() == expect.len() && off < tolerance, "{name}: {off}");
}

/// Activations of 8 bits, after three random layers, at the worst of 97 logits; a wrong block gives 1 and more.
const ROUNDED: f64 = 0.2;
const F32: Mix = Mix::Uniform(GgmlType::F32);

#[test]
fn heads_of_any_size_and_number() {
    check("odd-heads", &shape(), F32, KvDtype::F32, 2e-5);
    let one_kv_head = ModelConfig { head_count: 7, head_count_kv: 1, head_dim: 6, ..shape() };
    let one_kv_head = ModelConfig { rope: Rope { dims: 6, ..shape().rope }, ..one_kv_head };
    check("one-kv-head", &one_kv_head, F32, KvDtype::F32, 2e-5);
    let no_groups = ModelConfig { head_count: 2, embedding_length: 33, feed_forward_length: 31, ..shape() };
    check("no-groups", &no_groups, F32, KvDtype::F32, 2e-5);
}

#[test]
fn half_precision_cache() {
    check("f16-cache", &shape(), F32, KvDtype::F16, 1e-2);
}

#[test]
fn tied_head() {
    check("tied", &ModelConfig { tied_head: true, ..shape() }, F32, KvDtype::F32, 2e-5);
}

#[test]
fn rope_on_a_part_of_the_head_and_scaled() {
    let part = Rope { dims: 8, base: 500.0, ..shape().rope };
    check("rope-part", &ModelConfig { rope: part, ..shape() }, F32, KvDtype::F32, 2e-5);
    let linear = Rope { linear_factor: 3.5, ..shape().rope };
    check("rope-linear", &ModelConfig { rope: linear, ..shape() }, F32, KvDtype::F32, 2e-5);
    let factors = RopeFactors::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 64,
    };
    let llama3 = Rope { factors, ..shape().rope };
    check("rope-llama3", &ModelConfig { rope: llama3, ..shape() }, F32, KvDtype::F32, 2e-5);
}

#[test]
fn other_float_types() {
    check("f16", &shape(), Mix::Uniform(GgmlType::F16), KvDtype::F32, 2e-5);
    check("bf16", &shape(), Mix::Uniform(GgmlType::Bf16), KvDtype::F32, 2e-5);
}

/// Widths that are multiples of 32 but not of 64 or 256.
#[test]
fn blocks_of_32_at_odd_widths() {
    let config = ModelConfig { embedding_length: 96, feed_forward_length: 160, head_dim: 16, ..shape() };
    let config = ModelConfig { rope: Rope { dims: 16, ..shape().rope }, ..config };
    for ty in [GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q5_0, GgmlType::Q5_1] {
        check(ty.name(), &config, Mix::Uniform(ty), KvDtype::F32, ROUNDED);
    }
}

#[test]
fn blocks_of_256() {
    let config = ModelConfig {
        embedding_length: 256,
        feed_forward_length: 768,
        head_count: 4,
        head_dim: 64,
        ..shape()
    };
    let config = ModelConfig { rope: Rope { dims: 64, ..shape().rope }, ..config };
    for ty in [GgmlType::Q2K, GgmlType::Q3K, GgmlType::Q4K, GgmlType::Q5K, GgmlType::Q6K] {
        check(ty.name(), &config, Mix::Uniform(ty), KvDtype::F32, ROUNDED);
    }
    check("q4_k_m", &config, Mix::Q4KM, KvDtype::F16, ROUNDED);
}

#[test]
fn types_without_vector_kernels_are_named() {
    let model = Model::new("warned", &shape(), F32);
    let load = |model: &Model| {
        let options = LoadOptions { threads: 1, ..LoadOptions::default() };
        ShardModel::load(&model.0, &options, &mut |_, _| {}).unwrap().warnings()
    };
    assert!(load(&model).is_empty());
    let config = ModelConfig { embedding_length: 32, feed_forward_length: 64, ..shape() };
    let slow = Model::new("slow", &config, Mix::Uniform(GgmlType::Q5_1));
    // Rows of attn_output are 120 values, no multiple of 32, and so F16.
    assert_eq!(
        load(&slow),
        ["19 tensors are of type Q5_1, which has no vector kernels: they take several times as long"]
    );
}
