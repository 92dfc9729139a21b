//! Every decoder of bytes from outside, on stable: the corpus of `node/fuzz`, and what comes near it.
//!
//! 1. `corpus/TARGET/good-*` are made by our own encoders and must be read; `found-*` are what fuzzing found: they must
//!    not break anything, read or refused.
//! 2. [`mutations`] cuts, flips and splices each of them, the same way each time.
//! 3. `targets` (shared with `node/fuzz`) says what must hold.
//!
//! Encoders changed? `cargo test -p shard-node --test decoders -- --ignored` writes the good ones anew ([`corpus`]).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test, its helpers too")]
#![allow(unreachable_pub, missing_docs, reason = "a test program has no users")]

mod corpus;
mod mutations;
#[path = "../../fuzz/src/targets/mod.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use mutations::mutations;
use targets::{TARGETS, Target};

/// Bytes that a file of the corpus may have, and all of them together.
const MAX_FILE: usize = 16 << 10;
const MAX_CORPUS: usize = 300 << 10;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The corpus of a target, in the order of names.
fn files(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz().join("corpus").join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Tries one input; what breaks the target is kept, to be looked at and to join the corpus.
fn run(target: &Target, what: &str, data: &[u8]) -> Result<bool, String> {
    catch_unwind(AssertUnwindSafe(|| target.run(data))).map_err(|_| {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("found-{}", target.name));
        fs::write(&kept, data).unwrap();
        format!("{} broke on {what}: the input is {}", target.name, kept.display())
    })
}

/// Tries the corpus of a target and its mutations, up to the first that breaks it.
fn run_all(target: &Target, files: &[(String, Vec<u8>)]) -> Result<(), String> {
    // Whatever is made once is made now.
    run(target, "nothing", &[])?;
    for (name, data) in files {
        if !run(target, name, data)? && name.starts_with("good-") {
            return Err(format!("{} does not read {name} (see the top of this test)", target.name));
        }
    }
    for (number, data) in mutations(files).enumerate() {
        run(target, &format!("mutation {number}"), &data)?;
    }
    Ok(())
}

/// One test, for memory is counted in the whole process: another one would count, too.
#[test]
fn no_decoder_breaks_on_its_corpus_or_on_what_comes_near_it() {
    every_target_can_be_fuzzed();
    let corpus: Vec<_> = TARGETS.iter().map(|target| (target, files(target))).collect();
    for (target, files) in &corpus {
        assert!(files.iter().any(|(name, _)| name.starts_with("good-")), "{} reads nothing", target.name);
        assert!(files.iter().all(|(_, data)| data.len() <= MAX_FILE), "a file of {} is large", target.name);
    }
    let total: usize = corpus.iter().flat_map(|(_, files)| files).map(|(_, data)| data.len()).sum();
    assert!(total <= MAX_CORPUS, "the corpus has {total} bytes");

    let broken: Vec<String> =
        corpus.iter().filter_map(|(target, files)| run_all(target, files).err()).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// `cargo fuzz` finds every target, and each by its name.
fn every_target_can_be_fuzzed() {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for Target { name, .. } in TARGETS {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is no [[bin]]");
        let source = fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(source.contains(&format!("run(\"{name}\", data)")), "{name}.rs runs something else");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    assert_eq!(fs::read_dir(fuzz().join("corpus")).unwrap().count(), TARGETS.len());
}

#[test]
#[ignore = "writes the corpus, when an encoder has changed"]
fn write_the_good_files() {
    for (target, name, data) in corpus::good() {
        let folder = fuzz().join("corpus").join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("good-{name}")), data).unwrap();
    }
}
