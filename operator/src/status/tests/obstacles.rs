//! What stands in the way of pods and of the model, and what is told of it.

use serde_json::json;

use super::condition;
use super::scene::{Scene, running, running_with};
use crate::apply::{Note, Workload};
use crate::crd::Reason;
use crate::crd::condition::{
    BOOTSTRAP_READY, GATEWAY_READY, MODEL_AVAILABLE, PIPELINE_COMPLETE, READY, RESILIENT, SHARDS_READY,
};
use crate::desired::meta::Part;
use crate::observe::obstacles::{Kind, Missing};

/// What changes, a condition, its status, its reason and its message.
type Case = (fn(&mut Scene), &'static str, &'static str, &'static str, &'static str);

fn check(scene: fn() -> Scene, cases: &[Case]) {
    for (change, name, holds, reason, message) in cases {
        let mut scene = scene();
        change(&mut scene);
        let status = scene.status();
        let found = condition(&status, name);
        assert_eq!((&*found.status, &*found.reason, &*found.message), (*holds, *reason, *message));
    }
}

const QUOTA: &str = "exceeded quota: q, requested: pods=1";

fn refused(scene: &mut Scene, workload: &str) {
    scene.obstacles.refused.insert(workload.to_owned(), QUOTA.to_owned());
}

fn without(scene: &mut Scene, prefix: &str) {
    scene.pods.retain(|pod| !pod["metadata"]["name"].as_str().unwrap().starts_with(prefix));
}

#[test]
fn pods_that_cannot_be_created_are_explained() {
    let none_of_shards: fn(&mut Scene) = |scene| {
        for id in [1, 2] {
            scene.shard_has(id, &json!({}));
            without(scene, &format!("llama-shard-{id}-"));
            refused(scene, &format!("llama-shard-{id}"));
        }
    };
    let one_of_shard_1: fn(&mut Scene) = |scene| {
        without(scene, "llama-shard-1-1");
        refused(scene, "llama-shard-1");
    };
    let cases: [Case; 10] = [
        (
            |scene| {
                without(scene, "llama-bootstrap-");
                refused(scene, "llama-bootstrap");
            },
            BOOTSTRAP_READY,
            "False",
            "FailedCreate",
            "bootstrap pods cannot be created: exceeded quota: q, requested: pods=1",
        ),
        (
            |scene| {
                without(scene, "llama-gateway-");
                refused(scene, "llama-gateway");
            },
            READY,
            "False",
            "FailedCreate",
            "gateway pods cannot be created: exceeded quota: q, requested: pods=1",
        ),
        (
            |scene| refused(scene, "llama-gateway"),
            GATEWAY_READY,
            "True",
            "FailedCreate",
            "1 of 1 gateway pods are ready; but gateway pods cannot be created: exceeded quota: q, requested: pods=1",
        ),
        (
            none_of_shards,
            SHARDS_READY,
            "False",
            "FailedCreate",
            "1 of 3 shards are ready; shards 1, 2 have no pods, because they cannot be created: exceeded quota: q, requested: pods=1",
        ),
        (
            none_of_shards,
            PIPELINE_COMPLETE,
            "False",
            "ShardsMissing",
            "layers 2-6: shards 1, 2 have no pods, because they cannot be created: exceeded quota: q, requested: pods=1",
        ),
        (
            one_of_shard_1,
            SHARDS_READY,
            "True",
            "FailedCreate",
            "3 of 3 shards are ready; but shard 1 lacks pods, because they cannot be created: exceeded quota: q, requested: pods=1",
        ),
        (
            one_of_shard_1,
            RESILIENT,
            "False",
            "SingleReplica",
            "shard 1 has 1 ready pod, and no more can be created: exceeded quota: q, requested: pods=1",
        ),
        (
            |scene| {
                without(scene, "llama-gateway-");
                scene.is_refused("StatefulSet", "llama-shard-0");
            },
            GATEWAY_READY,
            "False",
            "NoPods",
            "there is no Deployment llama-gateway yet: Ready says what was refused",
        ),
        (
            |scene| {
                without(scene, "llama-gateway-");
                scene.is_refused("Deployment", "llama-gateway");
            },
            GATEWAY_READY,
            "False",
            "NoPods",
            "there are no gateway pods: cannot apply Deployment llama-gateway: quota",
        ),
        (
            |scene| {
                without(scene, "llama-shard-1-");
                scene.is_refused("StatefulSet", "llama-shard-1");
            },
            SHARDS_READY,
            "False",
            "NoPods",
            "2 of 3 shards are ready; shard 1 has no pods: cannot apply StatefulSet llama-shard-1: quota",
        ),
    ];
    check(|| running_with(3), &cases);
}

fn lacks(scene: &mut Scene, part: Part, field: &'static str, kind: Kind, entry: Option<&str>, exists: bool) {
    let pod = if part == Part::Gateway { "llama-gateway-0" } else { "llama-bootstrap-0" };
    scene.pod(pod)["status"] = json!({"containerStatuses": [{
        "name": "c", "image": "node:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ContainerCreating"}},
    }]});
    let entry = entry.map(str::to_owned);
    scene.obstacles.missing.push(Missing { part, field, kind, name: "it".into(), entry, exists });
}

#[test]
fn what_a_user_has_yet_to_make_is_named_with_its_field() {
    let cases: [Case; 5] = [
        (
            |scene| lacks(scene, Part::Gateway, "gateway.apiKeysSecretRef", Kind::Secret, None, false),
            GATEWAY_READY,
            "False",
            "SecretMissing",
            "gateway.apiKeysSecretRef names Secret it, which does not exist: create it, or remove the field",
        ),
        (
            |scene| lacks(scene, Part::Bootstrap, "a.tokenSecretRef", Kind::Secret, Some("token"), false),
            BOOTSTRAP_READY,
            "False",
            "SecretMissing",
            "a.tokenSecretRef names Secret it, which does not exist: create it with an entry token, or remove the field",
        ),
        (
            |scene| lacks(scene, Part::Bootstrap, "a.caBundleRef", Kind::ConfigMap, Some("ca.crt"), true),
            BOOTSTRAP_READY,
            "False",
            "ConfigMapMissing",
            "a.caBundleRef names entry ca.crt of ConfigMap it, which has none of this name: add it, or name another one",
        ),
        (
            |scene| lacks(scene, Part::Bootstrap, "a.tokenSecretRef", Kind::Secret, Some("token"), false),
            GATEWAY_READY,
            "True",
            "PodsReady",
            "1 of 1 gateway pods are ready",
        ),
        (
            |scene| {
                lacks(scene, Part::Gateway, "gateway.apiKeysSecretRef", Kind::Secret, None, false);
                scene.pod("llama-gateway-0")["status"] = super::waits("ErrImagePull", "not found");
            },
            GATEWAY_READY,
            "False",
            "ImagePull",
            "pod llama-gateway-0 cannot get its image node:1: not found",
        ),
    ];
    check(running, &cases);
}

#[test]
fn what_the_origin_fails_at_is_the_cause_of_all_that_waits_for_it() {
    let fails: fn(&mut Scene) = |scene| {
        scene.sees(|seen| {
            (seen.manifest, seen.pipeline_complete) = (None, false);
            seen.origin.error = "https://host/m.gguf: the server answers 404".into();
        });
    };
    let cases: [Case; 6] = [
        (
            fails,
            MODEL_AVAILABLE,
            "False",
            "OriginFailed",
            "the origin cannot get the model: https://host/m.gguf: the server answers 404; it tries again",
        ),
        (
            fails,
            READY,
            "False",
            "OriginFailed",
            "the origin cannot get the model: https://host/m.gguf: the server answers 404; it tries again",
        ),
        (
            |scene| {
                without(scene, "llama-shard-");
                scene.sees(|seen| {
                    (seen.manifest, seen.pipeline_complete) = (None, false);
                    seen.origin.error = "no".into();
                });
            },
            SHARDS_READY,
            "False",
            "OriginFailed",
            "0 of 2 shards are ready; shards 0, 1 wait for the manifest, and the origin cannot get the model: no; it tries again",
        ),
        (
            |scene| scene.sees(|seen| seen.origin.error = "no room".into()),
            MODEL_AVAILABLE,
            "True",
            "OriginFailed",
            "the manifest is known; but the origin cannot get the model: no room; it tries again",
        ),
        (
            |scene| scene.sees(|seen| seen.origin.error = "no room".into()),
            PIPELINE_COMPLETE,
            "True",
            "Complete",
            "a token went through every shard",
        ),
        (
            |scene| {
                without(scene, "llama-bootstrap-");
                scene.sees(|seen| {
                    (seen.manifest, seen.pipeline_complete) = (None, false);
                    seen.origin.error = "of one that is gone".into();
                });
            },
            MODEL_AVAILABLE,
            "False",
            "BootstrapNotReady",
            "no bootstrap is ready to fetch the model",
        ),
    ];
    check(running, &cases);

    let mut scene = running();
    fails(&mut scene);
    scene.sees(|seen| seen.origin.error = "ü".repeat(256));
    let message = &condition(&scene.status(), MODEL_AVAILABLE).message.clone();
    assert!(message.len() < 400 && message.ends_with("…; it tries again"), "{message}");
}

#[test]
fn a_claim_that_cannot_grow_is_told_though_its_pod_does_not_run() {
    let note =
        |workload| Note { workload, reason: Reason::VolumeNotResized, message: "claim x cannot grow".into() };
    let mut scene = running();
    scene.outcome.notes = vec![note(Workload::Bootstrap), note(Workload::Shard(1))];
    scene.is_refused("Service", "something-else");
    scene.pod("llama-bootstrap-0")["status"] = json!({});
    scene.shard_1_has(&json!({}));
    let status = scene.status();
    let told = |name| {
        let found = condition(&status, name);
        (&*found.status, &*found.reason, &*found.message)
    };
    assert_eq!(
        told(BOOTSTRAP_READY),
        ("False", "Starting", "the bootstrap pods are starting; and claim x cannot grow")
    );
    assert_eq!(
        told(SHARDS_READY),
        ("False", "Starting", "1 of 2 shards are ready; shard 1 is starting; and claim x cannot grow")
    );
}
