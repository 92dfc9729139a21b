//! What `/metrics` tells of the gateway.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::timings::Meter;

/// The gateway's metrics and the registry that renders them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    answers: Family<AnswerLabels, Counter>,
    prompt_tokens: Counter,
    generated_tokens: Counter,
    first_token: Histogram,
    stage_compute: Family<StageLabels, Counter<f64, AtomicU64>>,
    stage_queue: Family<StageLabels, Counter<f64, AtomicU64>>,
    pub(super) waiting: Gauge,
    pub(super) active: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AnswerLabels {
    end: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StageLabels {
    stage: u32,
}

impl Metrics {
    /// Registers the gateway's metrics beside those that `registry` holds already, e.g. libp2p's.
    pub fn new(mut registry: Registry) -> Self {
        let gateway = registry.sub_registry_with_prefix("shardcluster_gateway");
        let requests = Family::default();
        gateway.register("requests", "HTTP requests by route and status code", requests.clone());
        let answers = Family::default();
        gateway.register(
            "answers",
            "Answers by how they ended: stop, length, cancelled or error",
            answers.clone(),
        );
        let prompt_tokens = Counter::default();
        gateway.register(
            "prompt_tokens",
            "Tokens of prompts whose session was opened",
            prompt_tokens.clone(),
        );
        let generated_tokens = Counter::default();
        gateway.register("generated_tokens", "Tokens of answers", generated_tokens.clone());
        // 1 ms to 524 s.
        let first_token = Histogram::new(exponential_buckets(0.001, 2.0, 20));
        gateway.register(
            "time_to_first_token_seconds",
            "From the request to its first token",
            first_token.clone(),
        );
        let stage_compute = Family::default();
        gateway.register(
            "stage_compute_seconds",
            "Engine time of answers by stage of their route",
            stage_compute.clone(),
        );
        let stage_queue = Family::default();
        gateway.register(
            "stage_queue_seconds",
            "Waiting for the engine, by stage of the route",
            stage_queue.clone(),
        );
        let waiting = Gauge::default();
        gateway.register("queue_length", "Answers whose session is not open yet", waiting.clone());
        let active = Gauge::default();
        gateway.register("active_answers", "Answers under way", active.clone());
        Self {
            registry,
            requests,
            answers,
            prompt_tokens,
            generated_tokens,
            first_token,
            stage_compute,
            stage_queue,
            waiting,
            active,
        }
    }

    /// The text format of OpenMetrics.
    pub(super) fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// `route` is one of the router's, or the same word for all others: its values are few.
    pub(super) fn request(&self, route: &str, code: u16) {
        self.requests.get_or_create(&RequestLabels { route: route.to_owned(), code }).inc();
    }

    pub(super) fn first_token(&self, after: Duration) {
        self.first_token.observe(after.as_secs_f64());
    }

    /// An answer has ended, by itself or not.
    pub(super) fn answer(&self, end: &'static str, prompt: u32, meter: &Meter) {
        self.answers.get_or_create(&AnswerLabels { end }).inc();
        self.prompt_tokens.inc_by(u64::from(prompt));
        self.generated_tokens.inc_by(u64::from(meter.predicted()));
        for stage in meter.stages() {
            let labels = StageLabels { stage: stage.stage };
            self.stage_compute.get_or_create(&labels).inc_by(stage.compute_ms / 1e3);
            self.stage_queue.get_or_create(&labels).inc_by(stage.queue_ms / 1e3);
        }
    }
}

/// Counts as one while it lives.
#[derive(Debug)]
pub(super) struct Counted(Gauge);

impl Counted {
    pub(super) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
