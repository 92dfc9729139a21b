//! The header of a GGUF file, and what it says about a model.

use std::collections::HashSet;

use shard_engine::config::{ModelConfig, expected_tensors};
use shard_engine::gguf::{Gguf, HeaderWriter};

/// A header, as a file of its own and as the front of a much larger one.
pub fn gguf(data: &[u8]) -> bool {
    let alone = header(data, data.len() as u64);
    alone | header(data, 1 << 40)
}

fn header(data: &[u8], file_bytes: u64) -> bool {
    let Ok(gguf) = Gguf::read(data, file_bytes) else { return false };
    placed(&gguf);
    copied(&gguf);
    if let Ok(config) = ModelConfig::read(std::slice::from_ref(&gguf)) {
        sound(&config, &gguf);
    }
    true
}

/// Tensors lie in the file, aligned and apart from one another.
fn placed(gguf: &Gguf) {
    assert!(gguf.alignment.is_power_of_two() && gguf.data_offset.is_multiple_of(gguf.alignment));
    let mut places: Vec<(u64, u64)> =
        gguf.tensors.iter().map(|tensor| (tensor.offset, tensor.offset + tensor.bytes)).collect();
    places.sort_unstable();
    assert!(places.iter().all(|(from, to)| *from >= gguf.data_offset && from < to && *to <= gguf.file_bytes));
    assert!(places.iter().all(|(from, _)| from.is_multiple_of(gguf.alignment)));
    assert!(places.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    for tensor in &gguf.tensors {
        assert_eq!(gguf.tensor(&tensor.name), Some(tensor));
        assert_eq!(tensor.values() / tensor.ty.block_values() * tensor.ty.block_bytes(), tensor.bytes);
    }
}

/// A header made of what was read, as a shard's is, says the same.
fn copied(gguf: &Gguf) {
    let mut writer = HeaderWriter::new(gguf.alignment);
    for key in gguf.metadata.keys() {
        assert!(gguf.metadata.value(key).is_some(), "{key:?} was scanned and cannot be read");
        writer.copy(&gguf.metadata, key);
    }
    for tensor in &gguf.tensors {
        writer.tensor(&tensor.name, &tensor.dims, tensor.ty).expect("read from a file");
    }
    let header = writer.finish();
    let again = Gguf::read(&*header.bytes, header.file_bytes).expect("a header of ours");
    assert!(again.metadata.keys().eq(gguf.metadata.keys()));
    assert!(gguf.metadata.keys().all(|key| again.metadata.raw(key) == gguf.metadata.raw(key)));
    assert!(again.tensors.iter().map(|tensor| tensor.offset).eq(header.offsets));
    let about = |gguf: &Gguf| -> Vec<_> {
        gguf.tensors.iter().map(|t| (t.name.clone(), t.dims.clone(), t.ty, t.bytes)).collect()
    };
    assert_eq!(about(&again), about(gguf));
}

/// Whoever holds a configuration may index by it.
fn sound(config: &ModelConfig, gguf: &Gguf) {
    assert!(config.layers.start < config.layers.end && config.layers.end <= config.block_count);
    assert!(config.head_count.is_multiple_of(config.head_count_kv) && config.head_dim > 0);
    assert!(config.rope.dims <= config.head_dim && config.rope.dims.is_multiple_of(2));
    assert!(config.rms_eps > 0.0 && config.rms_eps < 1.0 && config.context_length > 0);
    assert!(config.vocab_size > 0 && config.embedding_length > 0 && config.feed_forward_length > 0);
    let mut names = HashSet::new();
    for expected in expected_tensors(config) {
        match gguf.tensor(&expected.name) {
            Some(tensor) => assert_eq!(tensor.dims, expected.dims),
            None => assert!(expected.optional, "{} is missing", expected.name),
        }
        names.insert(expected.name);
    }
    assert!(gguf.tensors.iter().all(|tensor| names.contains(&tensor.name)));
}
