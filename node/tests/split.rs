//! Splits of the default model, read back from disk: what a node, a peer and a second split would find.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod models;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use shard_engine::config::ModelConfig;
use shard_engine::gguf::{Gguf, HeaderWriter, TensorInfo};
use shard_node::store::hash::sha256;
use shard_node::store::split::{Shards, Split, SplitError, SplitRequest, split};
use shard_wire::layers::ranges;
use shard_wire::manifest::Manifest;
use tempfile::TempDir;

use models::{data, quantised, tiny, write_parts};

fn try_split(model: &Path, out: &Path, shards: Shards, force: bool) -> Result<Split, SplitError> {
    split(&SplitRequest { model, out, shards, force }, &|_, _, _| {})
}

fn refused(model: &Path, out: &Path, shards: Shards) -> String {
    try_split(model, out, shards, false).unwrap_err().to_string()
}

fn config(path: &Path) -> (Gguf, ModelConfig) {
    let gguf = Gguf::open(path).unwrap();
    let config = ModelConfig::read(std::slice::from_ref(&gguf)).unwrap();
    (gguf, config)
}

/// Everything that section 5 of the design promises of a split of `model`, whose parts' bytes are `parts`.
fn check(parts: &[Vec<u8>], out: &Path, split: &Split) {
    let headers: Vec<Gguf> = parts.iter().map(|b| Gguf::read(&b[..], b.len() as u64).unwrap()).collect();
    let model = ModelConfig::read(&headers).unwrap();
    let tensors: BTreeMap<&str, (&TensorInfo, &[u8])> = headers
        .iter()
        .zip(parts)
        .flat_map(|(gguf, bytes)| gguf.tensors.iter().map(|t| (t.name.as_str(), (t, data(bytes, t)))))
        .collect();
    let bytes = fs::read(out.join("manifest.json")).unwrap();
    let manifest = Manifest::from_bytes(&bytes).unwrap();
    assert_eq!(manifest, split.manifest);
    assert_eq!(sha256(&bytes), split.manifest_sha256);
    assert_eq!(manifest.model_sha256, sha256(&parts.concat()));
    assert_eq!(manifest.model_bytes, parts.concat().len() as u64);
    let ranges = ranges(&manifest.layer_starts, model.block_count).unwrap();

    for (id, (file, layers)) in manifest.files.iter().zip(&ranges).enumerate() {
        let path = out.join(&file.name);
        let bytes = fs::read(&path).unwrap();
        let (gguf, config) = config(&path);
        let shard = config.shard.as_ref().unwrap();
        assert_eq!((shard.id as usize, shard.count as usize), (id, ranges.len()));
        assert_eq!(config.layers, layers.start..layers.end);
        assert_eq!(shard.model_sha256, manifest.model_sha256);
        // The model's own metadata, byte for byte.
        for key in headers[0].metadata.keys().filter(|key| !key.starts_with("split.")) {
            assert_eq!(gguf.metadata.raw(key), headers[0].metadata.raw(key), "{key}");
        }
        assert_eq!(gguf.metadata.keys().filter(|key| key.starts_with("split.")).count(), 0);
        let wanted = |name: &str| match name {
            "token_embd.weight" => layers.start == 0 || (config.tied_head && layers.end == model.block_count),
            "output_norm.weight" | "output.weight" => layers.end == model.block_count,
            "rope_freqs.weight" => true,
            _ => (layers.start..layers.end).any(|layer| name.starts_with(&format!("blk.{layer}."))),
        };
        let expected: BTreeSet<&str> = tensors.keys().copied().filter(|name| wanted(name)).collect();
        assert_eq!(gguf.tensors.iter().map(|t| t.name.as_str()).collect::<BTreeSet<_>>(), expected);
        for (tensor, listed) in gguf.tensors.iter().zip(&file.tensors) {
            let (original, original_data) = tensors[tensor.name.as_str()];
            assert_eq!((&tensor.dims, tensor.ty), (&original.dims, original.ty));
            assert!(data(&bytes, tensor) == original_data, "{} of shard {id} differs", tensor.name);
            assert_eq!(
                (&listed.name, listed.offset, listed.size, &listed.sha256),
                (&tensor.name, tensor.offset, tensor.bytes, &sha256(original_data))
            );
        }
    }
    let tokenizer = Gguf::open(&out.join("tokenizer.gguf")).unwrap();
    assert!(tokenizer.tensors.is_empty());
    for key in tokenizer.metadata.keys() {
        assert!(key.starts_with("tokenizer.") || key.starts_with("general."), "{key}");
        assert_eq!(tokenizer.metadata.raw(key), headers[0].metadata.raw(key));
    }
    assert!(tokenizer.metadata.contains("tokenizer.ggml.tokens"));
    for file in &manifest.files {
        let bytes = fs::read(out.join(&file.name)).unwrap();
        assert_eq!((file.size, &file.sha256), (bytes.len() as u64, &sha256(&bytes)));
        for piece in &file.pieces {
            let piece_bytes = &bytes[piece.offset as usize..(piece.offset + piece.size) as usize];
            assert_eq!(piece.sha256, sha256(piece_bytes));
        }
    }
    let names: BTreeSet<String> = names(out);
    let expected = manifest.files.iter().map(|file| file.name.clone()).chain(["manifest.json".into()]);
    assert_eq!(names, expected.collect());
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_count_gives_whole_shards_with_unchanged_bytes() {
    let model = fs::read(tiny()).unwrap();
    for shards in 1..=8 {
        let out = TempDir::new().unwrap();
        let split = try_split(&tiny(), out.path(), Shards::Count(shards), false).unwrap();
        assert_eq!(split.manifest.layer_starts.len(), shards);
        check(std::slice::from_ref(&model), out.path(), &split);
    }
    for (model, starts) in [("q4_k_m", vec![0, 1, 7]), ("q8_0", vec![0, 5]), ("q4_0", vec![0])] {
        let out = TempDir::new().unwrap();
        let split = try_split(&quantised(model), out.path(), Shards::Starts(starts.clone()), false).unwrap();
        assert_eq!(split.manifest.layer_starts, starts);
        check(&[fs::read(quantised(model)).unwrap()], out.path(), &split);
    }
}

/// The format is fixed: nodes of other releases have these files.
#[test]
fn the_manifest_of_the_default_model_is_what_it_was() {
    let out = TempDir::new().unwrap();
    let split = try_split(&tiny(), out.path(), Shards::Count(2), false).unwrap();
    let manifest = &split.manifest;
    assert_eq!(manifest.model_sha256, "8d7fd68ae1c3c803a1796541eaabfade6a269b2033a5b6f09b2486ac32f46244");
    let files: Vec<_> = manifest
        .files
        .iter()
        .map(|f| (f.name.as_str(), f.size, f.layers().to_string(), f.pieces.len()))
        .collect();
    assert_eq!(
        files,
        [
            ("shard-0.gguf", 5_824_192, "0-4".to_owned(), 38),
            ("shard-1.gguf", 5_825_280, "4-8".to_owned(), 39),
            ("tokenizer.gguf", 45_504, "0-0".to_owned(), 1),
        ]
    );
    let piece = &manifest.files[0].pieces[2];
    assert_eq!((piece.offset, piece.size), (1_097_408, 1024));
    // Made once by a second implementation of section 5, in another language.
    assert_eq!(split.manifest_sha256, "ab52fa3f14b44a48146e01e0858c2e6f6df1cd885c1df566bd5b7b153e07e0fd");
}

#[test]
fn a_tied_head_and_rope_factors_go_where_they_are_needed() {
    let folder = TempDir::new().unwrap();
    let model = folder.path().join("tied.gguf");
    write_changed_model(&model);
    let out = folder.path().join("shards");
    let split = try_split(&model, &out, Shards::Count(3), false).unwrap();
    check(&[fs::read(&model).unwrap()], &out, &split);
    let heads: Vec<_> =
        (0..3).map(|i| config(&out.join(format!("shard-{i}.gguf"))).1.head_tensor()).collect();
    assert_eq!(heads, [None, None, Some("token_embd.weight")]);
}

/// The default model with a tied head, rope factors and an alignment of 64.
fn write_changed_model(path: &Path) {
    let (source, bytes) = (Gguf::open(&tiny()).unwrap(), fs::read(tiny()).unwrap());
    let mut writer = HeaderWriter::new(64);
    for key in source.metadata.keys() {
        writer.copy(&source.metadata, key);
    }
    let kept: Vec<_> = source.tensors.iter().filter(|tensor| tensor.name != "output.weight").collect();
    for tensor in &kept {
        writer.tensor(&tensor.name, &tensor.dims, tensor.ty).unwrap();
    }
    writer.tensor("rope_freqs.weight", &[16], shard_engine::gguf::GgmlType::F32).unwrap();
    let header = writer.finish();
    let mut file = header.bytes;
    let factors: Vec<u8> = (0..16).flat_map(|i| (1.0 + i as f32).to_le_bytes()).collect();
    let contents = kept.iter().map(|tensor| data(&bytes, tensor)).chain([&factors[..]]);
    for (offset, content) in header.offsets.iter().zip(contents) {
        file.resize(*offset as usize, 0);
        file.extend_from_slice(content);
    }
    file.resize(header.file_bytes as usize, 0);
    fs::write(path, file).unwrap();
}

#[test]
fn parts_are_found_beside_the_first() {
    let folder = TempDir::new().unwrap();
    let parts = write_parts(folder.path());
    let out = folder.path().join("shards");
    let split = try_split(&parts[0], &out, Shards::Count(4), false).unwrap();
    let bytes: Vec<Vec<u8>> = parts.iter().map(|path| fs::read(path).unwrap()).collect();
    check(&bytes, &out, &split);

    // The pieces of the tensors are those of the model in one file: peers of either can serve the other.
    let whole = TempDir::new().unwrap();
    let whole = try_split(&tiny(), whole.path(), Shards::Count(4), false).unwrap();
    for (a, b) in split.manifest.files.iter().zip(&whole.manifest.files) {
        let hashes = |file: &shard_wire::manifest::File| -> BTreeSet<String> {
            file.pieces[1..].iter().map(|piece| piece.sha256.clone()).collect()
        };
        assert_eq!(hashes(a), hashes(b));
    }

    let message = refused(&parts[1], &out, Shards::Count(4));
    assert!(message.contains("is part 2 of 3 of a model: give the first part"), "{message}");
    let renamed = folder.path().join("model.gguf");
    fs::copy(&parts[0], &renamed).unwrap();
    let message = refused(&renamed, &out, Shards::Count(4));
    assert!(message.contains("is not called NAME-00001-of-00003.gguf"), "{message}");
    fs::copy(&parts[0], &parts[2]).unwrap();
    let message = refused(&parts[0], &out, Shards::Count(4));
    assert!(message.contains("file 2 of 3 says that it is part 0 of 3"), "{message}");
    fs::remove_file(&parts[2]).unwrap();
    let message = refused(&parts[0], &out, Shards::Count(4));
    assert!(message.contains("tiny-00003-of-00003.gguf: cannot be opened: No such file"), "{message}");
}

#[test]
fn a_split_that_is_there_is_kept_only_if_it_is_whole() {
    let out = TempDir::new().unwrap();
    let first = try_split(&tiny(), out.path(), Shards::Count(4), false).unwrap();
    assert!(!first.reused);
    let shard = out.path().join("shard-2.gguf");
    let written = fs::metadata(&shard).unwrap().modified().unwrap();
    let second = try_split(&tiny(), out.path(), Shards::Starts(vec![0, 2, 4, 6]), false).unwrap();
    assert!(second.reused);
    assert_eq!(second.manifest, first.manifest);
    assert_eq!(fs::metadata(&shard).unwrap().modified().unwrap(), written);

    // One bit of one shard: it is written again.
    let mut bytes = fs::read(&shard).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&shard, bytes).unwrap();
    let third = try_split(&tiny(), out.path(), Shards::Count(4), false).unwrap();
    assert!(!third.reused);
    check(&[fs::read(tiny()).unwrap()], out.path(), &third);

    // What a killed split has left is swept up.
    fs::write(out.path().join("shard-7.gguf.splitting"), "half").unwrap();
    // Fewer shards of the same model take the place of more, without a question.
    let fewer = try_split(&tiny(), out.path(), Shards::Count(2), false).unwrap();
    assert!(!fewer.reused);
    check(&[fs::read(tiny()).unwrap()], out.path(), &fewer);
}

#[test]
fn shards_of_another_model_are_replaced_only_by_force() {
    let out = TempDir::new().unwrap();
    try_split(&quantised("q4_0"), out.path(), Shards::Count(8), false).unwrap();
    let before: Vec<_> =
        names(out.path()).iter().map(|name| fs::read(out.path().join(name)).unwrap()).collect();
    let message = refused(&tiny(), out.path(), Shards::Count(4));
    assert!(
        message.contains("manifest.json lists the shards of another model (SHA-256 3f25814971179486"),
        "{message}"
    );
    assert!(message.contains("--force"), "{message}");
    let after: Vec<_> =
        names(out.path()).iter().map(|name| fs::read(out.path().join(name)).unwrap()).collect();
    assert!(before == after);

    // Without a manifest the shards themselves say whose they are.
    fs::remove_file(out.path().join("manifest.json")).unwrap();
    let message = refused(&tiny(), out.path(), Shards::Count(4));
    assert!(message.contains("shard-0.gguf is there and is not of this model"), "{message}");
    let again = try_split(&quantised("q4_0"), out.path(), Shards::Count(8), false).unwrap();
    assert!(!again.reused);

    let forced = try_split(&tiny(), out.path(), Shards::Count(4), true).unwrap();
    check(&[fs::read(tiny()).unwrap()], out.path(), &forced);

    fs::write(out.path().join("manifest.json"), "{}").unwrap();
    let message = refused(&tiny(), out.path(), Shards::Count(4));
    assert!(message.contains("manifest.json is there and is none of ours"), "{message}");
    let forced = try_split(&tiny(), out.path(), Shards::Count(4), true).unwrap();
    check(&[fs::read(tiny()).unwrap()], out.path(), &forced);
}

#[test]
fn what_cannot_be_split_is_named_and_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out");
    let shards = folder.path().join("shards");
    try_split(&tiny(), &shards, Shards::Count(4), false).unwrap();
    let cut = folder.path().join("cut.gguf");
    fs::write(&cut, &fs::read(tiny()).unwrap()[..9_000_000]).unwrap();
    let text = folder.path().join("text.gguf");
    fs::write(&text, "once upon a time").unwrap();
    for (model, shards, message) in [
        (tiny(), Shards::Count(0), "0 shards of 8 layers: a shard holds at least one layer (1 to 8 shards)"),
        (tiny(), Shards::Count(9), "9 shards of 8 layers: a shard holds at least one layer (1 to 8 shards)"),
        (
            tiny(),
            Shards::Starts(vec![0, 8]),
            "layer start 8 is not a layer of the model, which has 8 (0 to 7)",
        ),
        (tiny(), Shards::Starts(vec![2]), "the first layer start is 2: it must be 0"),
        (
            shards.join("shard-1.gguf"),
            Shards::Count(1),
            "this file is shard 1 of 4: only a whole model can be split",
        ),
        (shards.join("tokenizer.gguf"), Shards::Count(1), "metadata key \"llama.block_count\" is missing"),
        (cut, Shards::Count(1), "lies outside the file"),
        (text, Shards::Count(1), "not a GGUF file"),
        (folder.path().join("none.gguf"), Shards::Count(1), "No such file"),
        (folder.path().to_owned(), Shards::Count(1), ": not a regular file"),
    ] {
        let found = refused(&model, &out, shards);
        assert!(found.contains(message), "{found}\n  should contain\n{message}");
        assert!(!out.exists());
    }
    // Something else in the place of the folder, and of a file in it.
    let message = refused(&tiny(), &tiny(), Shards::Count(1));
    assert!(message.starts_with("cannot use the folder"), "{message}");
    fs::create_dir_all(out.join("shard-1.gguf.splitting")).unwrap();
    let message = refused(&tiny(), &out, Shards::Count(2));
    assert!(
        message.starts_with("cannot replace")
            && message.ends_with("shard-1.gguf.splitting: Is a directory (os error 21)"),
        "{message}"
    );
    assert_eq!(names(&out), BTreeSet::from(["shard-1.gguf.splitting".to_owned()]));
}

#[test]
fn two_splits_never_write_to_one_folder() {
    let out = TempDir::new().unwrap();
    let holder = fs::File::open(out.path()).unwrap();
    holder.lock().unwrap();
    let message = refused(&tiny(), out.path(), Shards::Count(2));
    assert!(message.contains("another program is splitting a model into"), "{message}");
    holder.unlock().unwrap();
    try_split(&tiny(), out.path(), Shards::Count(2), false).unwrap();
}

/// A file system that takes no more, by the limit on file sizes: 1 or 2 MiB as the shell counts.
#[test]
fn a_disk_that_is_full_leaves_nothing_and_says_how_much_is_needed() {
    let out = TempDir::new().unwrap();
    let script = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" split \"$1\" --shards 4 --out \"$2\"";
    let output = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_shardctl")])
        .args([tiny().as_path(), out.path()])
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains(".gguf: File too large"), "{message}");
    assert!(message.contains("the split needs 11788288 bytes in this folder"), "{message}");
    assert_eq!(names(out.path()), BTreeSet::new());
}
