//! What `shardctl inspect` and `shardctl plan` say of the default model and of its shards.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use shard_engine::gguf::HeaderWriter;
use shard_node::store::inspect::{Report, inspect};
use shard_node::store::plan::propose;
use shard_node::store::split::{Shards, Split, SplitRequest, Step, split};
use tempfile::TempDir;

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models_cache/tiny-tales-f16.gguf")
}

fn split_tiny(out: &Path, shards: Shards) -> Split {
    split(&SplitRequest { model: &tiny(), out, shards, force: false }, &|_, _, _| {}).unwrap()
}

#[test]
fn inspect_knows_every_kind_of_file() {
    let folder = TempDir::new().unwrap();
    let shards = folder.path().join("shards");
    split_tiny(&shards, Shards::Count(3));
    let Report::Model(model) = inspect(&tiny(), true).unwrap() else { panic!() };
    let hyper = model.model.unwrap();
    assert_eq!((hyper.total_layers, hyper.vocab_size, hyper.kv_bytes_per_token), (8, 2048, 8 * 128 * 4));
    assert_eq!((model.parameters, model.tensors.unwrap().len()), (5_771_520, 75));
    let Report::Shard(shard) = inspect(&shards.join("shard-1.gguf"), false).unwrap() else { panic!() };
    assert_eq!(
        (shard.shard.unwrap().shard_id, shard.model.unwrap().layers.to_string()),
        (1, "3-6".to_owned())
    );
    assert!(matches!(inspect(&shards.join("tokenizer.gguf"), false).unwrap(), Report::Tokenizer(_)));
    let Report::Manifest(manifest) = inspect(&shards.join("manifest.json"), false).unwrap() else { panic!() };
    assert_eq!(manifest.layer_starts, [0, 3, 6]);

    // A sound file of another architecture is shown, with the reason why nobody can run it.
    let other = folder.path().join("other.gguf");
    let mut writer = HeaderWriter::default();
    writer.put("general.architecture", "gpt2");
    fs::write(&other, writer.finish().bytes).unwrap();
    let report = inspect(&other, false).unwrap();
    assert!(
        report.problem().unwrap().ends_with("general.architecture is \"gpt2\": only \"llama\" is supported")
    );
    assert!(report.to_string().contains("general.architecture = \"gpt2\""));
}

#[test]
fn a_plan_gives_the_last_shard_fewer_layers_for_its_head() {
    let plan = propose(&tiny(), 2).unwrap();
    // A layer has 1,181,696 bytes, the head 1,048,576: four layers and the head cost more than five layers.
    assert_eq!(plan.layer_starts, [0, 4]);
    assert_eq!(propose(&tiny(), 3).unwrap().layer_starts, [0, 3, 6]);
    let loads: f64 = plan.shards.iter().map(|shard| shard.load).sum();
    assert!((loads - 2.0).abs() < 1e-9);
    let out = TempDir::new().unwrap();
    let split = split_tiny(out.path(), Shards::Starts(plan.layer_starts));
    let sizes: Vec<u64> = split.manifest.files.iter().map(|file| file.size).take(2).collect();
    assert_eq!(plan.shards.iter().map(|shard| shard.bytes).collect::<Vec<_>>(), sizes);
}

#[test]
fn progress_comes_to_what_it_promised() {
    let out = TempDir::new().unwrap();
    for steps in [[Step::Hash, Step::Copy], [Step::Hash, Step::Verify]] {
        let seen = Mutex::new(Vec::<(Step, u64, u64)>::new());
        let request =
            SplitRequest { model: &tiny(), out: out.path(), shards: Shards::Count(3), force: false };
        let listen = |step, more, total| {
            let mut seen = seen.lock().unwrap();
            match seen.iter_mut().find(|(known, ..)| *known == step) {
                Some((_, sum, _)) => *sum += more,
                None => seen.push((step, more, total)),
            }
        };
        split(&request, &listen).unwrap();
        let seen = seen.into_inner().unwrap();
        assert_eq!(seen.iter().map(|(step, ..)| *step).collect::<Vec<_>>(), steps);
        for (step, sum, total) in seen {
            // Padding is written, but too little to be told.
            assert!(sum <= total && total - sum < 8192, "{step:?}: {sum} of {total}");
        }
    }
}
