//! The decision, as what is to be written.

use k8s_openapi::api::apps::v1::{RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetUpdateStrategy};
use kube::ResourceExt;

use super::fleet::replicas_of;
use super::{Decision, Held, HeldSet, Leaving, Step, StuckPod, hold};
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
            held.sets.push(HeldSet { name, replicas: step.replicas });
        } else if let Some(spec) = &mut children.stateful_set.spec {
            spec.replicas = i32::try_from(step.replicas).ok();
            spec.update_strategy = Some(from(step));
        }
    }
    held.sets.extend(leaving(cluster, decision.leaving, observed, &desired));
    Desired { held, ..desired }
}

/// Shards that the spec does not have any more, while they stay. No keys are made for them: they get no more pods than they
/// once had.
fn leaving(cluster: &Cluster, leaving: Leaving, observed: &Observed, desired: &Desired) -> Vec<HeldSet> {
    let keys = desired.secrets.identities.data.as_ref();
    let stays = |set: &&StatefulSet| {
        let name = set.name_any();
        let is_wanted = desired.shards.iter().any(|children| children.stateful_set.name_any() == name);
        leaving != Leaving::Go && !is_wanted && set.labels().contains_key(SHARD)
    };
    let held = |set: &StatefulSet| {
        let (name, live) = (set.name_any(), replicas_of(set));
        let lacks_key =
            |ordinal: &u32| keys.is_none_or(|keys| !keys.contains_key(&format!("{name}-{ordinal}")));
        let replicas = match leaving {
            Leaving::Go | Leaving::Stay => live,
            Leaving::Follow => {
                let wanted = hold::replicas(cluster.columns, live, cluster.surge);
                (live..wanted).find(lacks_key).unwrap_or(wanted)
            }
        };
        HeldSet { name, replicas }
    };
    observed.children.stateful_sets.iter().filter(stays).map(held).collect()
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
