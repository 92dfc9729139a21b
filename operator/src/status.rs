//! What users see. Pure: what was wanted, what was seen and done, the last status and the time in; the next status out.
//!
//! ```text
//!  Observed ─▶ fleet ─┬▶ rows                    one per shard
//!  Cluster ───────────┼▶ conditions ─▶ merged    with the last ones: a time changes with a status only
//!  Applied ───────────┘        └─────▶ phase     one word for it all
//! ```

mod address;
mod cause;
mod conditions;
mod fleet;
mod gaps;
mod obstacle;
mod phase;
mod plan;
mod resilience;

use k8s_openapi::jiff::Timestamp;

use crate::apply::{Note, Object};
use crate::cluster::Cluster;
use crate::crd::{LayerRange, Phase, Reason, ShardCluster, ShardClusterStatus, condition};
use crate::desired::Plan;
use crate::desired::meta::Part;
use crate::loss;
use crate::named;
use crate::observe::Observed;
use crate::rollout::Rollout;
use crate::validate::SpecError;
use conditions::{Holds, finding, merged};
use fleet::{Fleet, Told};
use resilience::Resilience;

/// What has come of writing the children.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What cannot be as it should.
    pub notes: Vec<Note>,
    /// Writes that are refused.
    pub refused: Vec<Refused>,
    /// What others write over, in words.
    pub contested: Option<String>,
    /// How the model differs from what the spec says of it: see [`crate::mismatch`].
    pub mismatch: Option<String>,
}

/// A write that the API server, a quota or a policy refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Of what.
    pub object: Object,
    /// What was to be done with it, and why it is refused.
    pub why: String,
}

/// The next status of a cluster. `plan` is what [`crate::facts`] found, `rollout` what [`crate::rollout`] decided.
#[must_use]
pub fn status(
    cluster: &Cluster,
    observed: &Observed,
    plan: Option<&Plan>,
    rollout: &Rollout,
    outcome: &Outcome,
    now: Timestamp,
) -> ShardClusterStatus {
    let resource = &observed.resource;
    let old = resource.status.clone().unwrap_or_default();
    let lost = loss::causes(cluster, observed, now);
    let Outcome { notes, refused, mismatch, .. } = outcome;
    let told = Told { plan, mismatch: mismatch.as_deref(), lost: &lost, refused };
    let fleet = Fleet::new(cluster, observed, told);
    let resilience = Resilience::of(&fleet);
    let endpoint = address::endpoint(cluster, observed);

    let gateway = conditions::gateway_ready(&fleet);
    let bootstrap = conditions::bootstrap_ready(cluster, &fleet, notes);
    let pipeline = conditions::pipeline_complete(cluster, &fleet, &observed.gateway, &bootstrap, rollout);
    let ready = conditions::ready(&endpoint, &gateway, &pipeline, outcome);
    let phase = phase::phase(cluster, &fleet, old.phase);
    let complete = pipeline.holds == Holds::True;
    let findings = [
        bootstrap,
        conditions::model_available(&fleet, &observed.gateway, plan.is_some()),
        conditions::shards_ready(cluster, &fleet, notes, rollout),
        gateway,
        pipeline,
        conditions::resilient(cluster, &resilience),
        ready,
    ];
    let missing: Vec<LayerRange> = match fleet.pipeline {
        Some(pipeline) => pipeline.missing_layers.iter().copied().map(Into::into).collect(),
        None => old.missing_layers.clone(),
    };
    let ready_count = fleet.shards.iter().filter(|shard| shard.group.ready() > 0).count() as u32;
    let row = |id: u32| old.shards.iter().find(|row| row.id == id);
    ShardClusterStatus {
        observed_generation: resource.metadata.generation,
        phase: Some(phase),
        pipeline_complete: complete,
        swarm_ready: fleet
            .pipeline
            .map_or(old.swarm_ready && !cluster.suspended, |pipeline| pipeline.swarm_ready),
        ready_shards: Some(format!("{ready_count}/{}", fleet.shards.len())),
        ready_shard_count: ready_count,
        missing: (!missing.is_empty()).then(|| named::layers(&missing)),
        missing_layers: missing,
        endpoint: Some(endpoint),
        bootstrap_address: address::bootstrap(cluster, observed),
        replicas: fleet.columns(),
        selector: Some(selector(cluster)),
        image: Some(cluster.image.clone()),
        model: plan
            .map(|plan| plan.model.clone())
            .filter(|model| model.total_layers > 0)
            .or_else(|| old.model.clone()),
        plan: plan.map(|plan| plan::plan(cluster, plan, &resilience)).or_else(|| old.plan.clone()),
        shards: fleet.shards.iter().map(|shard| shard.row(row(shard.id))).collect(),
        conditions: merged(&old.conditions, findings, resource.metadata.generation, now),
    }
}

/// The status of a resource of which no cluster can be made: what runs is left as it is, and as it was told.
#[must_use]
pub fn invalid(resource: &ShardCluster, error: &SpecError, now: Timestamp) -> ShardClusterStatus {
    let mut status = not_ready(resource, Reason::InvalidSpec, error.to_string(), now);
    status.observed_generation = resource.metadata.generation;
    status.phase = Some(Phase::Failed);
    status
}

/// The status of a resource of which the operator may not see all. `why` says what to do.
#[must_use]
pub fn unread(resource: &ShardCluster, why: String, now: Timestamp) -> ShardClusterStatus {
    let status = not_ready(resource, Reason::Forbidden, why, now);
    ShardClusterStatus { phase: status.phase.or(Some(Phase::Pending)), ..status }
}

/// The last one, but for this condition.
fn not_ready(resource: &ShardCluster, reason: Reason, why: String, now: Timestamp) -> ShardClusterStatus {
    let mut status = resource.status.clone().unwrap_or_default();
    let bad = finding(condition::READY, Holds::False, reason, why);
    let ready = merged(&status.conditions, [bad], resource.metadata.generation, now);
    status.conditions.retain(|one| one.type_ != condition::READY);
    status.conditions.extend(ready);
    status
}

/// One pod per column, for autoscalers.
fn selector(cluster: &Cluster) -> String {
    let labels = Part::Shard(0).selector(cluster);
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
