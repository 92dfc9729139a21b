//! What a caller may do wrong is refused with an error that names it, and leaves the sessions as they were.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{bits, model};
use shard_engine::{Input, KvDtype, LoadOptions, Output, Rows, Session, SessionError, ShardModel, Weights};

fn options() -> LoadOptions {
    LoadOptions { threads: 1, weights: Weights::Map, kv_dtype: KvDtype::F32, context_length: Some(64) }
}

fn load(layers: std::ops::Range<usize>) -> ShardModel {
    ShardModel::load_range(&model("f16"), layers, &options(), &mut |_, _| {}).unwrap()
}

fn refusal(shard: &mut ShardModel, session: &mut Session, position: usize, input: Input<'_>) -> String {
    let before = session.position();
    let error = shard.forward(&mut [Rows { session, position, input, logits: true }]).unwrap_err();
    assert_eq!(session.position(), before);
    error.to_string()
}

#[test]
fn forwards_that_make_no_sense() {
    let (mut first, mut last) = (load(0..1), load(7..8));
    let (mut session, mut late) = (first.session(10).unwrap(), last.session(10).unwrap());
    let hidden = vec![0.5; 256 * 11];
    let tokens = Input::Tokens;
    let values = |len: usize| Input::Hidden(&hidden[..len]);
    let cases = [
        (refusal(&mut first, &mut session, 0, tokens(&[])), "entry 0 has no rows"),
        (
            refusal(&mut first, &mut session, 0, tokens(&[1, 2048])),
            "entry 0 has token 2048 in row 1, beyond the vocabulary of 2048",
        ),
        (
            refusal(&mut first, &mut session, 1, tokens(&[1])),
            "entry 0 begins at position 1, but its session is at 0",
        ),
        (
            refusal(&mut first, &mut session, usize::MAX, tokens(&[1])),
            "entry 0 begins at position 18446744073709551615, but its session is at 0",
        ),
        (
            refusal(&mut first, &mut session, 0, tokens(&[1; 11])),
            "entry 0 has 11 rows from position 0: its session has room for 10",
        ),
        (
            refusal(&mut first, &mut session, 0, values(256)),
            "entry 0 brings hidden states, but this shard takes tokens",
        ),
        (
            refusal(&mut last, &mut late, 0, tokens(&[1])),
            "entry 0 brings tokens, but this shard takes hidden states",
        ),
        (
            refusal(&mut last, &mut late, 0, values(300)),
            "entry 0 has 300 hidden values: not a multiple of the width 256",
        ),
        (refusal(&mut last, &mut late, 0, values(0)), "entry 0 has no rows"),
        (
            refusal(&mut last, &mut late, 0, values(11 * 256)),
            "entry 0 has 11 rows from position 0: its session has room for 10",
        ),
        (refusal(&mut last, &mut session, 0, values(256)), "entry 0 has a session of another shard"),
    ];
    for (error, expected) in cases {
        assert_eq!(error, expected);
    }
    assert_eq!(first.forward(&mut []).unwrap(), []);
}

fn entry<'a>(session: &'a mut Session, tokens: &'a [u32]) -> Rows<'a> {
    Rows { session, position: 0, input: Input::Tokens(tokens), logits: true }
}

#[test]
fn one_bad_entry_refuses_the_batch_and_harms_no_session() {
    let mut shard = load(0..8);
    let mut undisturbed = shard.session(10).unwrap();
    let (mut good, mut bad) = (shard.session(10).unwrap(), shard.session(10).unwrap());
    let batch = &mut [entry(&mut good, &[1, 5]), entry(&mut bad, &[9999])];
    assert!(shard.forward(batch).unwrap_err().to_string().starts_with("entry 1 has token 9999"));
    assert_eq!((good.position(), bad.position()), (0, 0));
    let after = shard.forward(&mut [entry(&mut good, &[1, 5])]).unwrap();
    let alone = shard.forward(&mut [entry(&mut undisturbed, &[1, 5])]).unwrap();
    let logits = |outputs: Vec<Output>| match &outputs[..] {
        [Output::Logits(logits)] => bits(logits),
        other => panic!("{other:?}"),
    };
    assert_eq!(logits(after), logits(alone));
}

#[test]
fn hidden_states_that_are_not_numbers_end_in_no_panic() {
    let mut last = load(6..8);
    for value in [f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE / 2.0, 0.0] {
        let mut session = last.session(10).unwrap();
        let rows =
            Rows { session: &mut session, position: 0, input: Input::Hidden(&[value; 512]), logits: true };
        assert!(matches!(&last.forward(&mut [rows]).unwrap()[..], [Output::Logits(l)] if l.len() == 2048));
    }
}

#[test]
fn sessions_stay_within_the_context() {
    let shard = load(0..8);
    assert_eq!(shard.context_length(), 64);
    assert_eq!(shard.session(0).unwrap_err(), SessionError::Empty);
    let error = shard.session(65).unwrap_err();
    assert_eq!(error.to_string(), "a session of 65 positions exceeds the context of 64");
    let mut session = shard.session(64).unwrap();
    assert_eq!(session.truncate(1).unwrap_err(), SessionError::NotReached { to: 1, at: 0 });
    // f32, 8 layers, 4 heads of 32, keys and values.
    assert_eq!(shard.kv_bytes_per_token(), 4 * 8 * 4 * 32 * 2);
}

#[test]
fn layers_that_a_file_does_not_have() {
    for layers in [3..9, 8..8, 9..10] {
        let error =
            ShardModel::load_range(&model("f16"), layers.clone(), &options(), &mut |_, _| {}).unwrap_err();
        let expected = format!("layers {}-{} were asked for, but the file has 0-8", layers.start, layers.end);
        assert_eq!(error.to_string(), expected);
    }
    let missing =
        ShardModel::load(std::path::Path::new("no-such.gguf"), &options(), &mut |_, _| {}).unwrap_err();
    assert!(missing.to_string().contains("no-such.gguf"), "{missing}");
}

#[test]
fn progress_ends_at_the_whole_and_memory_adds_up() {
    for (weights, packed) in [(Weights::Map, false), (Weights::Packed, true)] {
        let mut seen = Vec::new();
        let options = LoadOptions { weights, ..options() };
        let shard = ShardModel::load(&model("q4_k_m"), &options, &mut |done, total| seen.push((done, total)))
            .unwrap();
        assert!(seen.is_sorted() && seen.iter().all(|(_, total)| *total == seen[0].1));
        assert_eq!(seen.last().map(|(done, total)| done == total), Some(true));
        let memory = shard.memory();
        assert_eq!(memory.file, memory.packed + memory.mapped);
        assert_eq!(memory.packed > memory.mapped, packed, "{memory:?}");
    }
}
