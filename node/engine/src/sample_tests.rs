use proptest::prelude::*;

use super::*;

fn random(temperature: f32) -> SamplingParams {
    SamplingParams { temperature, seed: 7, ..SamplingParams::default() }
}

fn id(logits: &[f32], history: &[u32], params: &SamplingParams) -> u32 {
    sample(logits, history, params, 0).expect("a token").id
}

/// Share of each id over many positions.
fn shares(logits: &[f32], params: &SamplingParams) -> Vec<f64> {
    let draws = 20_000;
    let mut counts = vec![0.0; logits.len()];
    for position in 0..draws {
        counts[sample(logits, &[], params, position).expect("a token").id as usize] += 1.0;
    }
    counts.iter().map(|count| count / draws as f64).collect()
}

fn assert_shares(logits: &[f32], params: &SamplingParams, expected: &[f64]) {
    let found = shares(logits, params);
    for (found_share, share) in found.iter().zip(expected) {
        // Five standard deviations; a share of 0 or 1 is exact.
        let tolerance = 5.0 * (share * (1.0 - share) / 20_000.0).sqrt();
        assert!((found_share - share).abs() <= tolerance, "{found:?} is not {expected:?}");
    }
}

fn logs(probabilities: &[f32]) -> Vec<f32> {
    // A constant offset changes no probability.
    probabilities.iter().map(|p| p.ln() + 3.0).collect()
}

#[test]
fn greedy_takes_the_largest_and_of_equals_the_lowest_id() {
    let params = SamplingParams::default();
    for (logits, expected) in [
        (&[1.0, 3.0, 2.0][..], 1),
        (&[3.0, 3.0, 3.0], 0),
        (&[f32::NAN, 1.0, f32::NAN, 2.0], 3),
        (&[f32::NEG_INFINITY, -5.0], 1),
        (&[1.0, f32::INFINITY, f32::INFINITY], 1),
    ] {
        assert_eq!(id(logits, &[], &params), expected, "{logits:?}");
    }
}

#[test]
fn nothing_to_choose_is_an_error() {
    for params in
        [SamplingParams::default(), SamplingParams { top_k: 3, top_p: 0.5, min_p: 0.1, ..random(1.0) }]
    {
        for logits in [&[][..], &[f32::NAN, f32::NEG_INFINITY]] {
            assert_eq!(sample(logits, &[], &params, 0), Err(NoToken { logits: logits.len() }));
        }
    }
}

#[test]
fn draws_follow_the_distribution() {
    let logits = logs(&[0.1, 0.2, 0.3, 0.4]);
    assert_shares(&logits, &random(1.0), &[0.1, 0.2, 0.3, 0.4]);
    // Temperature 1/2 squares the probabilities.
    assert_shares(&logits, &random(0.5), &[1.0 / 30.0, 4.0 / 30.0, 9.0 / 30.0, 16.0 / 30.0]);
    assert_shares(&logits, &SamplingParams { top_k: 2, ..random(1.0) }, &[0.0, 0.0, 3.0 / 7.0, 4.0 / 7.0]);
    assert_shares(&logits, &SamplingParams { top_p: 0.65, ..random(1.0) }, &[0.0, 0.0, 3.0 / 7.0, 4.0 / 7.0]);
    assert_shares(&logits, &SamplingParams { top_p: 0.0, ..random(1.0) }, &[0.0, 0.0, 0.0, 1.0]);
    assert_shares(&logits, &SamplingParams { min_p: 0.6, ..random(1.0) }, &[0.0, 0.0, 3.0 / 7.0, 4.0 / 7.0]);
    // Top-p is taken of what top-k left: 0.4 of 0.7 is above 0.55.
    assert_shares(&logits, &SamplingParams { top_k: 2, top_p: 0.55, ..random(1.0) }, &[0.0, 0.0, 0.0, 1.0]);
    // The cuts see the distribution before the temperature.
    assert_shares(
        &logits,
        &SamplingParams { min_p: 0.6, ..random(0.5) },
        &[0.0, 0.0, 9.0 / 25.0, 16.0 / 25.0],
    );
    // A temperature that underflows is greedy.
    assert_shares(&logits, &random(f32::MIN_POSITIVE / 4.0), &[0.0, 0.0, 0.0, 1.0]);
}

#[test]
fn an_infinite_logit_takes_all_and_a_wrong_one_nothing() {
    assert_shares(&[0.0, f32::INFINITY, f32::NAN, f32::NEG_INFINITY], &random(1.0), &[0.0, 1.0, 0.0, 0.0]);
}

/// Every node of a fleet must draw the same number, whatever its version: these bits are part of the format.
#[test]
fn the_generator_is_pinned() {
    let bits = [(0, 0), (0, 1), (7, 0), (u64::MAX, u64::MAX)]
        .map(|(seed, position)| (uniform(seed, position) * 2_f64.powi(53)) as u64);
    assert_eq!(bits, [5876733520225071, 1498765885564669, 6498767946634617, 2861740099808334]);
}

#[test]
fn penalties_are_those_of_llama_cpp() {
    let logits = [4.0, 3.0, -1.0, -1.5];
    let repetition = SamplingParams { repetition_penalty: 2.0, ..SamplingParams::default() };
    assert_eq!(&*adjust(&logits, &[0, 0, 2], &repetition), &[2.0, 3.0, -2.0, -1.5]);
    let both = SamplingParams { presence_penalty: 0.5, frequency_penalty: 0.25, ..SamplingParams::default() };
    assert_eq!(&*adjust(&logits, &[0, 0, 2], &both), &[3.0, 3.0, -1.75, -1.5]);
    // Ids that the model does not have, and tokens before the window, count for nothing.
    let mut long = vec![0, u32::MAX];
    long.extend([3; PENALTY_WINDOW - 1]);
    assert_eq!(adjust(&logits, &long, &repetition)[0], 4.0);
    assert_eq!(id(&logits, &[0], &repetition), 1);
}

#[test]
fn bias_moves_the_choice_and_not_the_reported_probability() {
    let logits = logs(&[0.1, 0.2, 0.3, 0.4]);
    let params =
        SamplingParams { logit_bias: vec![(0, 100.0)], logprobs: Some(2), ..SamplingParams::default() };
    let sampled = sample(&logits, &[], &params, 0).expect("a token");
    assert_eq!(sampled.id, 0);
    let close = |a: f32, b: f32| (a - b).abs() < 1e-6;
    assert!(close(sampled.logprob.expect("asked for"), 0.1_f32.ln()));
    assert_eq!(sampled.top.iter().map(|t| t.0).collect::<Vec<_>>(), [3, 2]);
    assert!(close(sampled.top[0].1, 0.4_f32.ln()) && close(sampled.top[1].1, 0.3_f32.ln()));
}

#[test]
fn validation_names_the_parameter() {
    let base = SamplingParams::default;
    for (params, message) in [
        (SamplingParams { temperature: -1.0, ..base() }, "temperature is -1; it must be from 0 to 100"),
        (SamplingParams { top_p: f32::NAN, ..base() }, "top_p is NaN; it must be from 0 to 1"),
        (SamplingParams { min_p: 1.5, ..base() }, "min_p is 1.5; it must be from 0 to 1"),
        (
            SamplingParams { repetition_penalty: 0.0, ..base() },
            "repetition_penalty is 0; it must be from 0.01 to 100",
        ),
        (
            SamplingParams { presence_penalty: 3.0, ..base() },
            "presence_penalty is 3; it must be from -2 to 2",
        ),
        (
            SamplingParams { frequency_penalty: f32::INFINITY, ..base() },
            "frequency_penalty is inf; it must be from -2 to 2",
        ),
        (
            SamplingParams { logit_bias: vec![(1, 101.0)], ..base() },
            "logit_bias is 101; it must be from -100 to 100",
        ),
        (
            SamplingParams { logit_bias: vec![(10, 1.0)], ..base() },
            "logit_bias is for token 10; it must be for token ids below 10",
        ),
        (
            SamplingParams { logit_bias: vec![(1, 1.0); 1025], ..base() },
            "logit_bias is 1025; it must be at most 1024",
        ),
        (SamplingParams { logprobs: Some(21), ..base() }, "logprobs is 21; it must be at most 20"),
    ] {
        assert_eq!(params.validate(10).expect_err(message).to_string(), message);
    }
    assert_eq!(base().validate(10), Ok(()));
}

/// A logit, mostly an ordinary one, else any bits.
fn any_logit() -> impl Strategy<Value = f32> {
    prop_oneof![9 => -20.0_f32..20.0, 1 => any::<u32>().prop_map(f32::from_bits)]
}

prop_compose! {
    fn any_params()(
        temperature in prop_oneof![Just(0.0_f32), 0.01_f32..3.0], top_k in 0_u32..600, top_p in 0.0_f32..=1.0,
        min_p in 0.0_f32..=1.0, repetition_penalty in 0.5_f32..2.0, penalty in -2.0_f32..=2.0, seed: u64,
        logit_bias in prop::collection::vec((0_u32..4, -100.0_f32..=100.0), 0..3), logprobs in prop::option::of(0_u8..=20),
    ) -> SamplingParams {
        SamplingParams {
            temperature, top_k, top_p, min_p, repetition_penalty, presence_penalty: penalty,
            frequency_penalty: -penalty, seed, logit_bias, logprobs,
        }
    }
}

proptest! {
    #[test]
    fn any_logits_give_a_token_with_a_finite_logit_or_an_error(
        logits in prop::collection::vec(any_logit(), 4..700), params in any_params(),
        history in prop::collection::vec(0_u32..800, 0..80), position: u64,
    ) {
        prop_assert_eq!(params.validate(logits.len()), Ok(()));
        let sampled = sample(&logits, &history, &params, position);
        // Not NaN: equal bits, whatever they are.
        prop_assert_eq!(format!("{sampled:?}"), format!("{:?}", sample(&logits, &history, &params, position)));
        if let Ok(sampled) = sampled {
            prop_assert!(logits[sampled.id as usize] > f32::NEG_INFINITY);
            prop_assert_eq!(sampled.logprob.is_some(), params.logprobs.is_some());
            prop_assert!(sampled.logprob.is_none_or(|p| p <= 0.0) && sampled.top.iter().all(|t| t.1 <= 0.0));
        }
    }

    /// What the partial sorts keep is what sorting everything would keep.
    #[test]
    fn cuts_equal_those_of_a_full_sort(
        logits in prop::collection::vec((-40_i32..40).prop_map(|x| x as f32 / 8.0), 1..3000),
        top_k in prop_oneof![Just(0_u32), 1_u32..3000], top_p in 0.0_f32..=1.0, min_p in 0.0_f32..0.2,
    ) {
        let params = SamplingParams { top_k, top_p, min_p, ..random(1.0) };
        let mut sorted = candidates(&logits);
        sorted.sort_by(likelier);
        if top_k > 0 {
            sorted.truncate(top_k as usize);
        }
        let best = sorted[0].0;
        let weights: Vec<f64> = sorted.iter().map(|c| f64::from(c.0 - best).exp()).collect();
        let wanted = f64::from(top_p) * weights.iter().sum::<f64>();
        let mut share = 0.0;
        let before = weights.iter().take_while(|w| { share += **w; share < wanted }).count();
        if top_p < 1.0 {
            sorted.truncate(before + 1);
        }
        sorted.retain(|c| min_p == 0.0 || c.0 >= best + min_p.ln());
        let mut kept = truncate(candidates(&logits), &params);
        kept.sort_by(likelier);
        // The two sums may round to either side of a boundary.
        prop_assert!(kept.len().abs_diff(sorted.len()) <= 1);
        prop_assert!(kept.iter().zip(&sorted).all(|(a, b)| a == b));
    }
}
