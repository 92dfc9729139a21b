//! When a change of a condition is worth an Event.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Event, Kind, event};
use crate::crd::condition as types;

/// Reasons of what takes its time, or is as the user wants it. Any other one is a problem.
const ON_ITS_WAY: [&str; 14] = [
    "BootstrapNotReady",
    "Downloading",
    "GatewayUnreachable",
    "Loading",
    "ManifestUnknown",
    "NoPods",
    "NoReplicas",
    "NotProven",
    "ReplicasShareNode",
    "ShardsMissing",
    ROLLING,
    "SingleReplica",
    "Starting",
    "Suspended",
];
/// Reasons of conditions that hold without a "but".
const GOOD: [&str; 6] = ["Complete", "ManifestKnown", "PodsReady", "Ready", "ReplicasApart", "ShardsReady"];
/// A new plan takes the pipeline down, as the user wants it.
const ROLLING: &str = "Rolling";
/// The phase tells.
const SUSPENDED: &str = "Suspended";

/// `None` where nothing begins, ends or goes wrong: progress, and what was told already.
pub(super) fn event_of(before: Option<&Condition>, now: &Condition) -> Option<Event> {
    let say = |kind, reason: &str| Some(event(kind, reason, now.message.clone()));
    let (held, holds) = (before.is_some_and(|before| before.status == "True"), now.status == "True");
    match &*now.reason {
        SUSPENDED => None,
        reason if is_problem(now) => is_news(before, now).then(|| say(Kind::Warning, reason)).flatten(),
        _ if !held && holds => say(Kind::Normal, &now.type_),
        _ if !held || holds => None,
        ROLLING => say(Kind::Normal, ROLLING),
        reason if now.status == "Unknown" => say(Kind::Warning, reason),
        _ => say(Kind::Warning, loss_of(&now.type_)),
    }
}

fn is_problem(now: &Condition) -> bool {
    let expected: &[&str] = if now.status == "True" { &GOOD } else { &ON_ITS_WAY };
    !expected.contains(&&*now.reason)
}

/// The same problem in other words is news where the spec has changed meanwhile.
fn is_news(before: Option<&Condition>, now: &Condition) -> bool {
    before.is_none_or(|before| {
        (&before.status, &before.reason) != (&now.status, &now.reason)
            || (before.observed_generation != now.observed_generation && before.message != now.message)
    })
}

/// What it is that a condition does not hold any more.
fn loss_of(condition: &str) -> &str {
    match condition {
        types::BOOTSTRAP_READY => "BootstrapNotReady",
        types::MODEL_AVAILABLE => "ModelNotAvailable",
        types::SHARDS_READY => "ShardsNotReady",
        types::GATEWAY_READY => "GatewayNotReady",
        types::PIPELINE_COMPLETE => "PipelineIncomplete",
        types::RESILIENT => "NotResilient",
        types::READY => "NotReady",
        other => other,
    }
}
