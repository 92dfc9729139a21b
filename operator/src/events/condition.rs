//! When a change of a condition is worth an Event.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Event, Kind, event};
use crate::crd::{Class, Reason, condition as types};

/// `None` where nothing begins, ends or goes wrong: progress, and what was told already.
pub(super) fn event_of(before: Option<&Condition>, now: &Condition) -> Option<Event> {
    let say = |kind, reason: &str| Some(event(kind, reason, now.message.clone()));
    let (held, holds) = (before.is_some_and(|before| before.status == "True"), now.status == "True");
    match Reason::named(&now.reason) {
        // The phase tells.
        Some(Reason::Suspended) => None,
        // As the user wants it, also where a new plan takes the pipeline down.
        Some(Reason::Rolling) if held => {
            let begins = !holds || before.is_some_and(|before| before.reason != now.reason);
            begins.then(|| say(Kind::Normal, &now.reason)).flatten()
        }
        reason if reason.is_none_or(|reason| reason.class() == Class::Problem) => {
            is_news(before, now).then(|| say(Kind::Warning, &now.reason)).flatten()
        }
        _ if !held && holds => say(Kind::Normal, &now.type_),
        _ if !held || holds => None,
        _ if now.status == "Unknown" => say(Kind::Warning, &now.reason),
        _ => say(Kind::Warning, loss_of(&now.type_)),
    }
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
