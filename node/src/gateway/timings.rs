//! Where the time of an answer went: the `Server-Timing` header and the `timings` object.

use std::fmt::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::ring::client::Token;

/// The `timings` object of an answer, in its body or in the last chunk of its stream. Names as llama.cpp's server has
/// them where it has one. Of several answers the counts and stages are sums, the durations those of the slowest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Tokens of the prompt.
    pub prompt_n: u32,
    /// From START until the first token was here: the prefill.
    pub prompt_ms: f64,
    /// Prompt tokens a second of that.
    pub prompt_per_second: f64,
    /// Tokens of the answer.
    pub predicted_n: u32,
    /// From the first token until the last.
    pub predicted_ms: f64,
    /// Tokens after the first, a second of that.
    pub predicted_per_second: f64,
    /// Waiting for a free slot.
    pub queue_ms: f64,
    /// OPEN, until every stage had reserved.
    pub open_ms: f64,
    /// From the request until the first token.
    pub time_to_first_token_ms: f64,
    /// From the request until the last token.
    pub total_ms: f64,
    /// One entry per stage, in the order of the route.
    pub stages: Vec<StageTimings>,
}

/// What one stage spent on an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageTimings {
    /// Its place in the route.
    pub stage: u32,
    /// Tokens waiting for its engine.
    pub queue_ms: f64,
    /// Its engine, the prefill included.
    pub compute_ms: f64,
}

/// The clock of one answer.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    arrived: Instant,
    opened: Instant,
    queued: Duration,
    opened_in: Duration,
    prompt: u32,
    predicted: u32,
    first: Option<Instant>,
    last: Option<Instant>,
    /// Queue and compute µs of each stage.
    stages: Vec<(u64, u64)>,
}

impl Meter {
    /// Starts when the session is open.
    pub(super) fn new(arrived: Instant, queued: Duration, opened_in: Duration, prompt: u32) -> Self {
        let opened = Instant::now();
        Self {
            arrived,
            opened,
            queued,
            opened_in,
            prompt,
            predicted: 0,
            first: None,
            last: None,
            stages: Vec::new(),
        }
    }

    /// Notes a token; `counted` unless it only says that the answer has ended. For the first one: since the request.
    pub(super) fn token(&mut self, token: &Token, counted: bool) -> Option<Duration> {
        let now = Instant::now();
        let first = self.first.is_none().then(|| now - self.arrived);
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.predicted += u32::from(counted);
        for (index, time) in token.trace.iter().enumerate() {
            if self.stages.len() <= index {
                self.stages.push((0, 0));
            }
            let (queue_us, compute_us) = &mut self.stages[index];
            *queue_us += u64::from(time.queue_us);
            *compute_us += u64::from(time.compute_us);
        }
        first
    }

    pub(super) fn predicted(&self) -> u32 {
        self.predicted
    }

    pub(super) fn stages(&self) -> impl Iterator<Item = StageTimings> {
        let ms = |us| ms(Duration::from_micros(us));
        let stages = (0..).zip(&self.stages);
        stages.map(move |(stage, (queue, compute))| StageTimings {
            stage,
            queue_ms: ms(*queue),
            compute_ms: ms(*compute),
        })
    }

    pub(super) fn timings(&self) -> Timings {
        let first = self.first.unwrap_or(self.opened);
        let last = self.last.unwrap_or(first);
        let prompt = first - self.opened;
        let predicted = last - first;
        Timings {
            prompt_n: self.prompt,
            prompt_ms: ms(prompt),
            prompt_per_second: rate(self.prompt, prompt),
            predicted_n: self.predicted,
            predicted_ms: ms(predicted),
            predicted_per_second: rate(self.predicted.saturating_sub(1), predicted),
            queue_ms: ms(self.queued),
            open_ms: ms(self.opened_in),
            time_to_first_token_ms: ms(first - self.arrived),
            total_ms: ms(last - self.arrived),
            stages: self.stages().collect(),
        }
    }
}

impl Timings {
    /// The timings of several answers to one request.
    pub(super) fn merge(mut self, other: &Self) -> Self {
        for (index, stage) in other.stages.iter().enumerate() {
            if self.stages.len() <= index {
                self.stages.push(stage.clone());
            } else {
                let sum = &mut self.stages[index];
                sum.queue_ms = round(sum.queue_ms + stage.queue_ms);
                sum.compute_ms = round(sum.compute_ms + stage.compute_ms);
            }
        }
        Self {
            prompt_n: self.prompt_n + other.prompt_n,
            prompt_ms: self.prompt_ms.max(other.prompt_ms),
            prompt_per_second: round(self.prompt_per_second + other.prompt_per_second),
            predicted_n: self.predicted_n + other.predicted_n,
            predicted_ms: self.predicted_ms.max(other.predicted_ms),
            predicted_per_second: round(self.predicted_per_second + other.predicted_per_second),
            queue_ms: self.queue_ms.max(other.queue_ms),
            open_ms: self.open_ms.max(other.open_ms),
            time_to_first_token_ms: self.time_to_first_token_ms.max(other.time_to_first_token_ms),
            total_ms: self.total_ms.max(other.total_ms),
            stages: self.stages,
        }
    }

    /// The value of `Server-Timing`, durations in milliseconds.
    pub(super) fn header(&self) -> String {
        let mut text = opening(self.queue_ms, self.open_ms) + &format!(", prefill;dur={:.3}", self.prompt_ms);
        for stage in &self.stages {
            // Writing to a string cannot fail.
            let _ = write!(text, ", stage{};dur={:.3}", stage.stage, stage.compute_ms);
        }
        text + &format!(", total;dur={:.3}", self.total_ms)
    }
}

/// What `Server-Timing` can say before the first token.
pub(super) fn opening(queue_ms: f64, open_ms: f64) -> String {
    format!("queue;dur={queue_ms:.3}, open;dur={open_ms:.3}")
}

pub(super) fn ms(duration: Duration) -> f64 {
    round(duration.as_secs_f64() * 1e3)
}

/// To three decimals: a microsecond where the unit is the millisecond.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn rate(count: u32, duration: Duration) -> f64 {
    if duration.is_zero() { 0.0 } else { round(f64::from(count) / duration.as_secs_f64()) }
}
