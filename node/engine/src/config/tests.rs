use std::path::PathBuf;

use super::*;
use crate::gguf::{GgmlType, HeaderWriter, MetaValue};

fn open(name: &str) -> Gguf {
    Gguf::open(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn tiny() -> Gguf {
    open("../../models_cache/tiny-tales-f16.gguf")
}

/// A tensor of the changed model: name, dimensions, type.
type Tensor = (String, Vec<u64>, GgmlType);

/// The tiny model's header, changed.
struct Changed {
    removed: Vec<String>,
    added: HeaderWriter,
    tensors: Vec<Tensor>,
}

impl Changed {
    fn new() -> Self {
        let tensors = tiny().tensors.into_iter().map(|t| (t.name, t.dims, t.ty)).collect();
        Self { removed: Vec::new(), added: HeaderWriter::default(), tensors }
    }

    fn set<T: MetaValue>(mut self, key: &str, value: T) -> Self {
        self.added.put(key, value);
        self.remove(key)
    }

    fn remove(mut self, key: &str) -> Self {
        self.removed.push(key.to_owned());
        self
    }

    fn tensors(mut self, change: impl FnOnce(&mut Vec<Tensor>)) -> Self {
        change(&mut self.tensors);
        self
    }

    fn read(mut self) -> Result<ModelConfig, ConfigError> {
        let tiny = tiny();
        for key in tiny.metadata.keys().filter(|key| !self.removed.iter().any(|removed| removed == key)) {
            self.added.copy(&tiny.metadata, key);
        }
        for (name, dims, ty) in &self.tensors {
            self.added.tensor(name, dims, *ty).unwrap();
        }
        let header = self.added.finish();
        ModelConfig::read(&[Gguf::read(&header.bytes[..], header.file_bytes).unwrap()])
    }
}

fn set<T: MetaValue>(key: &str, value: T) -> Changed {
    Changed::new().set(key, value)
}

fn tensor(name: &str, change: impl FnOnce(&mut Tensor)) -> Changed {
    Changed::new().tensors(|tensors| change(tensors.iter_mut().find(|t| t.0 == name).unwrap()))
}

#[test]
fn the_tiny_models_are_read() {
    for name in [
        "../../models_cache/tiny-tales-f16.gguf",
        "tests/data/tiny-tales-q8_0.gguf",
        "tests/data/tiny-tales-q4_k_m.gguf",
        "tests/data/tiny-tales-q4_0.gguf",
    ] {
        let config = ModelConfig::read(&[open(name)]).unwrap();
        let expected = ModelConfig {
            name: "Tiny Tales".to_owned(),
            block_count: 8,
            embedding_length: 256,
            feed_forward_length: 512,
            head_count: 8,
            head_count_kv: 4,
            head_dim: 32,
            rope: Rope { dims: 32, base: 10_000.0, linear_factor: 1.0, factors: RopeFactors::None },
            rms_eps: 1e-5,
            context_length: 512,
            vocab_size: 2048,
            layers: 0..8,
            shard: None,
            tied_head: false,
        };
        assert_eq!(config, expected, "{name}");
        assert_eq!(config.head_tensor(), Some("output.weight"));
    }
}

#[test]
fn every_value_that_cannot_be_is_named() {
    let llama3 = || set("llama.rope.scaling.type", "llama3").set("llama.rope.scaling.factor", 8.0f32);
    let shard_of = |id: u32, count: u32, start: u32, end: u32, model: &str| {
        set("shardcluster.shard_id", id)
            .set("shardcluster.shard_count", count)
            .set("shardcluster.layer_start", start)
            .set("shardcluster.layer_end", end)
            .set("shardcluster.model_sha256", model)
    };
    let shard = |id, count, start, end| shard_of(id, count, start, end, &"ab".repeat(32));
    let table = [
        (set("general.architecture", "gpt2"), r#"general.architecture is "gpt2": only "llama" is supported"#),
        (Changed::new().remove("general.architecture"), r#"metadata key "general.architecture" is missing"#),
        (set("general.architecture", 7u32), "is the u32 7, but must be a string"),
        (set("llama.expert_count", 8u32), "llama.expert_count is 8: mixtures of experts are not supported"),
        (Changed::new().remove("llama.block_count"), r#"metadata key "llama.block_count" is missing"#),
        (set("llama.block_count", "8"), "is the string \"8\", but must be an unsigned integer of 32 bits"),
        (set("llama.block_count", -8i32), "is the i32 -8, but must be an unsigned integer"),
        (set("llama.block_count", 0u32), "llama.block_count is 0: it must be above zero"),
        (set("llama.block_count", u32::MAX), "llama.block_count is 4294967295: it must be at most 1024"),
        (
            set("llama.block_count", 9u32),
            r#"tensor "blk.8.attn_norm.weight" is missing: layers 0-9 of 9 need it"#,
        ),
        (set("llama.block_count", 7u32), r#"tensor "blk.7.attn_norm.weight" is not one of a Llama model"#),
        (set("llama.embedding_length", 0u32), "llama.embedding_length is 0"),
        (
            set("llama.embedding_length", 255u32),
            "head_count is 8: it must be a divisor of llama.embedding_length, which is 255",
        ),
        (
            set("llama.embedding_length", 512u32),
            r#"tensor "token_embd.weight" has the shape [256, 2048]: the hyperparameters call for [512, 2048]"#,
        ),
        (set("llama.feed_forward_length", 0u32), "llama.feed_forward_length is 0"),
        (
            set("llama.feed_forward_length", 513u32),
            r#"tensor "blk.0.ffn_gate.weight" has the shape [256, 512]"#,
        ),
        (set("llama.attention.head_count", 0u32), "llama.attention.head_count is 0"),
        (
            set("llama.attention.head_count", 6u32),
            "head_count_kv is 4: it must be a divisor of llama.attention.head_count, which is 6",
        ),
        (set("llama.attention.head_count_kv", 0u32), "llama.attention.head_count_kv is 0"),
        (set("llama.attention.head_count_kv", 3u32), "head_count_kv is 3: it must be a divisor"),
        (
            set("llama.attention.head_count_kv", 8u32),
            r#"tensor "blk.0.attn_k.weight" has the shape [256, 128]"#,
        ),
        (set("llama.attention.key_length", 0u32), "llama.attention.key_length is 0"),
        (
            set("llama.attention.key_length", 64u32).set("llama.attention.value_length", 64u32),
            r#"tensor "blk.0.attn_q.weight" has the shape [256, 256]: the hyperparameters call for [256, 512]"#,
        ),
        (
            set("llama.attention.value_length", 64u32),
            "value_length is 64: it must be 32, the width of a key head",
        ),
        (
            set("llama.attention.layer_norm_rms_epsilon", 0.0f32),
            "layer_norm_rms_epsilon is 0: it must be finite and above zero",
        ),
        (set("llama.attention.layer_norm_rms_epsilon", f32::NAN), "layer_norm_rms_epsilon is NaN"),
        (set("llama.attention.layer_norm_rms_epsilon", f32::INFINITY), "layer_norm_rms_epsilon is inf"),
        (
            set("llama.attention.layer_norm_rms_epsilon", 1.5f32),
            "layer_norm_rms_epsilon is 1.5: it must be below 1",
        ),
        (set("llama.context_length", 0u32), "llama.context_length is 0"),
        (
            set("llama.context_length", (1u32 << 24) + 1),
            "llama.context_length is 16777217: it must be at most 16777216 (2^24)",
        ),
        (set("llama.rope.dimension_count", 0u32), "llama.rope.dimension_count is 0"),
        (
            set("llama.rope.dimension_count", 31u32),
            "dimension_count is 31: it must be even and at most the width of a head, which is 32",
        ),
        (set("llama.rope.dimension_count", 64u32), "dimension_count is 64"),
        (set("llama.rope.freq_base", 0.0f32), "llama.rope.freq_base is 0"),
        (set("llama.rope.freq_base", f32::NAN), "llama.rope.freq_base is NaN"),
        (set("llama.rope.freq_base", f32::NEG_INFINITY), "llama.rope.freq_base is -inf"),
        (set("llama.rope.scale_linear", 0.0f32), "llama.rope.scale_linear is 0"),
        (
            set("llama.rope.scaling.type", "yarn"),
            r#"llama.rope.scaling.type is "yarn": it must be none, linear or llama3"#,
        ),
        (set("llama.rope.scaling.type", "linear"), r#"metadata key "llama.rope.scaling.factor" is missing"#),
        (llama3(), r#"metadata key "llama.rope.scaling.original_context_length" is missing"#),
        (
            llama3().set("llama.rope.scaling.high_freq_factor", 1.0f32),
            "high_freq_factor is 1: it must be above llama.rope.scaling.low_freq_factor, which is 1",
        ),
        (
            set("llama.vocab_size", 2047u32),
            "llama.vocab_size is 2047: it must be the length of tokenizer.ggml.tokens: 2048",
        ),
        (set("tokenizer.ggml.tokens", 1u32), "tokenizer.ggml.tokens is 1: it must be an array of string"),
        (set::<&[&str]>("tokenizer.ggml.tokens", &[]), "tokenizer.ggml.tokens is empty"),
        (
            set("tokenizer.ggml.scores", &[0.0f32][..]),
            "tokenizer.ggml.scores is an array of 1: it must be as long as the vocabulary: 2048",
        ),
        (
            set("tokenizer.ggml.token_type", &[0.0f32; 2048][..]),
            "tokenizer.ggml.token_type is an array of 2048 f32: it must be an array of i32",
        ),
        (
            set("tokenizer.ggml.bos_token_id", 2048u32),
            "tokenizer.ggml.bos_token_id is 2048: it must be below the vocabulary's size: 2048",
        ),
        (set("tokenizer.ggml.eos_token_id", u32::MAX), "tokenizer.ggml.eos_token_id is 4294967295"),
        (set("tokenizer.ggml.padding_token_id", -1i32), "padding_token_id\" is the i32 -1"),
        (
            Changed::new().tensors(|t| t.retain(|t| t.0 != "output_norm.weight")),
            r#"tensor "output_norm.weight" is missing"#,
        ),
        (
            Changed::new().tensors(|t| t.push(("blk.0.attn_q.bias".into(), vec![256], GgmlType::F32))),
            r#"tensor "blk.0.attn_q.bias" is not one of a Llama model"#,
        ),
        (
            Changed::new().tensors(|t| t.push(("rope_freqs.weight".into(), vec![32], GgmlType::F32))),
            r#"tensor "rope_freqs.weight" has the shape [32]: the hyperparameters call for [16]"#,
        ),
        (
            tensor("blk.3.attn_k.weight", |t| t.1.reverse()),
            r#"tensor "blk.3.attn_k.weight" has the shape [128, 256]: the hyperparameters call for [256, 128]"#,
        ),
        (
            tensor("blk.3.attn_norm.weight", |t| t.2 = GgmlType::F16),
            r#"tensor "blk.3.attn_norm.weight" is of type F16: supported are F32"#,
        ),
        (
            tensor("output.weight", |t| t.2 = GgmlType::Iq4Xs),
            r#"tensor "output.weight" is of type IQ4_XS: supported are F32, F16"#,
        ),
        (tensor("output.weight", |t| t.1[1] = 2047), r#"tensor "output.weight" has the shape [256, 2047]"#),
        (set("split.count", 3u16).set("split.no", 0u16), "file 0 of 1 says that it is part 0 of 3"),
        (set("shardcluster.shard_id", 0u32), r#"metadata key "shardcluster.shard_count" is missing"#),
        (shard(0, 0, 0, 8), "shardcluster.shard_count is 0: it must be 1 to the model's layers, which are 8"),
        (shard(0, 9, 0, 8), "shardcluster.shard_count is 9"),
        (
            shard(2, 2, 0, 8),
            "shardcluster.shard_id is 2: it must be below shardcluster.shard_count, which is 2",
        ),
        (
            shard(0, 1, 0, 9),
            "shardcluster.layer_end is 9: it must be at most the model's layers, which are 8",
        ),
        (
            shard(0, 2, 4, 4),
            "shardcluster.layer_start is 4: it must be below shardcluster.layer_end, which is 4",
        ),
        (shard(1, 2, 0, 8), "is 0 and shardcluster.layer_end 8: it must be the range of shard 1 of 2"),
        (shard_of(0, 1, 0, 8, "AB"), r#"model_sha256 is "AB": it must be 64 lower-case hexadecimal digits"#),
    ];
    for (changed, message) in table {
        let error = changed.read().unwrap_err().to_string();
        assert!(error.contains(message), "{error}\n  should contain\n{message}");
    }
}

#[test]
fn variants_of_the_architecture_are_read() {
    let config = |changed: Changed| changed.read().unwrap();
    // Heads wider than embedding / heads, as in Mistral Nemo.
    let wide = set("llama.attention.key_length", 64u32).set("llama.attention.value_length", 64u32);
    let wide = wide.set("llama.rope.dimension_count", 64u32).tensors(|tensors| {
        for (name, dims, _) in tensors.iter_mut() {
            match name.split('.').nth(2) {
                Some("attn_q") => dims[1] = 512,
                Some("attn_k" | "attn_v") => dims[1] = 256,
                Some("attn_output") => dims[0] = 512,
                _ => {}
            }
        }
    });
    assert_eq!(config(wide).head_dim, 64);
    let tied = config(Changed::new().tensors(|tensors| tensors.retain(|t| t.0 != "output.weight")));
    assert_eq!(tied.head_tensor(), Some("token_embd.weight"));
    // Every head has its own keys and values where the count is not given.
    let error = Changed::new().remove("llama.attention.head_count_kv").read().unwrap_err().to_string();
    assert!(error.contains("call for [256, 256]"), "{error}");

    let linear = set("llama.rope.scaling.type", "linear").set("llama.rope.scaling.factor", 4.0f32);
    assert_eq!(config(linear).rope.linear_factor, 4.0);
    assert_eq!(config(set("llama.rope.scale_linear", 2.0f32)).rope.linear_factor, 2.0);
    let llama3 = set("llama.rope.scaling.type", "llama3")
        .set("llama.rope.scaling.factor", 8.0f32)
        .set("llama.rope.scaling.original_context_length", 8192u32);
    let expected = RopeFactors::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 8192,
    };
    assert_eq!(config(llama3).rope.factors, expected);
    // Without a tokenizer the file has to say how many tokens there are.
    let bare = ["tokens", "scores", "token_type"]
        .iter()
        .fold(Changed::new(), |changed, key| changed.remove(&format!("tokenizer.ggml.{key}")));
    assert_eq!(config(bare).vocab_size, 2048);
}
