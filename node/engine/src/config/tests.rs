use std::path::PathBuf;

use super::*;

fn model(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn the_tiny_models_are_read() {
    for name in [
        "../../models_cache/tiny-tales-f16.gguf",
        "tests/data/tiny-tales-q8_0.gguf",
        "tests/data/tiny-tales-q4_k_m.gguf",
        "tests/data/tiny-tales-q4_0.gguf",
    ] {
        let gguf = Gguf::open(&model(name)).unwrap();
        let config = ModelConfig::read(std::slice::from_ref(&gguf)).unwrap();
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
