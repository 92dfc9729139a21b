//! The vectors of llama.cpp: its vocabularies, strings, and the ids that it gives them. They are too large to commit;
//! `e2e/tokenizers.sh` fetches them and runs this.

#![allow(clippy::expect_used, reason = "a test may panic, its helpers too")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use shard_engine::gguf::Gguf;
use shard_engine::tokenizer::{Start, Tokenizer};

/// Those with vectors that we claim to support.
const SUPPORTED: [&str; 13] = [
    "llama-spm",
    "phi-3",
    "llama-bpe",
    "qwen2",
    "qwen35",
    "command-r",
    "deepseek-llm",
    "deepseek-coder",
    "starcoder",
    "refact",
    "gpt-2",
    "mpt",
    "falcon",
];

#[test]
#[ignore = "needs llama.cpp's vocabularies: run e2e/tokenizers.sh"]
fn ids_are_those_of_llama_cpp() {
    let folder = PathBuf::from(std::env::var_os("GGML_VOCABS").expect("GGML_VOCABS names their folder"));
    println!("{:<16} {:>9} {:>9} {:>12} {:>12}", "vocabulary", "equal", "back", "load ms", "MB/s");
    let failed: Vec<_> = SUPPORTED.into_iter().filter(|name| !check(&folder, name)).collect();
    assert!(failed.is_empty(), "differ from llama.cpp: {failed:?}");
}

fn check(folder: &Path, name: &str) -> bool {
    let file = |suffix: &str| folder.join(format!("ggml-vocab-{name}.gguf{suffix}"));
    let read = |suffix| std::fs::read_to_string(file(suffix)).expect("the vectors are there");
    let started = Instant::now();
    let gguf = Gguf::open(&file("")).expect("a GGUF file");
    let tokenizer = Tokenizer::from_gguf(&gguf).expect("a tokenizer that we support");
    let load = started.elapsed();

    let texts = read(".inp");
    let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    let expected = read(".out");
    let expected: Vec<Vec<u32>> = expected
        .lines()
        .map(|line| line.split_whitespace().map(|id| id.parse().expect("an id")).collect())
        .collect();
    assert!(expected.len() >= 46 && texts.len() >= expected.len(), "{name}: fewer vectors than there were");

    let (mut equal, mut back) = (0, 0);
    for (text, expected) in texts.iter().zip(&expected) {
        let ids = tokenizer.encode(text, false, false);
        if ids == *expected {
            equal += 1;
        } else {
            println!("{name}: {text:?}\n  ours {ids:?}\n  theirs {expected:?}");
        }
        back += usize::from(tokenizer.decode(&ids, Start::Text) == *text);
    }

    let long = texts.concat().repeat(1000);
    let started = Instant::now();
    let ids = tokenizer.encode(&long, true, true);
    assert!(!ids.is_empty());
    let rate = long.len() as f64 / started.elapsed().as_secs_f64() / 1e6;
    let all = expected.len();
    println!("{name:<16} {equal:>5}/{all} {back:>6}/{all} {:>12} {rate:>12.1}", load.as_millis());
    equal == all
}
