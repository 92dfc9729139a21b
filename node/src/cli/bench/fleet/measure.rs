//! Answers of a ring, timed.

use std::time::Duration;

use futures::future::try_join_all;
use serde::Serialize;
use shard_wire::frame::StageTime;
use shard_wire::session::Sampling;
use thiserror::Error;
use tokio::time::Instant;

use super::FleetArgs;
use crate::cli::Failure;
use crate::cli::bench::statistics::round;
use crate::ring::client::{AnswerError, Client, OpenError, Prompt};

/// An answer that takes longer is not worth a figure.
const DEADLINE: Duration = Duration::from_secs(3600);
/// Tokens of each prompt where several are asked at once: their answers are what counts.
const SHORT: usize = 8;

#[derive(Debug, Error)]
enum MeasureError {
    #[error("the ring took no request")]
    Open(#[from] OpenError),
    #[error("an answer broke off")]
    Answer(#[from] AnswerError),
    #[error("an answer ended after {0} tokens")]
    Short(usize),
}

/// One answer to one prompt, with the ring to itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Single {
    /// Prompt tokens a second, from START until the first token.
    pub(super) prefill: f64,
    /// Tokens a second after the first.
    pub(super) decode: f64,
    pub(super) first_token_ms: f64,
    /// Of every token after the first, for one hop; empty where there is no other stage to hop to.
    #[serde(skip)]
    pub(super) boundaries_ms: Vec<f64>,
}

/// Several answers at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Aggregate {
    pub(super) requests: usize,
    /// All tokens, from the first request to the last token.
    pub(super) tokens_per_second: f64,
}

/// When what happened to one answer.
#[derive(Clone, Debug)]
struct Stream {
    asked: Instant,
    opened: Instant,
    tokens: Vec<(Instant, Vec<StageTime>)>,
}

/// One answer after the other.
pub(super) async fn single(
    client: &Client,
    args: &FleetArgs,
    vocabulary: u32,
) -> Result<Vec<Single>, Failure> {
    let mut measured = Vec::new();
    for turn in 0..args.repeat {
        let prompt = prompt(args.prompt_tokens, turn, vocabulary);
        measured.push(stream(client, prompt, args.decode_tokens + 1).await?.single(args.prompt_tokens));
    }
    Ok(measured)
}

/// As many answers at once as there are requests.
pub(super) async fn aggregate(
    client: &Client,
    args: &FleetArgs,
    vocabulary: u32,
    requests: usize,
) -> Result<Aggregate, Failure> {
    let asked = Instant::now();
    let streams = (0..requests).map(|at| stream(client, prompt(SHORT, at, vocabulary), args.decode_tokens));
    try_join_all(streams).await?;
    let tokens = (requests * args.decode_tokens) as f64;
    Ok(Aggregate { requests, tokens_per_second: round(tokens / asked.elapsed().as_secs_f64()) })
}

/// Ids spread over the vocabulary, others for every `which`.
fn prompt(tokens: usize, which: usize, vocabulary: u32) -> Vec<u32> {
    let begin = which as u32 * 7919;
    (0..tokens as u32).map(|i| (begin + i).wrapping_mul(2_654_435_761) % vocabulary.max(1)).collect()
}

/// Asks for exactly so many tokens: none ends the answer.
async fn stream(client: &Client, ids: Vec<u32>, tokens: usize) -> Result<Stream, MeasureError> {
    let max_tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
    let sampling = Sampling::default();
    let asked = Instant::now();
    let prompt = Prompt { plan: None, ids, sampling, eos: Vec::new(), max_tokens, deadline: DEADLINE };
    let mut answer = client.generate(prompt).await?;
    let mut stream =
        Stream { asked, opened: Instant::now(), tokens: Vec::with_capacity(tokens.min(1 << 16)) };
    while let Some(token) = answer.tokens.recv().await {
        stream.tokens.push((Instant::now(), token?.trace));
    }
    match stream.tokens.len() {
        all if all == tokens => Ok(stream),
        fewer => Err(MeasureError::Short(fewer)),
    }
}

impl Stream {
    fn single(&self, prompt: usize) -> Single {
        let first = self.tokens.first().map_or(self.opened, |(at, _)| *at);
        let last = self.tokens.last().map_or(first, |(at, _)| *at);
        let rate = |count: usize, time: Duration| round(count as f64 / time.as_secs_f64().max(1e-9));
        Single {
            prefill: rate(prompt, first - self.opened),
            decode: rate(self.tokens.len().saturating_sub(1), last - first),
            first_token_ms: round((first - self.asked).as_secs_f64() * 1e3),
            boundaries_ms: self.boundaries(),
        }
    }

    fn boundaries(&self) -> Vec<f64> {
        let pairs = self.tokens.windows(2).filter(|pair| pair[1].1.len() > 1);
        pairs
            .map(|pair| {
                let (after, trace) = &pair[1];
                let interval = (*after - pair[0].0).as_secs_f64() * 1e3;
                let spent =
                    trace.iter().map(|t| f64::from(t.queue_us) + f64::from(t.compute_us)).sum::<f64>() / 1e3;
                // Below zero where the token before it was held up on its way here.
                (interval - spent) / trace.len() as f64
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_of_known_times() {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let trace = |stages: usize| vec![StageTime { queue_us: 500, compute_us: 4000 }; stages];
        let stream = |stages| Stream {
            asked: at(0),
            opened: at(10),
            tokens: vec![(at(110), trace(stages)), (at(120), trace(stages)), (at(135), trace(stages))],
        };
        let two = stream(2).single(50);
        assert_eq!((two.prefill, two.decode, two.first_token_ms), (500.0, 80.0, 110.0));
        assert_eq!(two.boundaries_ms, [0.5, 3.0]);
        assert_eq!(stream(1).single(50).boundaries_ms, [0.0; 0]);
    }

    #[test]
    fn prompts_differ_and_stay_within_the_vocabulary() {
        assert_ne!(prompt(8, 0, 32_000), prompt(8, 1, 32_000));
        assert!(prompt(100, 3, 7).iter().all(|&id| id < 7));
    }
}
