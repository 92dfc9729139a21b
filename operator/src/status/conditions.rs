//! One finding per condition: whether it holds, and what is missing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::Outcome;
use super::cause::{Cause, grouped, origin_failed};
use super::fleet::{Fleet, Group, in_steps};
use super::gaps::gaps;
use super::resilience::Resilience;
use crate::apply::{Note, Workload};
use crate::cluster::Cluster;
use crate::crd::{Class, LayerRange, Reason, condition};
use crate::named;
use crate::observe::GatewayView;
use crate::rollout::Rollout;

/// Causes that a message tells of; more would hide them all.
const MAX_TOLD: usize = 8;
/// Bytes of what is told of one cause: a scheduler's words about a thousand nodes are long.
const MAX_CAUSE: usize = 400;

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    True,
    False,
    Unknown,
}

impl Holds {
    fn word(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) condition: &'static str,
    pub(super) holds: Holds,
    pub(super) reason: Reason,
    pub(super) message: String,
}

pub(super) fn finding(
    condition: &'static str,
    holds: Holds,
    reason: Reason,
    message: impl Into<String>,
) -> Finding {
    Finding { condition, holds, reason, message: message.into() }
}

fn suspended(condition: &'static str) -> Finding {
    finding(
        condition,
        Holds::False,
        Reason::Suspended,
        "the ShardCluster is suspended: everything but the gateway is stopped",
    )
}

/// What a user has to know besides; where all would be well without it, it is the reason.
fn also(found: Finding, reason: Reason, message: &str) -> Finding {
    let Finding { condition, holds, reason: own, message: known } = found;
    let (reason, link) = if holds == Holds::True { (reason, "but") } else { (own, "and") };
    finding(condition, holds, reason, format!("{known}; {link} {message}"))
}

fn noted(found: Finding, notes: &[Note], of: impl Fn(Workload) -> bool) -> Finding {
    match notes.iter().find(|note| of(note.workload)) {
        Some(note) => also(found, note.reason, &short(note.message.clone())),
        None => found,
    }
}

pub(super) fn bootstrap_ready(cluster: &Cluster, fleet: &Fleet<'_>, notes: &[Note]) -> Finding {
    let condition = condition::BOOTSTRAP_READY;
    if cluster.suspended {
        return suspended(condition);
    }
    noted(of_group(condition, "bootstrap", &fleet.bootstrap), notes, |of| of == Workload::Bootstrap)
}

pub(super) fn gateway_ready(fleet: &Fleet<'_>) -> Finding {
    of_group(condition::GATEWAY_READY, "gateway", &fleet.gateway)
}

fn of_group(condition: &'static str, what: &str, group: &Group<'_>) -> Finding {
    let (ready, desired) = (group.ready(), group.desired);
    let obstacle = group.obstacle(what);
    if ready > 0 {
        let good = format!("{ready} of {desired} {what} pods are ready");
        let good = finding(condition, Holds::True, Reason::PodsReady, good);
        return match obstacle {
            Some(problem) => also(good, problem.reason, &short(problem.message)),
            None => good,
        };
    }
    if desired == 0 {
        return finding(condition, Holds::False, Reason::NoReplicas, format!("{what}.replicas is 0"));
    }
    let (reason, message) = match (group.trouble(), obstacle) {
        (Some(trouble), _) => (trouble.problem.reason, trouble.to_string()),
        (None, Some(problem)) => (problem.reason, problem.message),
        (None, None) if !group.pods.is_empty() => (Reason::Starting, format!("the {what} pods are starting")),
        (None, None) => match (group.unwritten, &group.held_up) {
            // Ready has the reason, and an Event of its own.
            (Some(why), _) => (Reason::NoPods, format!("there are no {what} pods: {why}")),
            (None, Some(workload)) => {
                (Reason::NoPods, format!("there is no {workload} yet: Ready says what was refused"))
            }
            (None, None) => (Reason::NoPods, format!("there are no {what} pods yet")),
        },
    };
    finding(condition, Holds::False, reason, short(message))
}

pub(super) fn model_available(fleet: &Fleet<'_>, view: &GatewayView, known: bool) -> Finding {
    let condition = condition::MODEL_AVAILABLE;
    let failure = fleet.origin_error.map(origin_failed);
    if known {
        let known = |message| finding(condition, Holds::True, Reason::ManifestKnown, message);
        return match failure {
            Some(failure) => also(known("the manifest is known"), Reason::OriginFailed, &failure),
            None => known("the origin has the model, and the manifest is known"),
        };
    }
    if let Some(why) = fleet.mismatch {
        return finding(condition, Holds::False, Reason::ModelMismatch, why);
    }
    if let Some(failure) = failure {
        return finding(condition, Holds::False, Reason::OriginFailed, failure);
    }
    match (fleet.pipeline, view) {
        (Some(pipeline), _) if fleet.bootstrap.ready() > 0 => {
            let percent = in_steps(pipeline.origin.percent);
            finding(
                condition,
                Holds::False,
                Reason::Downloading,
                format!("the origin has {percent} % of the model"),
            )
        }
        (Some(_), _) => finding(
            condition,
            Holds::False,
            Reason::BootstrapNotReady,
            "no bootstrap is ready to fetch the model",
        ),
        (None, view) => unreachable(condition, view),
    }
}

/// Nobody can be asked: that is no statement about the fleet.
fn unreachable(condition: &'static str, view: &GatewayView) -> Finding {
    let message = match view {
        GatewayView::Unreachable(why) => short(format!("no gateway answers {why}")),
        GatewayView::Asking => "the gateway has not answered yet".into(),
        GatewayView::NotReady | GatewayView::Answered(_) => "no gateway is ready to be asked".into(),
    };
    finding(condition, Holds::Unknown, Reason::GatewayUnreachable, message)
}

/// A rollout is told where all is well, and is the reason where all would be well without it.
fn rolling(found: Finding, rollout: &Rollout) -> Finding {
    match rollout.words() {
        Some(words) if found.holds == Holds::True => {
            // A trouble of its own is worth more than that something rolls.
            let is_good = found.reason.class() == Class::Good;
            let reason = if is_good { Reason::Rolling } else { found.reason };
            Finding { reason, message: format!("{}; {words}", found.message), ..found }
        }
        Some(words) if found.reason.class() == Class::Passing => {
            Finding { reason: Reason::Rolling, message: format!("{words}; {}", found.message), ..found }
        }
        _ => found,
    }
}

pub(super) fn shards_ready(
    cluster: &Cluster,
    fleet: &Fleet<'_>,
    notes: &[Note],
    rollout: &Rollout,
) -> Finding {
    rolling(shards_found(cluster, fleet, notes), rollout)
}

fn shards_found(cluster: &Cluster, fleet: &Fleet<'_>, notes: &[Note]) -> Finding {
    let condition = condition::SHARDS_READY;
    if cluster.suspended {
        return suspended(condition);
    }
    let missing = fleet.shards.iter().filter(|shard| shard.group.ready() == 0);
    let mut causes = grouped(missing.map(|shard| (shard.id, shard.waits_for())), Cause::join);
    // A problem stays the reason while others come up.
    causes.sort_by_key(|(_, cause)| cause.reason().class() != Class::Problem);
    let of_shard = |of| matches!(of, Workload::Shard(_));
    let all = fleet.shards.len();
    let Some((_, first)) = causes.first() else {
        let good =
            finding(condition, Holds::True, Reason::ShardsReady, format!("{all} of {all} shards are ready"));
        return noted(lacking(good, fleet), notes, of_shard);
    };
    let ready = all - causes.iter().map(|(ids, _)| ids.len()).sum::<usize>();
    let told = told(causes.iter().map(|(ids, cause)| cause.words(ids)));
    let message = format!("{ready} of {all} shards are ready; {told}");
    noted(finding(condition, Holds::False, first.reason(), message), notes, of_shard)
}

/// Some pods are ready, and others cannot be created.
fn lacking(good: Finding, fleet: &Fleet<'_>) -> Finding {
    let refused = fleet.shards.iter().filter_map(|shard| Some((shard.id, shard.group.refused?)));
    let causes = grouped(refused, |one, other| one == other);
    if causes.is_empty() {
        return good;
    }
    let words = causes.iter().map(|(ids, why)| {
        let lack = if ids.len() == 1 { "lacks" } else { "lack" };
        format!("{} {lack} pods, because they cannot be created: {why}", named::shards(ids))
    });
    also(good, Reason::FailedCreate, &told(words))
}

pub(super) fn pipeline_complete(
    cluster: &Cluster,
    fleet: &Fleet<'_>,
    view: &GatewayView,
    bootstrap: &Finding,
    rollout: &Rollout,
) -> Finding {
    rolling(pipeline_found(cluster, fleet, view, bootstrap), rollout)
}

fn pipeline_found(cluster: &Cluster, fleet: &Fleet<'_>, view: &GatewayView, bootstrap: &Finding) -> Finding {
    let condition = condition::PIPELINE_COMPLETE;
    if cluster.suspended {
        return suspended(condition);
    }
    let Some(pipeline) = fleet.pipeline else { return unreachable(condition, view) };
    if pipeline.pipeline_complete {
        return finding(condition, Holds::True, Reason::Complete, "a token went through every shard");
    }
    let known = fleet.shards.iter().any(|shard| shard.known.is_some());
    if let Some(why) = fleet.mismatch.filter(|_| !known) {
        return finding(condition, Holds::False, Reason::ModelMismatch, why);
    }
    if let Some(why) = fleet.origin_error.filter(|_| !known) {
        return finding(condition, Holds::False, Reason::OriginFailed, origin_failed(why));
    }
    // Nobody can announce anything yet: that is no news beside what keeps the first pod from it.
    if pipeline.manifest.is_none() && is_broken(bootstrap) {
        return Finding { condition, ..bootstrap.clone() };
    }
    if pipeline.missing_layers.is_empty() {
        let why = if pipeline.reason.is_empty() {
            "no token has gone through every shard yet"
        } else {
            &pipeline.reason
        };
        return finding(condition, Holds::False, Reason::NotProven, short(why.to_owned()));
    }
    let missing: Vec<LayerRange> = pipeline.missing_layers.iter().copied().map(Into::into).collect();
    finding(condition, Holds::False, Reason::ShardsMissing, told(gaps(&missing, &fleet.shards).into_iter()))
}

fn is_broken(found: &Finding) -> bool {
    found.holds == Holds::False && found.reason.class() == Class::Problem
}

pub(super) fn resilient(cluster: &Cluster, resilience: &Resilience) -> Finding {
    let condition = condition::RESILIENT;
    match resilience {
        _ if cluster.suspended => suspended(condition),
        Resilience::AnyNode => finding(
            condition,
            Holds::True,
            Reason::ReplicasApart,
            "every shard has ready pods on more than one node",
        ),
        Resilience::Not { reason, causes, .. } => {
            finding(condition, Holds::False, *reason, told(causes.iter().cloned()))
        }
    }
}

/// It can be used: what users wait for.
pub(super) fn ready(endpoint: &str, gateway: &Finding, pipeline: &Finding, outcome: &Outcome) -> Finding {
    let condition = condition::READY;
    if !outcome.refused.is_empty() {
        let all = told(outcome.refused.iter().map(|it| it.why.clone()));
        return finding(condition, Holds::False, Reason::ApplyFailed, all);
    }
    if let Some(why) = &outcome.contested {
        return finding(condition, Holds::False, Reason::Contested, short(why.clone()));
    }
    // A gateway that is not there is the nearer cause of a pipeline that nobody knows.
    match [gateway, pipeline].into_iter().find(|one| one.holds != Holds::True) {
        Some(cause) => Finding { condition, ..cause.clone() },
        None => finding(condition, Holds::True, Reason::Ready, format!("the API answers at {endpoint}")),
    }
}

fn told(causes: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = causes.map(short).collect();
    let more = all.len().saturating_sub(MAX_TOLD);
    all.truncate(MAX_TOLD);
    if more > 0 {
        all.push(format!("and {more} more"));
    }
    all.join("; ")
}

pub(super) fn short(mut text: String) -> String {
    named::shorten(&mut text, MAX_CAUSE);
    text
}

/// Findings as conditions; the time of one changes with its status and with nothing else.
pub(super) fn merged(
    old: &[Condition],
    findings: impl IntoIterator<Item = Finding>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let one = |Finding { condition, holds, reason, message }: Finding| {
        let before = old.iter().find(|old| old.type_ == condition && old.status == holds.word());
        Condition {
            type_: condition.into(),
            status: holds.word().into(),
            reason: reason.to_string(),
            message,
            observed_generation: generation,
            last_transition_time: before.map_or(Time(now), |before| before.last_transition_time.clone()),
        }
    };
    findings.into_iter().map(one).collect()
}
