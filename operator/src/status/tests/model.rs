//! What is told of a model that does not fit the spec, and of one that is on its way while another is served.

use serde_json::json;
use shard_wire::layers::LayerRange as Range;
use shard_wire::pipeline::{Download, NextPlan, ReplicaStatus, ShardStatus};

use super::condition;
use super::scene::{Scene, running, running_with};
use crate::crd::Phase;
use crate::crd::condition::{MODEL_AVAILABLE, PIPELINE_COMPLETE, READY, SHARDS_READY};

fn replica(peer: &str, loaded: bool, percent: f32) -> ReplicaStatus {
    let download = Download { percent, peers: 2, ..Download::default() };
    ReplicaStatus { peer_id: peer.into(), loaded, download, ..ReplicaStatus::default() }
}

/// The pods are of a new plan of the same shape, whose shard 0 is loaded and whose shard 1 is not; nobody serves the old one.
fn between_plans() -> Scene {
    let mut scene = running_with(2);
    scene.pods.retain(|pod| !pod["metadata"]["name"].as_str().unwrap().ends_with("-1"));
    scene.pod("llama-shard-1-0")["status"] = json!({});
    scene.sees(|seen| {
        seen.pipeline_complete = false;
        seen.missing_layers = vec![Range { start: 0, end: 4 }];
        seen.shards.iter_mut().for_each(|shard| shard.replicas.clear());
        let shard = |id: u32, replica| ShardStatus {
            shard_id: id,
            layers: Range { start: 2 * id, end: 2 * id + 2 },
            online: true,
            replicas: vec![replica],
        };
        seen.next_plan = Some(NextPlan {
            plan: "p2".into(),
            total_layers: 4,
            manifest: seen.manifest.clone(),
            shards: vec![shard(0, replica("a", true, 100.0)), shard(1, replica("b", false, 41.0))],
            ..NextPlan::default()
        });
    });
    scene
}

#[test]
fn what_a_new_plan_waits_for_is_told_while_the_old_one_is_what_a_gateway_serves() {
    let status = between_plans().status();
    assert_eq!(status.plan.as_ref().unwrap().id, "p2");
    let message = "layers 0-2: shard 0 is ready for the new plan, and waits for its other shards; \
                   layers 2-4: shard 1 is downloading, 40 %, from 2 peers";
    assert_eq!(condition(&status, PIPELINE_COMPLETE).message, message);
    let found = condition(&status, SHARDS_READY);
    assert_eq!(found.reason, "Downloading");
    let row = |id: usize| {
        let row = &status.shards[id];
        (row.loaded_replicas, row.download_percent, row.peer_ids.clone())
    };
    assert_eq!(row(0), (1, None, vec!["a".to_owned()]));
    assert_eq!(row(1), (0, Some(40), vec!["b".to_owned()]));
}

#[test]
fn a_peer_of_both_plans_is_one_and_a_plan_that_is_not_wanted_is_none() {
    let mut scene = between_plans();
    scene.sees(|seen| seen.shards[0].replicas = vec![replica("a", true, 100.0), replica("c", true, 100.0)]);
    assert_eq!(scene.status().shards[0].peer_ids, ["a", "c"]);
    assert_eq!(scene.status().shards[0].loaded_replicas, 2);
    // Of three shards: the spec asks for two, and keeps the plan that it has.
    scene.sees(|seen| {
        let next = seen.next_plan.as_mut().unwrap();
        let manifest = next.manifest.as_mut().unwrap();
        manifest.shards.push(manifest.shards[1].clone());
    });
    assert_eq!(scene.status().shards[1].peer_ids, Vec::<String>::new());
}

#[test]
fn a_model_that_does_not_fit_is_told_with_what_to_do_and_is_no_download() {
    let mut scene = running();
    for id in 0..2 {
        scene.shard_has(id, &json!({}));
    }
    scene.resource["spec"]["model"]["totalLayers"] = 32.into();
    scene.outcome.mismatch = Some("4 layers, not 32".into());
    let status = scene.status();
    assert_eq!(status.phase, Some(Phase::Pending));
    for (name, message) in [
        (MODEL_AVAILABLE, "4 layers, not 32"),
        (PIPELINE_COMPLETE, "4 layers, not 32"),
        (READY, "4 layers, not 32"),
        (
            SHARDS_READY,
            "0 of 2 shards are ready; shards 0, 1 wait for another model, or another spec: 4 layers, not 32",
        ),
    ] {
        let found = condition(&status, name);
        assert_eq!((&*found.status, &*found.reason, &*found.message), ("False", "ModelMismatch", message));
    }
}

#[test]
fn while_nothing_is_known_a_broken_bootstrap_is_why_and_one_that_starts_is_not() {
    let mut scene = running();
    scene.sees(|seen| {
        seen.manifest = None;
        seen.pipeline_complete = false;
        seen.reason = "no shard has announced itself".into();
    });
    scene.pod("llama-bootstrap-0")["status"] = json!({});
    let status = scene.status();
    assert_eq!(condition(&status, READY).message, "no shard has announced itself");
    scene.pod("llama-bootstrap-0")["status"] = json!({"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no claim",
    }]});
    let status = scene.status();
    for name in [PIPELINE_COMPLETE, READY] {
        let found = condition(&status, name);
        let said = (&*found.status, &*found.reason, &*found.message);
        assert_eq!(said, ("False", "Unschedulable", "pod llama-bootstrap-0 fits no node: no claim"));
    }
}
