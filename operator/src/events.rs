//! What has happened, for people who read `kubectl describe`. Pure, but for [`write`]: two statuses in, Events out.
//!
//! ```text
//!  last status ─┐            ┌─ conditions  that begin or cease to hold, or meet with a problem
//!  next status ─┴▶ of_change ┼─ plan        another one
//!                            └─ phase       Running, Degraded, Failed, Suspended and back
//!  what was evicted ─▶ of_evictions
//! ```
//! The last status is all the memory there is: what it says already is not told again, by no pass and no restart. What
//! several conditions say in the same words is told once.

mod condition;
mod write;

use k8s_openapi::api::core::v1::ObjectReference;

use crate::crd::{Phase, PlanStatus, ShardCluster, ShardClusterStatus, condition as types};
use crate::loss::{Eviction, Target};
use crate::nodes::Standing;
pub use write::write;

/// Of an Event's note: what an API server takes.
const MAX_NOTE: usize = 1024;

/// Whether it is worth a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As wanted.
    Normal,
    /// Not as wanted.
    Warning,
}

/// Something that has happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Whether it is worth a look.
    pub kind: Kind,
    /// One word.
    pub reason: String,
    /// What the operator was doing, in one word.
    pub action: &'static str,
    /// What has happened, in at most 1024 bytes.
    pub note: String,
    /// What else it is about.
    pub related: Option<ObjectReference>,
}

fn event(kind: Kind, reason: impl Into<String>, mut note: String) -> Event {
    if note.len() > MAX_NOTE {
        note.truncate(note.floor_char_boundary(MAX_NOTE - '…'.len_utf8()));
        note.push('…');
    }
    Event { kind, reason: reason.into(), action: "Reconcile", note, related: None }
}

/// From the status of the resource to the next one.
#[must_use]
pub fn of_change(resource: &ShardCluster, next: &ShardClusterStatus) -> Vec<Event> {
    let nothing = ShardClusterStatus::default();
    let last = resource.status.as_ref().unwrap_or(&nothing);
    let mut all = Vec::new();
    for now in &next.conditions {
        let before = last.conditions.iter().find(|before| before.type_ == now.type_);
        all.extend(condition::event_of(before, now));
        if now.type_ == types::MODEL_AVAILABLE {
            all.extend(of_plan(last.plan.as_ref(), next.plan.as_ref()));
        }
    }
    all.extend(of_phase(last.phase, next));
    let mut told: Vec<Event> = Vec::new();
    for event in all {
        if told.iter().all(|told| told.note != event.note) {
            told.push(event);
        }
    }
    told
}

fn of_plan(last: Option<&PlanStatus>, next: Option<&PlanStatus>) -> Option<Event> {
    let plan = next.filter(|next| last.is_none_or(|last| last.id != next.id))?;
    let shards: Vec<String> =
        plan.shards.iter().map(|shard| format!("{}-{}", shard.layers.start, shard.layers.end)).collect();
    let count = shards.len();
    let what =
        format!("{count} {} of layers {}", if count == 1 { "shard" } else { "shards" }, shards.join(", "));
    Some(match last {
        None => event(Kind::Normal, "Planned", format!("the model is cut into {what}")),
        Some(_) => event(Kind::Normal, "PlanChanged", format!("the model is cut anew, into {what}")),
    })
}

fn of_phase(last: Option<Phase>, next: &ShardClusterStatus) -> Option<Event> {
    let phase = next.phase.filter(|phase| last != Some(*phase))?;
    let resumed = || event(Kind::Normal, "Resumed", "the ShardCluster is not suspended any more".into());
    match phase {
        Phase::Running => {
            let note = "every pod is ready, and the pipeline is complete";
            Some(event(Kind::Normal, "Running", note.into()))
        }
        Phase::Degraded => Some(event(Kind::Warning, "Degraded", degraded(next))),
        Phase::Failed => {
            let ready = next.conditions.iter().find(|one| one.type_ == types::READY);
            Some(event(Kind::Warning, "Failed", ready.map(|ready| ready.message.clone()).unwrap_or_default()))
        }
        Phase::Suspended => {
            Some(event(Kind::Normal, "Suspended", "everything but the gateway is stopped".into()))
        }
        Phase::Pending | Phase::Downloading | Phase::Loading => {
            (last == Some(Phase::Suspended)).then(resumed)
        }
    }
}

fn degraded(next: &ShardClusterStatus) -> String {
    let parts = [types::BOOTSTRAP_READY, types::SHARDS_READY, types::GATEWAY_READY, types::PIPELINE_COMPLETE];
    let conditions = next.conditions.iter().filter(|one| one.status != "True");
    let not: Vec<&str> = conditions.map(|one| &*one.type_).filter(|name| parts.contains(name)).collect();
    match not.split_last() {
        None => "the pipeline is complete, but not every pod is ready".into(),
        Some((one, [])) => format!("{one} does not hold"),
        Some((last, others)) => format!("{} and {last} do not hold", others.join(", ")),
    }
}

/// Of what was deleted because of lost nodes.
#[must_use]
pub fn of_evictions(evicted: &[Eviction]) -> Vec<Event> {
    evicted.iter().flat_map(of_eviction).collect()
}

fn of_eviction(Eviction { pod, claims, node, standing }: &Eviction) -> Vec<Event> {
    let which = if *standing == Standing::Gone { "is gone" } else { "cannot be reached" };
    let deleted = |reason: &str, kind: &str, what: &Target, note: String| Event {
        action: "Evict",
        related: Some(ObjectReference {
            api_version: Some("v1".into()),
            kind: Some(kind.into()),
            name: Some(what.name.clone()),
            uid: Some(what.uid.clone()),
            ..ObjectReference::default()
        }),
        ..event(Kind::Warning, reason, note)
    };
    if claims.is_empty() {
        let note = format!("pod {} is deleted by force: its node {node} {which}", pod.name);
        return vec![deleted("PodDeleted", "Pod", pod, note)];
    }
    let of_claim = |claim: &Target| {
        let note = format!(
            "claim {} is deleted, so that pod {} gets a new volume: the old one is on node {node}, which {which}",
            claim.name, pod.name
        );
        deleted("ClaimDeleted", "PersistentVolumeClaim", claim, note)
    };
    claims.iter().map(of_claim).collect()
}

#[cfg(test)]
mod tests;
