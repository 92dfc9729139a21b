//! What is the same of many shards is said once.

use serde_json::json;

use super::scene::{Scene, running_with};
use super::{condition, waits};
use crate::crd::condition::{PIPELINE_COMPLETE, RESILIENT, SHARDS_READY};
use crate::rollout::Rollout;

/// Shards, what changes, a condition, its reason and its message.
type Case = (u32, fn(&mut Scene), &'static str, &'static str, &'static str);

fn all_lack_their_image(scene: &mut Scene) {
    let shards = scene.resource["spec"]["shards"]["count"].as_u64().unwrap() as u32;
    (0..shards).for_each(|id| scene.shard_has(id, &waits("ErrImagePull", "not found: node:1")));
}

fn one_pod_each(scene: &mut Scene) {
    scene.pods.retain(|pod| {
        let name = pod["metadata"]["name"].as_str().unwrap();
        !name.contains("shard") || name.ends_with("-0")
    });
}

#[test]
fn equal_causes_are_one_sentence() {
    let cases: Vec<Case> = vec![
        (
            4,
            all_lack_their_image,
            SHARDS_READY,
            "ImagePull",
            "0 of 4 shards are ready; shards 0-3 each have a pod that cannot get its image node:1: not found: node:1",
        ),
        (
            100,
            all_lack_their_image,
            PIPELINE_COMPLETE,
            "ShardsMissing",
            "layers 0-200: shards 0-99 each have a pod that cannot get its image node:1: not found: node:1",
        ),
        (
            4,
            all_lack_their_image,
            RESILIENT,
            "SingleReplica",
            "shards 0-3 each have no ready pod, and a pod that cannot get its image node:1: not found: node:1",
        ),
        (
            6,
            |scene| {
                let causes = ["no", "so", "no", "no", "so"];
                (0..).zip(causes).for_each(|(id, why)| scene.shard_has(id, &waits("ErrImagePull", why)));
            },
            PIPELINE_COMPLETE,
            "ShardsMissing",
            "layers 0-2, 4-8: shards 0, 2, 3 each have a pod that cannot get its image node:1: no; layers 2-4, 8-10: shards 1, 4 each have a pod that cannot get its image node:1: so",
        ),
        (
            4,
            |scene| (0..4).for_each(|id| scene.shard_downloads(id, 20.0 + 10.0 * id as f32, id)),
            PIPELINE_COMPLETE,
            "ShardsMissing",
            "layers 0-8: shards 0-3 are downloading, 20-50 %, from 0-3 peers",
        ),
        (
            4,
            |scene| {
                scene.shard_downloads(1, 45.0, 1);
                scene.shard_downloads(2, 45.0, 1);
                scene.shard_has(3, &json!({}));
            },
            SHARDS_READY,
            "Downloading",
            "1 of 4 shards are ready; shards 1, 2 are downloading, 45 %, from 1 peer; shard 3 is starting",
        ),
        (
            3,
            |scene| {
                scene.shard_downloads(0, 45.0, 1);
                scene.shard_has(1, &waits("ErrImagePull", "no"));
            },
            SHARDS_READY,
            "ImagePull",
            "1 of 3 shards are ready; shard 1 has a problem: pod llama-shard-1-0 cannot get its image node:1: no; shard 0 is downloading, 45 %, from 1 peer",
        ),
        (
            200,
            |scene| (0..100).for_each(|n| scene.shard_has(2 * n, &waits("ErrImagePull", "no"))),
            PIPELINE_COMPLETE,
            "ShardsMissing",
            "layers 0-2, 4-6, 8-10, 12-14, 16-18, 20-22, 24-26, 28-30, and 92 more: shards 0, 2, 4, 6, 8, 10, 12, 14, and 92 more each have a pod that cannot get its image node:1: no",
        ),
        (4, one_pod_each, RESILIENT, "SingleReplica", "shards 0-3 each have 1 ready pod"),
        (
            4,
            |scene| {
                for pod in ["llama-shard-0-1", "llama-shard-1-1"] {
                    scene.pod(pod)["spec"]["nodeName"] = "node-0".into();
                }
            },
            RESILIENT,
            "ReplicasShareNode",
            "shards 0, 1 each have all 2 ready pods on node node-0",
        ),
        (
            4,
            |scene| {
                (0..4).for_each(|id| scene.shard_has(id, &json!({})));
                scene.rollout = Rollout::Turn { moving: vec![0], waiting: vec![1, 2, 3] };
            },
            SHARDS_READY,
            "Rolling",
            "the pods of shard 0 are replaced, then shards 1-3; 0 of 4 shards are ready; shards 0-3 are starting",
        ),
    ];
    for (shards, change, name, reason, message) in cases {
        let mut scene = running_with(shards);
        change(&mut scene);
        let status = scene.status();
        let found = condition(&status, name);
        assert_eq!((&*found.status, &*found.reason), ("False", reason), "{}", found.message);
        assert_eq!(found.message, message);
    }
}

#[test]
fn a_rollout_explains_what_passes_and_no_problem() {
    let rolling = Rollout::Turn { moving: vec![1], waiting: vec![] };
    let reason = |change: fn(&mut Scene)| {
        let mut scene = running_with(2);
        change(&mut scene);
        scene.rollout = rolling.clone();
        let status = scene.status();
        [SHARDS_READY, PIPELINE_COMPLETE].map(|name| condition(&status, name).reason.clone())
    };
    assert_eq!(reason(|_| {}), ["Rolling", "Rolling"], "all is well");
    assert_eq!(reason(|scene| scene.shard_has(1, &json!({}))), ["Rolling", "Rolling"]);
    assert_eq!(reason(|scene| scene.shard_downloads(1, 20.0, 1)), ["Rolling", "Rolling"]);
    let no_image: fn(&mut Scene) = |scene| scene.shard_has(1, &waits("ErrImagePull", "no"));
    assert_eq!(reason(no_image), ["ImagePull", "Rolling"]);
    let suspended: fn(&mut Scene) = |scene| scene.resource["spec"]["suspend"] = true.into();
    assert_eq!(reason(suspended), ["Suspended", "Suspended"]);
}
