//! The decision, as what is to be written.

use k8s_openapi::api::apps::v1::{RollingUpdateStatefulSetStrategy, StatefulSetUpdateStrategy};
use kube::ResourceExt;

use super::{Decision, Held, Step, StuckPod};
use crate::cluster::Cluster;
use crate::desired::Desired;
use crate::desired::meta::{Part, SHARD};
use crate::observe::Observed;

pub(super) fn write(
    cluster: &Cluster,
    decision: &Decision,
    stuck_bootstraps: &[u32],
    observed: &Observed,
    mut desired: Desired,
) -> Desired {
    let mut held = Held::default();
    let mut replace = |set: &str, ordinals: &[u32]| {
        held.stuck.extend(ordinals.iter().filter_map(|ordinal| pod(observed, &format!("{set}-{ordinal}"))));
    };
    replace(&Part::Bootstrap.name(cluster), stuck_bootstraps);
    for ((shard, children), step) in cluster.shards.iter().zip(&mut desired.shards).zip(&decision.steps) {
        let name = Part::Shard(shard.id).name(cluster);
        replace(&name, &step.stuck);
        if step.holds {
            held.sets.push(name);
        } else if let Some(spec) = &mut children.stateful_set.spec {
            spec.replicas = i32::try_from(step.replicas).ok();
            spec.update_strategy = Some(from(step));
        }
    }
    if decision.leaving_stay {
        let wanted: Vec<String> =
            desired.shards.iter().map(|children| children.stateful_set.name_any()).collect();
        let sets = observed.children.stateful_sets.iter();
        let leaving = sets.filter(|set| set.labels().contains_key(SHARD)).map(ResourceExt::name_any);
        held.sets.extend(leaving.filter(|name| !wanted.contains(name)));
    }
    Desired { held, ..desired }
}

/// Pods from the partition on get the new template, highest first.
fn from(step: &Step) -> StatefulSetUpdateStrategy {
    StatefulSetUpdateStrategy {
        type_: Some("RollingUpdate".into()),
        rolling_update: Some(RollingUpdateStatefulSetStrategy {
            partition: i32::try_from(step.partition).ok(),
            ..RollingUpdateStatefulSetStrategy::default()
        }),
    }
}

fn pod(observed: &Observed, name: &str) -> Option<StuckPod> {
    let pod = observed.pods.iter().find(|pod| pod.name_any() == name)?;
    Some(StuckPod { name: name.to_owned(), uid: pod.uid(), version: pod.resource_version() })
}
