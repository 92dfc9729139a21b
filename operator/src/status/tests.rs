use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use super::*;
use crate::apply::{Note, Workload};
use crate::observe::GatewayView;

mod many;
mod model;
mod obstacles;
mod scene;

use scene::{Scene, running};

fn condition<'a>(status: &'a ShardClusterStatus, name: &str) -> &'a Condition {
    status.conditions.iter().find(|one| one.type_ == name).unwrap()
}

#[test]
fn all_is_well() {
    let status = running().status();
    assert_eq!(status.phase, Some(Phase::Running));
    assert!(status.conditions.iter().all(|one| one.status == "True"), "{:?}", status.conditions);
    assert_eq!(status.conditions.len(), 7);
    assert_eq!((status.observed_generation, status.replicas), (Some(7), 2));
    assert_eq!(status.ready_shards.as_deref(), Some("2/2"));
    assert_eq!(status.endpoint.as_deref(), Some("http://llama-gateway.llm.svc:8080"));
    assert_eq!(
        status.selector.as_deref(),
        Some(
            "app.kubernetes.io/component=shard,app.kubernetes.io/instance=llama,app.kubernetes.io/name=shardcluster,shardcluster.io/shard=0"
        )
    );
    let plan = status.plan.unwrap();
    assert_eq!(plan.tolerates, ["the loss of any one node"]);
    assert_eq!(plan.shards[1].kv_bytes, 4 * 4096 * 1024);
    assert_eq!(plan.shards[1].memory_request.as_deref(), Some("382Mi"));
    let row = &status.shards[1];
    assert_eq!((row.desired_replicas, row.ready_replicas, row.loaded_replicas), (2, 2, 2));
    assert_eq!(row.peer_ids, ["peer-1-0", "peer-1-1"]);
    assert_eq!(row.nodes, ["node-0", "node-1"]);
}

/// What changes, and what a condition then says: its status, its reason, and a part of its message.
type Case = (&'static str, fn(&mut Scene), &'static str, &'static str, &'static str, &'static str);

#[test]
fn every_cause_is_told() {
    use condition::{
        BOOTSTRAP_READY, GATEWAY_READY, MODEL_AVAILABLE, PIPELINE_COMPLETE, READY, RESILIENT, SHARDS_READY,
    };
    let cases: Vec<Case> = vec![
        (
            "a download",
            |scene| scene.shard_downloads(1, 43.9, 2),
            PIPELINE_COMPLETE,
            "False",
            "ShardsMissing",
            "layers 2-4: shard 1 is downloading, 40 %, from 2 peers",
        ),
        (
            "no GPU",
            |scene| {
                scene.shard_1_has(&json!({"conditions": [{
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                    "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
                }]}));
            },
            SHARDS_READY,
            "False",
            "Unschedulable",
            "1 of 2 shards are ready; shard 1 has a problem: pod llama-shard-1-0 fits no node: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        ),
        (
            "an image",
            |scene| scene.shard_1_has(&waits("ErrImagePull", "not found: node:1")),
            SHARDS_READY,
            "False",
            "ImagePull",
            "pod llama-shard-1-0 cannot get its image node:1: not found: node:1",
        ),
        (
            "an image, between two attempts",
            |scene| {
                scene.shard_1_has(&waits(
                    "ImagePullBackOff",
                    "Back-off pulling image \"node:1\": ErrImagePull: not found: node:1",
                ));
            },
            SHARDS_READY,
            "False",
            "ImagePull",
            "pod llama-shard-1-0 cannot get its image node:1: not found: node:1",
        ),
        (
            "a crash loop",
            |scene| {
                let mut status = waits("CrashLoopBackOff", "back-off 5m0s");
                status["containerStatuses"][0]["lastState"] = json!({"terminated": {"exitCode": 3}});
                scene.shard_1_has(&status);
            },
            SHARDS_READY,
            "False",
            "CrashLoop",
            "crashes again and again: it ends with exit code 3",
        ),
        (
            "memory",
            |scene| {
                let mut status = waits("CrashLoopBackOff", "back-off 5m0s");
                status["containerStatuses"][0]["lastState"] =
                    json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
                scene.shard_1_has(&status);
            },
            PIPELINE_COMPLETE,
            "False",
            "ShardsMissing",
            "layers 2-4: shard 1 has a problem: pod llama-shard-1-0 was killed because it used more memory than its limit of 1Gi (OOMKilled)",
        ),
        (
            "a shard that is ready, and that the gateway does not see",
            |scene| {
                scene.sees(|seen| {
                    seen.pipeline_complete = false;
                    seen.missing_layers = vec![shard_wire::layers::LayerRange { start: 2, end: 4 }];
                });
            },
            PIPELINE_COMPLETE,
            "False",
            "ShardsMissing",
            "layers 2-4: shard 1 is ready, but the gateway has not found its pods yet",
        ),
        (
            "layers of no shard",
            |scene| {
                scene.sees(|seen| {
                    seen.pipeline_complete = false;
                    seen.missing_layers = vec![shard_wire::layers::LayerRange { start: 4, end: 6 }];
                });
            },
            PIPELINE_COMPLETE,
            "False",
            "ShardsMissing",
            "layers 4-6: no shard has them",
        ),
        (
            "a gateway that does not answer",
            |scene| scene.gateway = GatewayView::Unreachable("at 10.1.2.3:8080: timeout".into()),
            PIPELINE_COMPLETE,
            "Unknown",
            "GatewayUnreachable",
            "no gateway answers at 10.1.2.3:8080: timeout",
        ),
        (
            "a gateway that is not there",
            |scene| {
                scene.gateway = GatewayView::NotReady;
                scene.pods.retain(|pod| pod["metadata"]["name"] != "llama-gateway-0");
            },
            READY,
            "False",
            "NoPods",
            "there are no gateway pods yet",
        ),
        (
            "the same, of the gateway",
            |scene| scene.pod("llama-gateway-0")["status"] = json!({}),
            GATEWAY_READY,
            "False",
            "Starting",
            "the gateway pods are starting",
        ),
        (
            "a bootstrap on its way out",
            |scene| {
                scene.pod("llama-bootstrap-0")["metadata"]["deletionTimestamp"] =
                    "2026-01-01T00:00:00Z".into();
            },
            BOOTSTRAP_READY,
            "False",
            "Starting",
            "",
        ),
        (
            "a model on its way",
            |scene| {
                scene.sees(|seen| {
                    seen.manifest = None;
                    seen.pipeline_complete = false;
                    seen.origin.percent = 64.0;
                });
            },
            MODEL_AVAILABLE,
            "False",
            "Downloading",
            "the origin has 60 % of the model",
        ),
        (
            "no token yet",
            |scene| {
                scene.sees(|seen| {
                    seen.pipeline_complete = false;
                    seen.reason = "the probe is under way".into();
                });
            },
            READY,
            "False",
            "NotProven",
            "the probe is under way",
        ),
        (
            "a node that one of two pods is on",
            |scene| scene.node_1_is_lost("llama-shard-1-1", false),
            RESILIENT,
            "False",
            "SingleReplica",
            "shard 1 has 1 ready pod: pod llama-shard-1-1 is on node node-1, which cannot be reached; after 60 s it is replaced",
        ),
        (
            "a node that the only pod is on",
            |scene| {
                scene.pods.retain(|pod| pod["metadata"]["name"] != "llama-shard-1-0");
                scene.node_1_is_lost("llama-shard-1-1", true);
            },
            SHARDS_READY,
            "False",
            "NodeLost",
            "1 of 2 shards are ready; shard 1 has a problem: pod llama-shard-1-1 is on node node-1, which cannot be reached; after 60 s it is replaced",
        ),
        (
            "one node for two",
            |scene| scene.pod("llama-shard-0-1")["spec"]["nodeName"] = "node-0".into(),
            RESILIENT,
            "False",
            "ReplicasShareNode",
            "shard 0 has all 2 ready pods on node node-0",
        ),
        (
            "suspended",
            |scene| scene.resource["spec"]["suspend"] = true.into(),
            READY,
            "False",
            "Suspended",
            "everything but the gateway is stopped",
        ),
        (
            "refused",
            |scene| {
                scene.is_refused("StatefulSet", "llama-shard-0");
                scene.is_refused("Pod", "llama-shard-1-0");
            },
            READY,
            "False",
            "ApplyFailed",
            "cannot apply StatefulSet llama-shard-0: quota; cannot apply Pod llama-shard-1-0: quota",
        ),
        (
            "a volume that cannot grow",
            |scene| {
                let message = "claim x cannot grow".into();
                let note = Note { workload: Workload::Shard(1), reason: Reason::VolumeNotResized, message };
                scene.outcome.notes = vec![note];
            },
            SHARDS_READY,
            "True",
            "VolumeNotResized",
            "2 of 2 shards are ready; but claim x cannot grow",
        ),
    ];
    for (case, change, name, holds, reason, message) in cases {
        let mut scene = running();
        change(&mut scene);
        let status = scene.status();
        let found = condition(&status, name);
        assert_eq!((&*found.status, &*found.reason), (holds, reason), "{case}: {}", found.message);
        assert!(found.message.contains(message), "{case}: {}", found.message);
        assert!(
            status.conditions.iter().all(|one| !one.message.is_empty()),
            "{case}: {:?}",
            status.conditions
        );
    }
}

fn waits(reason: &str, message: &str) -> Value {
    json!({"containerStatuses": [{
        "name": "c", "image": "node:1", "imageID": "", "ready": false, "restartCount": 1,
        "state": {"waiting": {"reason": reason, "message": message}},
    }]})
}

#[test]
fn phases() {
    let phase = |change: fn(&mut Scene)| {
        let mut scene = running();
        change(&mut scene);
        scene.status().phase.unwrap()
    };
    let unknown: fn(&mut Scene) = |scene| {
        scene.sees(|seen| {
            seen.manifest = None;
            seen.pipeline_complete = false;
        });
    };
    assert_eq!(phase(unknown), Phase::Downloading);
    assert_eq!(phase(|scene| scene.gateway = GatewayView::NotReady), Phase::Pending);
    assert_eq!(phase(|scene| drop(scene.pods.pop())), Phase::Degraded, "a replica less");
    assert_eq!(phase(|scene| scene.sees(|seen| seen.pipeline_complete = false)), Phase::Loading);
    assert_eq!(phase(|scene| scene.resource["spec"]["shards"]["replicas"] = 0.into()), Phase::Suspended);

    let mut later = running().after(&running().status());
    later.shard_1_has(&json!({}));
    assert_eq!(later.status().phase, Some(Phase::Degraded), "it has served");
}

#[test]
fn times_change_with_a_status_and_with_nothing_else() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let time = |status: &ShardClusterStatus, name| condition(status, name).last_transition_time.0.as_second();
    let first = running().status_at(at(1000));

    let same = running().after(&first);
    assert_eq!(same.status_at(at(2000)), first, "nothing to write");

    let mut lost = running().after(&first);
    lost.shard_1_has(&json!({}));
    let second = lost.status_at(at(2000));
    assert_eq!(time(&second, condition::SHARDS_READY), 2000);
    assert_eq!(time(&second, condition::GATEWAY_READY), 1000);

    let mut told = running().after(&second);
    told.shard_1_has(&waits("ErrImagePull", "not found"));
    let third = told.status_at(at(3000));
    assert_ne!(
        condition(&third, condition::SHARDS_READY).reason,
        condition(&second, condition::SHARDS_READY).reason
    );
    assert_eq!(time(&third, condition::SHARDS_READY), 2000, "still false");
}

#[test]
fn what_a_gateway_knew_stays_while_none_answers() {
    let first = running().status();
    let mut scene = running().after(&first);
    scene.gateway = GatewayView::Unreachable("gone".into());
    let status = scene.status();
    assert_eq!((&status.plan, &status.model, &status.shards), (&first.plan, &first.model, &first.shards));
    assert_eq!(condition(&status, condition::MODEL_AVAILABLE).status, "True");
    assert_eq!(status.phase, Some(Phase::Degraded));
    assert!(!status.pipeline_complete);
}

#[test]
fn an_invalid_spec_is_told_and_the_rest_stays() {
    let before = running().status();
    let scene = running().after(&before);
    let resource: ShardCluster = serde_json::from_value(scene.resource).unwrap();
    let now = Timestamp::from_second(9).unwrap();
    let status = invalid(&resource, &SpecError::Source { found: 2 }, now);
    let ready = condition(&status, condition::READY);
    assert_eq!((&*ready.status, &*ready.reason), ("False", "InvalidSpec"));
    assert!(ready.message.contains("exactly one"), "{}", ready.message);
    assert_eq!(status.phase, Some(Phase::Failed));
    assert_eq!(status.shards, before.shards);
    assert_eq!(status.conditions.len(), before.conditions.len());
}
