//! From logits to a token: a pure function, so that a replay gives the same answer.
//!
//! ```text
//! logits ─ bias ─ penalties ─┬─ temperature 0 ───────────────────────────▶ the largest, lowest id first
//!                            └─ top-k ─ top-p ─ min-p ─ temperature ─ draw(seed, position)
//! ```
//! The order is that of llama.cpp's default chain: top-p and min-p see the probabilities before the temperature.
//! Probabilities that are reported are those of the model: of the logits as they came.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use thiserror::Error;

/// Penalties look at this many of the latest tokens, prompt included: llama.cpp's default (`penalty_last_n`).
/// Without a window the frequency penalty of a long prompt would ban its common words.
pub const PENALTY_WINDOW: usize = 64;
/// Alternatives that can be asked for with each token (`OpenAI`'s limit).
pub const MAX_LOGPROBS: u8 = 20;
/// Entries of `logit_bias` at most.
pub const MAX_LOGIT_BIAS: usize = 1024;

/// How to choose a token. The default is greedy.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// 0 is greedy.
    pub temperature: f32,
    /// Keep the k likeliest; 0 keeps all.
    pub top_k: u32,
    /// Keep the likeliest whose probabilities add up to p; 1 keeps all, 0 keeps one.
    pub top_p: f32,
    /// Drop those below this share of the likeliest one's probability; 0 drops none.
    pub min_p: f32,
    /// Divide (multiply where negative) the logits of tokens seen; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Subtract from the logits of tokens seen.
    pub presence_penalty: f32,
    /// Subtract, times how often a token was seen.
    pub frequency_penalty: f32,
    /// The random draw at a position is a function of this and the position.
    pub seed: u64,
    /// Added to the logits of these ids.
    pub logit_bias: Vec<(u32, f32)>,
    /// How many alternatives to report; `None` reports no probabilities.
    pub logprobs: Option<u8>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
            logit_bias: Vec::new(),
            logprobs: None,
        }
    }
}

/// A parameter outside of its range.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{name} is {value}; it must be {expected}")]
pub struct ParamError {
    /// Name of the parameter, as in the API.
    pub name: &'static str,
    /// What was given.
    pub value: String,
    /// What is allowed.
    pub expected: String,
}

impl SamplingParams {
    /// Checks every parameter for a vocabulary of this size.
    ///
    /// # Errors
    /// Names the first parameter that is out of range, not a number, or an id that the model does not have.
    pub fn validate(&self, vocab_size: usize) -> Result<(), ParamError> {
        let ranges = [
            ("temperature", self.temperature, 0.0, 100.0),
            ("top_p", self.top_p, 0.0, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("repetition_penalty", self.repetition_penalty, 0.01, 100.0),
            ("presence_penalty", self.presence_penalty, -2.0, 2.0),
            ("frequency_penalty", self.frequency_penalty, -2.0, 2.0),
        ];
        let biases = self.logit_bias.iter().map(|&(_, bias)| ("logit_bias", bias, -100.0, 100.0));
        for (name, value, low, high) in ranges.into_iter().chain(biases) {
            if !(low..=high).contains(&value) {
                return Err(ParamError {
                    name,
                    value: value.to_string(),
                    expected: format!("from {low} to {high}"),
                });
            }
        }
        if let Some(&(id, _)) = self.logit_bias.iter().find(|(id, _)| *id as usize >= vocab_size) {
            let expected = format!("for token ids below {vocab_size}");
            return Err(ParamError { name: "logit_bias", value: format!("for token {id}"), expected });
        }
        let counts = [
            ("logit_bias", self.logit_bias.len(), MAX_LOGIT_BIAS),
            ("logprobs", usize::from(self.logprobs.unwrap_or(0)), usize::from(MAX_LOGPROBS)),
        ];
        for (name, count, limit) in counts {
            if count > limit {
                return Err(ParamError {
                    name,
                    value: count.to_string(),
                    expected: format!("at most {limit}"),
                });
            }
        }
        Ok(())
    }
}

/// A chosen token.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// Its id.
    pub id: u32,
    /// Natural logarithm of its probability, where `logprobs` asks for it.
    pub logprob: Option<f32>,
    /// The likeliest tokens with theirs, the likeliest first; as many as `logprobs` says.
    pub top: Vec<(u32, f32)>,
}

/// No token can be chosen: the weights or the kernels are broken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("none of the {logits} logits is a number above -infinity: the weights or the computation are broken")]
pub struct NoToken {
    /// How many logits there were.
    pub logits: usize,
}

/// Chooses the token at `position` (counted from the first token of the prompt) after the tokens `history`,
/// of which the last [`PENALTY_WINDOW`] matter. `params` were validated. A logit that is not a number is never chosen.
///
/// # Errors
/// When no logit is a number above -infinity.
pub fn sample(
    logits: &[f32],
    history: &[u32],
    params: &SamplingParams,
    position: u64,
) -> Result<Sampled, NoToken> {
    let adjusted = adjust(logits, history, params);
    let chosen = if params.temperature == 0.0 {
        greedy(&adjusted)
    } else {
        let candidates = truncate(candidates(&adjusted), params);
        draw(&candidates, params.temperature, uniform(params.seed, position))
    };
    let id = chosen.ok_or(NoToken { logits: logits.len() })?;
    let (logprob, top) = match params.logprobs {
        Some(count) => report(logits, id, usize::from(count)),
        None => (None, Vec::new()),
    };
    Ok(Sampled { id, logprob, top })
}

/// A logit and the id of its token.
type Candidate = (f32, u32);

/// Likelier first; of equals the lower id.
fn likelier(a: &Candidate, b: &Candidate) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

fn adjust<'a>(logits: &'a [f32], history: &[u32], params: &SamplingParams) -> Cow<'a, [f32]> {
    let penalised =
        params.repetition_penalty != 1.0 || params.presence_penalty != 0.0 || params.frequency_penalty != 0.0;
    if !penalised && params.logit_bias.is_empty() {
        return Cow::Borrowed(logits);
    }
    let mut adjusted = logits.to_vec();
    for &(id, bias) in &params.logit_bias {
        if let Some(logit) = adjusted.get_mut(id as usize) {
            *logit += bias;
        }
    }
    if penalised {
        let mut counts = BTreeMap::<u32, f32>::new();
        for &id in &history[history.len().saturating_sub(PENALTY_WINDOW)..] {
            *counts.entry(id).or_default() += 1.0;
        }
        for (id, count) in counts {
            if let Some(logit) = adjusted.get_mut(id as usize) {
                let factor = params.repetition_penalty;
                *logit = if *logit > 0.0 { *logit / factor } else { *logit * factor };
                *logit -= params.presence_penalty + count * params.frequency_penalty;
            }
        }
    }
    Cow::Owned(adjusted)
}

fn greedy(logits: &[f32]) -> Option<u32> {
    let mut best = (f32::NEG_INFINITY, None);
    for (id, &logit) in (0..).zip(logits) {
        if logit > best.0 {
            best = (logit, Some(id));
        }
    }
    best.1
}

/// Every token that can be chosen, by id. Positive infinity becomes the largest number, so that differences stay numbers.
fn candidates(logits: &[f32]) -> Vec<Candidate> {
    let possible = (0..).zip(logits).filter(|&(_, &logit)| logit > f32::NEG_INFINITY);
    possible.map(|(id, &logit)| (logit.min(f32::MAX), id)).collect()
}

/// Top-k, top-p and min-p. What is left keeps the order by id, or, after top-k or top-p, goes from likely to unlikely.
fn truncate(mut candidates: Vec<Candidate>, params: &SamplingParams) -> Vec<Candidate> {
    let k = params.top_k as usize;
    if k > 0 {
        sort_likeliest(&mut candidates, k);
        candidates.truncate(k);
    }
    if params.top_p < 1.0 {
        let kept = nucleus(&mut candidates, f64::from(params.top_p));
        candidates.truncate(kept);
    }
    if params.min_p > 0.0 {
        let least = max(&candidates) + params.min_p.ln();
        candidates.retain(|&(logit, _)| logit >= least);
    }
    candidates
}

/// Sorts the `count` likeliest to the front, without sorting the rest of a large vocabulary.
fn sort_likeliest(candidates: &mut [Candidate], count: usize) {
    let count = count.min(candidates.len());
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, likelier);
    }
    candidates[..count].sort_unstable_by(likelier);
}

/// How many of the likeliest (sorted to the front) have at least the share `p` of all the probability; at least one.
fn nucleus(candidates: &mut [Candidate], p: f64) -> usize {
    let max = max(candidates);
    let weight = |logit: f32| f64::from(logit - max).exp();
    let wanted = p * candidates.iter().map(|&(logit, _)| weight(logit)).sum::<f64>();
    let mut sorted = 128;
    loop {
        sort_likeliest(candidates, sorted);
        let mut share = 0.0;
        for (i, &(logit, _)) in candidates.iter().take(sorted).enumerate() {
            share += weight(logit);
            if share >= wanted {
                return i + 1;
            }
        }
        if sorted >= candidates.len() {
            return candidates.len();
        }
        sorted *= 8;
    }
}

fn max(candidates: &[Candidate]) -> f32 {
    candidates.iter().fold(f32::NEG_INFINITY, |max, &(logit, _)| max.max(logit))
}

/// Inverts the cumulative distribution at `u` in [0, 1).
fn draw(candidates: &[Candidate], temperature: f32, u: f64) -> Option<u32> {
    let max = f64::from(max(candidates));
    let weight = |logit: f32| ((f64::from(logit) - max) / f64::from(temperature)).exp();
    let mut left = u * candidates.iter().map(|&(logit, _)| weight(logit)).sum::<f64>();
    let mut last = None;
    for &(logit, id) in candidates {
        let weight = weight(logit);
        if weight > 0.0 {
            last = Some(id);
            if left < weight {
                break;
            }
            left -= weight;
        }
    }
    last
}

/// A number in [0, 1) for this seed and position: `SplitMix64`'s finaliser (Steele, Lea, Flood 2014) over both, 53 bits.
fn uniform(seed: u64, position: u64) -> f64 {
    let mix = |mut z: u64| {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let bits = mix(mix(seed).wrapping_add(position));
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// Log-probabilities of the chosen token and of the `count` likeliest.
fn report(logits: &[f32], id: u32, count: usize) -> (Option<f32>, Vec<(u32, f32)>) {
    let mut candidates = candidates(logits);
    let max = f64::from(max(&candidates));
    let sum: f64 = candidates.iter().map(|&(logit, _)| (f64::from(logit) - max).exp()).sum();
    let logprob = |logit: f32| (f64::from(logit.min(f32::MAX)) - max - sum.ln()) as f32;
    sort_likeliest(&mut candidates, count);
    let top = candidates.iter().take(count).map(|&(logit, id)| (id, logprob(logit))).collect();
    (logits.get(id as usize).map(|&logit| logprob(logit)), top)
}

#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;
