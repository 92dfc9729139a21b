//! Models for tests.

#![allow(dead_code, unreachable_pub, reason = "each test program is a crate and uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests, outside a test function")]

use std::fs;
use std::path::{Path, PathBuf};

use shard_engine::gguf::{Gguf, HeaderWriter, TensorInfo};

/// The default model.
pub fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models_cache/tiny-tales-f16.gguf")
}

/// It, quantised.
pub fn quantised(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("engine/tests/data/tiny-tales-{kind}.gguf"))
}

pub fn data<'a>(file: &'a [u8], tensor: &TensorInfo) -> &'a [u8] {
    &file[tensor.offset as usize..(tensor.offset + tensor.bytes) as usize]
}

/// The default model in three parts as llama.cpp's `gguf-split` names and marks them.
pub fn write_parts(folder: &Path) -> Vec<PathBuf> {
    let (source, bytes) = (Gguf::open(&tiny()).unwrap(), fs::read(tiny()).unwrap());
    source
        .tensors
        .chunks(source.tensors.len().div_ceil(3))
        .enumerate()
        .map(|(i, tensors)| {
            let mut writer = HeaderWriter::default();
            if i == 0 {
                for key in source.metadata.keys() {
                    writer.copy(&source.metadata, key);
                }
            }
            writer.put("split.no", i as u16).put("split.count", 3u16);
            writer.put("split.tensors.count", source.tensors.len() as i32);
            for tensor in tensors {
                writer.tensor(&tensor.name, &tensor.dims, tensor.ty).unwrap();
            }
            let header = writer.finish();
            let mut file = header.bytes;
            for (offset, tensor) in header.offsets.iter().zip(tensors) {
                file.resize(*offset as usize, 0);
                file.extend_from_slice(data(&bytes, tensor));
            }
            file.resize(header.file_bytes as usize, 0);
            let path = folder.join(format!("tiny-{:05}-of-00003.gguf", i + 1));
            fs::write(&path, file).unwrap();
            path
        })
        .collect()
}
