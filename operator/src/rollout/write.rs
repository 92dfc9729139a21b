//! The decision, as what is to be written.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;

use super::fleet::replicas_of;
use super::{Decision, Leaving, gateway, hold};
use crate::cluster::Cluster;
use crate::desired::meta::{Part, SHARD, from_ordinal, with_image};
use crate::desired::{Desired, Held, HeldSet, StuckPod};
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
            spec.update_strategy = Some(from_ordinal(step.partition));
        }
    }
    held.sets.extend(leaving(cluster, decision.leaving, observed, &desired));
    Desired { held, ..desired }
}

/// The gateway has the image that it has; all else of it is as it is wanted.
pub(super) fn keep_gateway(cluster: &Cluster, observed: &Observed, mut desired: Desired) -> Desired {
    let name = Part::Gateway.name(cluster);
    let live = observed.children.deployments.iter().find(|deployment| deployment.name_any() == name);
    let live = live.and_then(gateway::template);
    if let (Some(live), Some(spec)) = (live, &mut desired.gateway.deployment.spec)
        && let Some(image) = gateway::image(live, &spec.template)
    {
        spec.template = with_image(std::mem::take(&mut spec.template), image);
    }
    desired
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

fn pod(observed: &Observed, name: &str) -> Option<StuckPod> {
    let pod = observed.pods.iter().find(|pod| pod.name_any() == name)?;
    Some(StuckPod { name: name.to_owned(), uid: pod.uid(), version: pod.resource_version() })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;
    use crate::desired::secrets::Keys;
    use crate::desired::{Facts, desired};
    use crate::observe::Children;
    use crate::settings::Settings;
    use crate::validate::validate;

    /// Another template, and be it by a note alone, would be another pod.
    #[test]
    fn a_gateway_that_keeps_its_image_is_made_anew_by_nothing_else() {
        for noted in [false, true] {
            let of = |image: &str| {
                let annotations = if noted { json!({"a": "b"}) } else { json!({}) };
                let resource = serde_json::from_value(json!({
                    "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster",
                    "metadata": {"name": "tiny", "namespace": "llm", "uid": "1"},
                    "spec": {
                        "image": image, "pod": {"annotations": annotations},
                        "model": {"name": "m", "source": {"builtin": {}}},
                    },
                }));
                let observed = Observed::nothing_of(resource.unwrap());
                let cluster = validate(&observed.resource, &Settings::example()).unwrap();
                let desired = desired(&cluster, &Facts::default());
                (cluster, observed, desired)
            };
            let (_, _, before) = of("node:1");
            let (cluster, mut observed, wanted) = of("node:2");
            assert_ne!(wanted.gateway, before.gateway);
            observed.children.deployments = vec![before.gateway.deployment.clone()];
            assert_eq!(keep_gateway(&cluster, &observed, wanted).gateway, before.gateway);
        }
    }

    #[test]
    fn a_shard_that_leaves_follows_the_columns_as_far_as_its_pods_have_keys() {
        // What becomes of it, columns, its pods: those that it is to have.
        let table = [
            (Leaving::Go, 1, 1, None),
            (Leaving::Stay, 3, 1, Some(1)),
            (Leaving::Follow, 1, 2, Some(1)),
            (Leaving::Follow, 0, 2, Some(0)),
            (Leaving::Follow, 2, 0, Some(2)),
            (Leaving::Follow, 3, 1, Some(2)),
            (Leaving::Follow, 3, 3, Some(3)),
        ];
        for (what, columns, live, expected) in table {
            let resource = serde_json::from_value(json!({
                "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster",
                "metadata": {"name": "tiny", "namespace": "llm", "uid": "1"},
                "spec": {
                    "model": {"name": "m", "source": {"builtin": {}}},
                    "shards": {"count": 1, "replicas": columns},
                },
            }));
            let mut observed = Observed::nothing_of(resource.unwrap());
            let cluster = validate(&observed.resource, &Settings::example()).unwrap();
            let key = |ordinal| (format!("tiny-shard-1-{ordinal}"), ByteString::default());
            let keys = Keys { identities: (0..2).map(key).collect(), ..Keys::default() };
            let desired = desired(&cluster, &Facts { keys, plan: None });
            let set = |id: u32| {
                let set = json!({
                    "metadata": {"name": format!("tiny-shard-{id}"), "labels": {SHARD: id.to_string()}},
                    "spec": {"replicas": live, "selector": {}, "serviceName": "", "template": {}},
                });
                serde_json::from_value(set).unwrap()
            };
            observed.children = Children { stateful_sets: vec![set(0), set(1)], ..Children::default() };
            let expected: Vec<_> = expected.map(|replicas| ("tiny-shard-1", replicas)).into_iter().collect();
            let found = leaving(&cluster, what, &observed, &desired);
            let found: Vec<_> = found.iter().map(|set| (&*set.name, set.replicas)).collect();
            assert_eq!(found, expected, "{what:?}, {columns} columns, {live} pods");
        }
    }
}
