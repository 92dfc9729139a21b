//! Which plan the spec asks for, and what its manifest says: from a gateway, and from the last status while none tells,
//! so that pods stay as they are when a gateway is restarted. Pure.
//!
//! ```text
//!  a gateway tells of a plan that the origin has made ─ it fits the spec ─▶ that one
//!  else the plan that the shards' template is of      ─ it fits the spec ─▶ that one, as the last status has it
//!  else none: the origin is still at work
//! ```
//! What a gateway serves is no answer as long as the origin does not have it: it may be the plan before. It is that surely
//! where the origin speaks another wire version, which a plan's name contains.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;
use shard_wire::pipeline::{ManifestShard, ManifestSummary, PipelineStatus};

use crate::cluster::{Cluster, Source};
use crate::crd::{ModelStatus, PlanShard};
use crate::desired::Plan;
use crate::desired::meta::{PLAN, Part};
use crate::desired::shard::kv_bytes;
use crate::observe::{GatewayView, Observed};

/// The plan that the spec asks for; `None` until its manifest is known.
#[must_use]
pub fn plan(cluster: &Cluster, observed: &Observed) -> Option<Plan> {
    let taken = taken(cluster, &observed.children.stateful_sets);
    let fits = |plan: &Plan| fits(cluster, plan);
    let pipeline = match &observed.gateway {
        GatewayView::Answered(pipeline) => Some(&**pipeline),
        GatewayView::NotReady | GatewayView::Asking | GatewayView::Unreachable(_) => None,
    };
    let told = pipeline.and_then(|pipeline| told(pipeline, taken.as_deref())).filter(fits);
    let is_before = |plan: &Plan| pipeline.is_some_and(|pipeline| is_before(pipeline, &plan.name));
    let remembered = || remembered(cluster, observed, taken.as_deref()).filter(fits);
    told.or_else(remembered).filter(|plan| !is_before(plan))
}

/// The gateway serves it, or has found nothing to serve yet, and the origin can have made no such plan.
fn is_before(pipeline: &PipelineStatus, plan: &str) -> bool {
    let differ = ![pipeline.wire_version, 0].contains(&pipeline.origin.wire_version);
    let may_serve = pipeline.plan == plan || pipeline.plan.is_empty();
    pipeline.wire_version != 0 && differ && may_serve && pipeline.origin.plan != plan
}

/// What a gateway tells of the plan that is to be served.
fn told(pipeline: &PipelineStatus, taken: Option<&str>) -> Option<Plan> {
    let of = |name: &str, manifest: &ManifestSummary, total_layers, sha256: &str, size_bytes| Plan {
        name: name.to_owned(),
        shards: manifest.shards.clone(),
        model: ModelStatus { total_layers, sha256: sha256.to_owned(), size_bytes },
    };
    if let Some(next) = &pipeline.next_plan {
        let manifest = next.manifest.as_ref()?;
        return Some(of(&next.plan, manifest, next.total_layers, &next.model_sha256, next.model_bytes));
    }
    let manifest = pipeline.manifest.as_ref()?;
    // Without an origin that says so it may be the plan before: no reason to leave the one that was taken.
    let is_it = pipeline.origin.plan == pipeline.plan || taken.is_none_or(|taken| taken == pipeline.plan);
    let (layers, sha256, bytes) = (pipeline.total_layers, &pipeline.model_sha256, pipeline.model_bytes);
    is_it.then(|| of(&pipeline.plan, manifest, layers, sha256, bytes))
}

/// What the last status has, where it is of the plan that was taken.
fn remembered(cluster: &Cluster, observed: &Observed, taken: Option<&str>) -> Option<Plan> {
    let status = observed.resource.status.as_ref()?;
    let plan = status.plan.as_ref().filter(|plan| taken.is_none_or(|taken| taken == plan.id))?;
    Some(Plan {
        name: plan.id.clone(),
        shards: plan.shards.iter().map(|shard| of_status(cluster, shard)).collect(),
        model: status.model.clone().unwrap_or_default(),
    })
}

/// Whether a model that is cut so is what the spec asks for, as far as it says.
fn fits(cluster: &Cluster, plan: &Plan) -> bool {
    let starts = &cluster.model.layer_starts;
    let is_model = match &cluster.model.source {
        Source::Http { sha256: Some(sha256), .. } => {
            plan.model.sha256.is_empty() || plan.model.sha256.eq_ignore_ascii_case(sha256)
        }
        _ => true,
    };
    is_model
        && plan.shards.len() == cluster.shards.len()
        && cluster
            .model
            .total_layers
            .is_none_or(|layers| plan.shards.last().is_some_and(|last| last.end == layers))
        && (starts.is_empty() || plan.shards.iter().map(|shard| shard.start).eq(starts.iter().copied()))
}

/// The plan of the first shard's template: that StatefulSet is written before the others.
fn taken(cluster: &Cluster, sets: &[StatefulSet]) -> Option<String> {
    let first = Part::Shard(0).name(cluster);
    let set = sets.iter().find(|set| set.name_any() == first)?;
    set.spec.as_ref()?.template.metadata.as_ref()?.annotations.as_ref()?.get(PLAN).cloned()
}

/// A status has the cache of all sessions at full length; the manifest, that of one position.
fn of_status(cluster: &Cluster, shard: &PlanShard) -> ManifestShard {
    let one = ManifestShard { kv_bytes_per_token: 1, ..ManifestShard::default() };
    let positions = kv_bytes(&cluster.inference, &one).max(1);
    ManifestShard {
        shard_id: shard.id,
        start: shard.layers.start,
        end: shard.layers.end,
        weight_bytes: shard.weight_bytes,
        kv_bytes_per_token: shard.kv_bytes.div_ceil(positions),
    }
}

#[cfg(test)]
mod tests;
