//! llama.cpp's greedy continuations of 16 prompts (`data/golden`), from every way to run the model.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{Case, Pipeline, Request, bits, cases, golden, greedy};
use shard_engine::{Input, KvDtype, LoadOptions, Output, Rows, Weights};

const SHARDS: [usize; 5] = [1, 2, 3, 4, 8];
/// Below this lead of the reference's best logit another kernel may choose the other token.
const CLOSE: f64 = 0.02;

fn options(kv_dtype: KvDtype) -> LoadOptions {
    LoadOptions { threads: 2, weights: Weights::Auto, kv_dtype, context_length: None }
}

/// Compares a continuation with the reference up to the first departure, which must be a close call.
fn check(what: &str, case: &Case, ids: &[u32]) {
    let Some(step) = (0..case.ids.len()).find(|&i| ids[i] != case.ids[i]) else { return };
    let lead = case.lead[step];
    println!("{what}: departs at step {step}, where the reference leads by {lead}");
    assert!(
        lead < CLOSE,
        "{what}: token {} instead of {} at step {step}, lead {lead}",
        ids[step],
        case.ids[step]
    );
}

/// Greedy continuations of all cases; `together` in one batch, else one after the other.
fn continuations(pipeline: &mut Pipeline, cases: &[Case], chunk: usize, together: bool) -> Vec<Vec<u32>> {
    let batches: Vec<&[Case]> = if together { vec![cases] } else { cases.chunks(1).collect() };
    batches.into_iter().flat_map(|batch| continue_batch(pipeline, batch, chunk)).collect()
}

fn continue_batch(pipeline: &mut Pipeline, cases: &[Case], chunk: usize) -> Vec<Vec<u32>> {
    let mut requests: Vec<Request> = cases.iter().map(|_| pipeline.request()).collect();
    let mut tokens: Vec<Vec<u32>> = cases.iter().map(|case| case.prompt.clone()).collect();
    let wanted = |i: usize| cases[i].prompt.len() + cases[i].ids.len();
    loop {
        // Prompts in chunks beside the single tokens of the requests that are further on.
        let (mut batch, mut who) = (Vec::new(), Vec::new());
        for (i, request) in requests.iter_mut().enumerate() {
            let fed = request.position();
            let next = (fed + chunk).min(tokens[i].len());
            if tokens[i].len() < wanted(i) {
                batch.push((request, &tokens[i][fed..next], next == tokens[i].len()));
                who.push((i, next));
            }
        }
        if batch.is_empty() {
            return cases
                .iter()
                .zip(tokens)
                .map(|(case, tokens)| tokens[case.prompt.len()..].to_vec())
                .collect();
        }
        let logits = pipeline.forward(&mut batch);
        for ((i, fed), logits) in who.into_iter().zip(logits) {
            if fed == tokens[i].len() {
                tokens[i].push(greedy(&logits));
            }
        }
    }
}

fn f16_is_llama_cpp(kv_dtype: KvDtype, reference: &str) {
    let cases = cases(reference);
    for shards in SHARDS {
        let mut pipeline = Pipeline::load("f16", shards, &options(kv_dtype));
        for (chunk, together) in [(512, false), (512, true), (5, true)] {
            let ids = continuations(&mut pipeline, &cases, chunk, together);
            for (n, (case, ids)) in cases.iter().zip(&ids).enumerate() {
                check(
                    &format!("case {n}, {shards} shards, chunks of {chunk}, together {together}"),
                    case,
                    ids,
                );
            }
        }
    }
}

#[test]
fn f16_weights_with_f32_cache_give_the_reference_ids() {
    f16_is_llama_cpp(KvDtype::F32, "f32");
}

#[test]
fn f16_weights_with_f16_cache_give_the_reference_ids() {
    f16_is_llama_cpp(KvDtype::F16, "f16");
}

/// A replay from anywhere gives the logits of the undisturbed run, bit for bit.
#[test]
fn a_replay_from_the_middle_changes_no_bit() {
    for shards in SHARDS {
        let mut pipeline = Pipeline::load("f16", shards, &options(KvDtype::F32));
        for case in cases("f32").iter().step_by(5) {
            let all = [case.prompt.as_slice(), &case.ids].concat();
            let mut request = pipeline.request();
            let undisturbed = pipeline.feed(&mut request, &all, 1);
            for middle in [0, 1, case.prompt.len(), all.len() - 1] {
                request.truncate(middle);
                let replayed = pipeline.feed(&mut request, &all[middle..], 512);
                assert_eq!(bits(&replayed), bits(&undisturbed), "{shards} shards, from {middle}");
            }
        }
    }
}

/// Fed with the reference's own tokens, at most 1 % of the steps choose otherwise, each a close call.
fn quantised_is_near_llama_cpp(kind: &str) {
    let mut pipeline = Pipeline::load(kind, 2, &options(KvDtype::F16));
    let (mut steps, mut departures) = (0, Vec::new());
    for (n, case) in cases(kind).iter().enumerate() {
        let mut request = pipeline.request();
        let mut logits = pipeline.feed(&mut request, &case.prompt, 512);
        for (step, &id) in case.ids.iter().enumerate() {
            steps += 1;
            if greedy(&logits) != id {
                departures.push((n, step, case.lead[step]));
            }
            logits = pipeline.feed(&mut request, &[id], 1);
        }
    }
    println!("{kind}: {} of {steps} steps differ (case, step, lead): {departures:?}", departures.len());
    assert!(departures.len() * 100 <= steps, "{kind}: {} of {steps} steps differ", departures.len());
    assert!(departures.iter().all(|&(_, _, lead)| lead < 0.25), "{kind}: {departures:?}");
}

#[test]
fn q8_0_is_near_llama_cpp() {
    quantised_is_near_llama_cpp("q8_0");
}

#[test]
fn q4_0_is_near_llama_cpp() {
    quantised_is_near_llama_cpp("q4_0");
}

#[test]
fn q4_k_m_is_near_llama_cpp() {
    quantised_is_near_llama_cpp("q4_k_m");
}

/// The hidden state after every layer, from eight shards of one layer each. llama.cpp rounds activations to half
/// precision before it multiplies F16 weights; we do not, hence the tolerance.
#[test]
fn hidden_states_after_every_layer_are_the_reference_s() {
    let mut pipeline = Pipeline::load("f16", 8, &options(KvDtype::F32));
    let numbers = |v: &serde_json::Value| -> Vec<f64> {
        v.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
    };
    for case in golden("boundaries")["cases"].as_array().unwrap() {
        let prompt: Vec<u32> = numbers(&case["prompt_ids"]).iter().map(|&id| id as u32).collect();
        let mut request = pipeline.request();
        let mut hidden = Vec::new();
        for layer in 1..=7 {
            let session = &mut request.sessions[layer - 1];
            let input = if layer == 1 { Input::Tokens(&prompt) } else { Input::Hidden(&hidden) };
            let rows = &mut [Rows { session, position: 0, input, logits: false }];
            let Output::Hidden(out) = pipeline.shards[layer - 1].forward(rows).unwrap().remove(0) else {
                panic!("no hidden state")
            };
            hidden = out;
            let last = &hidden[hidden.len() - 256..];
            let expect = &case["after_layer"][layer];
            let norm = last.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            let expect_norm = expect["norm"].as_f64().unwrap();
            assert!((norm / expect_norm - 1.0).abs() < 1e-3, "layer {layer}: norm {norm}, not {expect_norm}");
            for (got, expect) in last.iter().zip(numbers(&expect["first8"])) {
                let off = (f64::from(*got) - expect).abs() / expect_norm;
                assert!(off < 1e-3, "layer {layer}: {got}, not {expect} (norm {expect_norm})");
            }
        }
    }
}
