//! Views of a model against the files that a split of it writes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod models;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use shard_node::store::split::{Shards, SplitRequest, Step, split};
use shard_node::store::view::Views;
use tempfile::TempDir;

fn views(model: &Path, shards: &Shards) -> Views {
    Views::open(model, shards, None, &|_, _, _| {}).unwrap()
}

/// The manifest, every file whole, and random ranges of every file.
fn check(model: &Path, shards: Shards) {
    let out = TempDir::new().unwrap();
    let views = views(model, &shards);
    split(&SplitRequest { model, out: out.path(), shards, force: false }, &|_, _, _| {}).unwrap();
    let manifest = fs::read(out.path().join("manifest.json")).unwrap();
    assert!(views.bytes == manifest, "the manifests differ");
    assert_eq!(views.files.len(), views.manifest.files.len());
    for (view, file) in views.files.iter().zip(&views.manifest.files) {
        let bytes = fs::read(out.path().join(&file.name)).unwrap();
        let size = bytes.len();
        assert_eq!(view.size(), size as u64);
        let mut all = vec![1; size];
        view.read_at(0, &mut all).unwrap();
        assert!(all == bytes, "{} differs", file.name);

        let range = (0..=size).prop_flat_map(move |from| (Just(from), from..=size.min(from + 300_000)));
        let mut runner = TestRunner::new(ProptestConfig { cases: 40, ..ProptestConfig::default() });
        runner
            .run(&range, |(from, to)| {
                let mut found = vec![1; to - from];
                view.read_at(from as u64, &mut found).unwrap();
                prop_assert!(found == bytes[from..to], "{} differs in {}..{}", file.name, from, to);
                Ok(())
            })
            .unwrap();
        for (offset, length) in [(size as u64, 1), (size as u64 + 1, 0), (u64::MAX, 2), (0, size + 1)] {
            let error = view.read_at(offset, &mut vec![0; length]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{offset}+{length}");
        }
    }
}

#[test]
fn views_are_what_a_split_writes_for_every_shard_count() {
    for shards in 1..=8 {
        check(&models::tiny(), Shards::Count(shards));
    }
    check(&models::quantised("q4_k_m"), Shards::Starts(vec![0, 1, 7]));
    check(&models::quantised("q8_0"), Shards::Starts(vec![0, 5]));
}

#[test]
fn views_of_a_model_in_parts_are_what_a_split_writes() {
    let folder = TempDir::new().unwrap();
    let parts = models::write_parts(folder.path());
    for shards in [1, 3, 8] {
        check(&parts[0], Shards::Count(shards));
    }
}

#[test]
fn a_known_hash_saves_a_pass_over_the_model() {
    let steps = |known: Option<&str>| {
        let steps = std::sync::Mutex::new(Vec::new());
        let views = Views::open(&models::tiny(), &Shards::Count(2), known, &|step, more, total| {
            let mut steps = steps.lock().unwrap();
            match steps.last_mut() {
                Some((last, sum, all)) if *last == step && *all == total => *sum += more,
                _ => steps.push((step, more, total)),
            }
        });
        (steps.into_inner().unwrap(), views.unwrap())
    };
    let (all, unknown) = steps(None);
    let (size, files) = (unknown.manifest.model_bytes, unknown.manifest.files.iter().map(|f| f.size).sum());
    let described: u64 =
        unknown.manifest.files.iter().flat_map(|file| &file.pieces).map(|piece| piece.size).sum();
    assert_eq!(all, [(Step::Hash, size, size), (Step::Describe, described, files)]);
    let (fewer, known) = steps(Some(&unknown.manifest.model_sha256));
    assert_eq!(fewer, [(Step::Describe, described, files)]);
    assert!(known.bytes == unknown.bytes);
}

#[test]
fn a_model_that_changes_is_not_served_as_the_one_that_was_hashed() {
    let folder = TempDir::new().unwrap();
    let model = folder.path().join("model.gguf");
    fs::copy(models::tiny(), &model).unwrap();
    let views = views(&model, &Shards::Count(2));
    let mut buffer = vec![0; 100];
    let data = views.manifest.files[1].pieces[1].offset;
    views.files[1].read_at(data, &mut buffer).unwrap();

    let mut bytes = fs::read(&model).unwrap();
    bytes.truncate(bytes.len() - 1);
    fs::write(&model, bytes).unwrap();
    let error = views.files[1].read_at(data, &mut buffer).unwrap_err();
    assert!(error.to_string().contains("model.gguf has changed since it was hashed"), "{error}");
    // The header is made from what was read when it was opened.
    views.files[1].read_at(0, &mut buffer).unwrap();
}
