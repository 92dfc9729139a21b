//! Nodes that are lost, and the pods that they hold on to, against a real API server, controller-manager and scheduler.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod fixture;

use fixture::{Fleet, is_condition};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use shard_e2e::{shared, until};
use shard_operator::apply::evict;
use shard_operator::crd::condition;
use shard_operator::loss::{Eviction, Target};
use shard_operator::nodes::Standing;

const POD: &str = "tiny-shard-0-0";
const CLAIM: &str = "model-tiny-shard-0-0";

fn an_hour_ago() -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(1)
}

/// One shard, whose pod runs on node `a`. Everything else is on node `home`.
async fn fleet_on_a(test: &str, more: Value) -> Option<Fleet> {
    let fleet = Fleet::start(test).await?;
    fleet.make_node("home", "home").await;
    fleet.make_node("spare", "home").await;
    fleet.make_node("a", "work").await;
    apply(&fleet, more).await;
    fleet.gateway_knows_the_manifest(1);
    fleet.pods_run("tiny-bootstrap").await;
    fleet.gateway_runs().await;
    fleet.until_on_node(POD, "a").await;
    fleet.pods_run("tiny-shard-0").await;
    fleet.gateway_completes();
    fleet
        .until_status("it can be used", |status| is_condition(status, condition::READY, "True", "Ready"))
        .await;
    Some(fleet)
}

async fn apply(fleet: &Fleet, more: Value) {
    let mut spec = json!({
        "shards": {"count": 1, "pod": fleet.selector("work")},
        "bootstrap": {"pod": fleet.selector("home")},
        "gateway": {"pod": fleet.selector("home")},
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    fleet.apply(spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_moves_from_a_node_that_has_been_silent_for_the_bound() {
    let more = json!({"storage": {"emptyDir": true}, "nodeLossSeconds": 4});
    let Some(fleet) = fleet_on_a("silent", more).await else { return };
    let pod = fleet.api::<Pod>().get(POD).await.unwrap();
    fleet.make_node("b", "work").await;
    let lost = Timestamp::now();
    fleet.lose_node("a", lost).await;
    fleet.not_ready(&pod).await;
    let status = fleet
        .until_status("the node is told of", |status| {
            is_condition(status, condition::SHARDS_READY, "False", "NodeLost")
        })
        .await;
    let told = &status.conditions.iter().find(|one| one.type_ == condition::SHARDS_READY).unwrap().message;
    let expected = format!(
        "0 of 1 shards are ready; shard 0 has a problem: pod {POD} is on node {}, which cannot be reached; after 4 s it is replaced",
        fleet.node("a")
    );
    assert_eq!(*told, expected);
    assert_eq!(fleet.api::<Pod>().get(POD).await.unwrap().uid(), pod.uid(), "not yet");

    let next = fleet.until_on_node(POD, "b").await;
    assert_ne!(next.uid(), pod.uid());
    let made = next.metadata.creation_timestamp.unwrap().0;
    // API servers and nodes tell whole seconds.
    assert!(made.duration_since(lost) >= SignedDuration::from_secs(3), "{lost} {made}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_hangs_on_its_way_out_goes() {
    let Some(fleet) = fleet_on_a("hangs", json!({"storage": {"emptyDir": true}})).await else { return };
    fleet.make_node("b", "work").await;
    let pods = fleet.api::<Pod>();
    pods.delete(POD, &DeleteParams::default()).await.unwrap();
    fleet.settled().await;
    assert!(
        pods.get(POD).await.unwrap().metadata.deletion_timestamp.is_some(),
        "nobody says that it has ended"
    );
    fleet.lose_node("a", an_hour_ago()).await;
    fleet.touch_a_pod().await;
    fleet.until_on_node(POD, "b").await;
    assert!(fleet.has_deleted(&format!("pods/{POD}")), "not somebody else");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_moves_from_a_node_that_is_gone() {
    let more = json!({"storage": {"emptyDir": true}, "nodeLossSeconds": 1});
    let Some(fleet) = fleet_on_a("gone", more).await else { return };
    fleet.make_node("b", "work").await;
    fleet.delete_node("a").await;
    fleet.touch_a_pod().await;
    fleet.until_on_node(POD, "b").await;
    assert!(fleet.has_deleted(&format!("pods/{POD}")), "not somebody else");
    fleet.stop().await;
}

/// On a volume of node `a`.
fn on_a_volume(fleet: &Fleet, retain: bool) -> Value {
    json!({"storage": {"size": "1Gi", "storageClassName": fleet.namespace, "retainOnNodeLoss": retain}})
}

async fn fleet_on_a_volume(test: &str, retain: bool) -> Option<Fleet> {
    let fleet = Fleet::start(test).await?;
    fleet.make_node("home", "home").await;
    fleet.make_node("spare", "home").await;
    fleet.make_node("a", "work").await;
    fleet.make_volume("on-a", "a").await;
    apply(&fleet, on_a_volume(&fleet, retain)).await;
    fleet.gateway_knows_the_manifest(1);
    fleet.pods_run("tiny-bootstrap").await;
    fleet.gateway_runs().await;
    fleet.until_on_node(POD, "a").await;
    fleet.pods_run("tiny-shard-0").await;
    // Where it could go.
    fleet.make_node("b", "work").await;
    fleet.make_volume("on-b", "b").await;
    Some(fleet)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_bound_to_the_node_goes_with_the_pod() {
    let Some(fleet) = fleet_on_a_volume("claim", false).await else { return };
    let claims = fleet.api::<PersistentVolumeClaim>();
    let old = claims.get(CLAIM).await.unwrap();
    assert_eq!(old.spec.as_ref().unwrap().volume_name, Some(fleet.node("on-a")));
    let pod = fleet.api::<Pod>().get(POD).await.unwrap();
    fleet.lose_node("a", an_hour_ago()).await;
    fleet.not_ready(&pod).await;
    fleet.until_on_node(POD, "b").await;
    let new = claims.get(CLAIM).await.unwrap();
    assert_ne!(new.uid(), old.uid());
    assert!(fleet.has_deleted(&format!("persistentvolumeclaims/{CLAIM}")));
    assert_eq!(new.spec.unwrap().volume_name, Some(fleet.node("on-b")));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_to_be_kept_waits_for_the_node() {
    let Some(fleet) = fleet_on_a_volume("retain", true).await else { return };
    let claims = fleet.api::<PersistentVolumeClaim>();
    let old = claims.get(CLAIM).await.unwrap().uid();
    let pod = fleet.api::<Pod>().get(POD).await.unwrap();
    fleet.lose_node("a", an_hour_ago()).await;
    fleet.not_ready(&pod).await;
    until("the pod is another one", || async {
        let next = fleet.api::<Pod>().get_opt(POD).await.unwrap()?;
        (next.uid() != pod.uid()).then_some(())
    })
    .await;
    let words = format!(
        "pod {POD} waits for its volume on node {}, which cannot be reached: storage.retainOnNodeLoss keeps the volume",
        fleet.node("a")
    );
    fleet
        .until_status("it is told what it waits for", |status| {
            let mut all = status.conditions.iter().filter(|one| one.type_ == condition::SHARDS_READY);
            all.any(|one| one.reason == "NodeLost" && one.message.contains(&words))
        })
        .await;
    fleet.settled().await;
    assert!(fleet.has_deleted(&format!("pods/{POD}")));
    assert!(!fleet.has_deleted(&format!("persistentvolumeclaims/{CLAIM}")));
    assert_eq!(claims.get(CLAIM).await.unwrap().uid(), old);
    fleet.node_returns("a").await;
    fleet.until_on_node(POD, "a").await;
    assert_eq!(claims.get(CLAIM).await.unwrap().uid(), old);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_it_was_seen_is_left() {
    let Some(fleet) = Fleet::start("behind").await else { return };
    let client = fleet.api::<Pod>().into_client();
    for (name, role) in [("home", "home"), ("spare", "home"), ("a", "work")] {
        fleet.make_node(name, role).await;
    }
    let pods = fleet.api::<Pod>();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "lone"},
        "spec": {"nodeName": fleet.node("a"), "containers": [{"name": "c", "image": "i"}]},
    }))
    .unwrap();
    let pod = until("the namespace has an account", || async {
        pods.create(&PostParams::default(), &pod).await.ok()
    })
    .await;
    let uid = pod.uid().unwrap();
    let lost = Timestamp::from_second(1_700_000_000).unwrap();
    let eviction = |uid: &str, standing| Eviction {
        pod: Target { name: "lone".into(), uid: uid.into() },
        claims: Vec::new(),
        node: fleet.node("a"),
        standing,
    };
    let silent = Standing::Unreachable { since: lost };
    let evict = |client: &kube::Client, eviction| {
        let (client, namespace) = (client.clone(), fleet.namespace.clone());
        async move { evict(&client, &namespace, &[eviction], &[]).await }
    };
    for standing in [silent, Standing::Gone] {
        let evicted = evict(&client, eviction(&uid, standing)).await;
        assert!(
            evicted.pods.is_empty() && evicted.failure.is_none() && evicted.refused.is_empty(),
            "the node is there: {evicted:?}"
        );
    }
    fleet.lose_node("a", lost).await;
    let earlier = Standing::Unreachable { since: lost - SignedDuration::from_secs(1) };
    for eviction in [eviction(&uid, earlier), eviction(&uid, Standing::Gone), eviction("another", silent)] {
        let evicted = evict(&client, eviction).await;
        assert!(
            evicted.pods.is_empty() && evicted.failure.is_none() && evicted.refused.is_empty(),
            "{evicted:?}"
        );
    }
    let plane = shared().await.unwrap().unwrap();
    let nobody = plane.client_as(&fleet.namespace, "nobody").await.unwrap();
    let evicted = evict(&nobody, eviction(&uid, silent)).await;
    let refused: Vec<String> = evicted.refused.iter().map(ToString::to_string).collect();
    assert_eq!(refused, [format!("cannot ask for the node of Pod {}/lone", fleet.namespace)]);
    assert_eq!(pods.get("lone").await.unwrap().uid(), pod.uid());
    let evicted = evict(&client, eviction(&uid, silent)).await;
    assert_eq!((evicted.pods.len(), evicted.failure.is_none()), (1, true));
    assert!(pods.get_opt("lone").await.unwrap().is_none(), "nobody has to confirm it");
    let evicted = evict(&client, eviction(&uid, silent)).await;
    assert!(evicted.pods.is_empty() && evicted.failure.is_none() && evicted.refused.is_empty(), "once");
    fleet.stop().await;
}
