//! A row's logits have the same bits whatever shares the forward: other rows, chunks, replays, shard counts, threads,
//! and the way weights are held.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{Pipeline, Request, bits};
use proptest::prelude::*;
use shard_engine::{KvDtype, LoadOptions, Weights};

/// How one run differs from the reference: one shard, mapped, one thread, one token at a time, alone.
#[derive(Clone, Debug)]
struct Way {
    shards: usize,
    threads: usize,
    weights: Weights,
    kv_dtype: KvDtype,
    sequences: Vec<Vec<u32>>,
    steps: Vec<Step>,
}

/// What one sequence does in one forward.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Sits it out.
    Wait,
    /// Feeds up to so many tokens.
    Feed(usize),
    /// Feeds up to so many tokens and wants no logits.
    Quiet(usize),
    /// Goes back to this share of what it has, in 256ths, and feeds up to so many tokens.
    Replay(u8, usize),
}

fn way() -> impl Strategy<Value = Way> {
    let step = prop_oneof![
        2 => Just(Step::Wait),
        6 => (1usize..9).prop_map(Step::Feed),
        2 => (1usize..20).prop_map(Step::Quiet),
        2 => Just(Step::Feed(64)),
        1 => (any::<u8>(), 1usize..20).prop_map(|(share, tokens)| Step::Replay(share, tokens)),
    ];
    let how = (
        prop::sample::select(vec![1, 2, 3, 4, 8]),
        1usize..4,
        prop::sample::select(vec![Weights::Map, Weights::Packed]),
        prop::sample::select(vec![KvDtype::F32, KvDtype::F16]),
    );
    let sequences = prop::collection::vec(prop::collection::vec(0u32..2048, 1..40), 1..6);
    (how, sequences, prop::collection::vec(step, 60)).prop_map(
        |((shards, threads, weights, kv_dtype), sequences, steps)| Way {
            shards,
            threads,
            weights,
            kv_dtype,
            sequences,
            steps,
        },
    )
}

fn options(way: &Way) -> LoadOptions {
    LoadOptions { threads: way.threads, weights: way.weights, kv_dtype: way.kv_dtype, context_length: None }
}

/// The logits' bits after every token of every sequence.
fn reference(kind: &str, way: &Way) -> Vec<Vec<Vec<u32>>> {
    let options = LoadOptions { threads: 1, weights: Weights::Map, ..options(way) };
    let mut pipeline = Pipeline::load(kind, 1, &options);
    let mut alone = |tokens: &Vec<u32>| {
        let mut request = pipeline.request();
        tokens.iter().map(|token| bits(&pipeline.feed(&mut request, &[*token], 1))).collect()
    };
    way.sequences.iter().map(&mut alone).collect()
}

fn every_way_gives_the_reference_bits(kind: &str, way: &Way) -> Result<(), TestCaseError> {
    let expect = reference(kind, way);
    let mut pipeline = Pipeline::load(kind, way.shards, &options(way));
    let mut requests: Vec<Request> = way.sequences.iter().map(|_| pipeline.request()).collect();
    for steps in way.steps.chunks_exact(way.sequences.len()) {
        let (mut batch, mut fed) = (Vec::new(), Vec::new());
        for (n, ((request, tokens), step)) in requests.iter_mut().zip(&way.sequences).zip(steps).enumerate() {
            if let Step::Replay(share, _) = step {
                request.truncate(request.position() * usize::from(*share) / 256);
            }
            let start = request.position();
            let end = match step {
                Step::Wait => start,
                Step::Feed(tokens) | Step::Quiet(tokens) | Step::Replay(_, tokens) => start + tokens,
            };
            let end = end.min(tokens.len());
            if start < end {
                let wanted = !matches!(step, Step::Quiet(_));
                batch.push((request, &tokens[start..end], wanted));
                fed.push((n, end, wanted));
            }
        }
        for ((n, end, wanted), logits) in fed.into_iter().zip(pipeline.forward(&mut batch)) {
            let expect = if wanted { expect[n][end - 1].as_slice() } else { &[] };
            prop_assert!(bits(&logits) == expect, "sequence {} after {} tokens", n, end);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn f16(way in way()) {
        every_way_gives_the_reference_bits("f16", &way)?;
    }

    #[test]
    fn q8_0(way in way()) {
        every_way_gives_the_reference_bits("q8_0", &way)?;
    }

    #[test]
    fn q4_0(way in way()) {
        every_way_gives_the_reference_bits("q4_0", &way)?;
    }

    #[test]
    fn q4_k_m(way in way()) {
        every_way_gives_the_reference_bits("q4_k_m", &way)?;
    }
}
