//! Most nodes are lost at once: then it is rather the control plane that is cut off, and nothing is replaced. On a control
//! plane of its own, because every node of a cluster counts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod fixture;

use fixture::{Fleet, is_condition};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::json;
use shard_e2e::{ControlPlane, Parts, skipped};
use shard_operator::crd::{ShardClusterStatus, condition};

const POD: &str = "tiny-shard-0-0";

fn says(status: &ShardClusterStatus, words: &str) -> bool {
    let mut all = status.conditions.iter().filter(|one| one.type_ == condition::SHARDS_READY);
    all.any(|one| one.reason == "NodeLost" && one.message.contains(words))
}

#[tokio::test(flavor = "multi_thread")]
async fn when_most_nodes_are_lost_nothing_goes_until_enough_are_back() {
    let plane = match ControlPlane::start(Parts::ALL).await {
        Err(error) if skipped(&error) => return,
        plane => plane.unwrap(),
    };
    let fleet = Fleet::start_on(&plane, "cut-off").await;
    for (name, role) in [("home", "home"), ("a", "work"), ("c", "other"), ("d", "other")] {
        fleet.make_node(name, role).await;
    }
    fleet
        .apply(json!({
            "shards": {"count": 1, "pod": fleet.selector("work")},
            "bootstrap": {"pod": fleet.selector("home")},
            "gateway": {"pod": fleet.selector("home")},
            "storage": {"emptyDir": true},
        }))
        .await;
    fleet.gateway_knows_the_manifest(1);
    fleet.pods_run("tiny-bootstrap").await;
    fleet.gateway_runs().await;
    let pod = fleet.until_on_node(POD, "a").await;
    fleet.pods_run("tiny-shard-0").await;
    fleet.gateway_completes();
    fleet
        .until_status("it can be used", |status| is_condition(status, condition::READY, "True", "Ready"))
        .await;
    // Where the pod could go: of five nodes three are lost then.
    fleet.make_node("b", "work").await;

    let long_ago = Timestamp::now() - SignedDuration::from_hours(1);
    for name in ["c", "d", "a"] {
        fleet.lose_node(name, long_ago).await;
    }
    fleet.not_ready(&pod).await;
    let words = format!(
        "pod {POD} is on node {}, which cannot be reached; nothing is replaced, because most nodes are like it",
        fleet.node("a")
    );
    fleet.until_status("it is told why nothing goes", |status| says(status, &words)).await;
    fleet.settled().await;
    let same = fleet.api::<Pod>().get(POD).await.unwrap();
    assert_eq!((same.uid(), same.metadata.deletion_timestamp), (pod.uid(), None));

    // A restart does not forget it.
    let mut fleet = fleet;
    fleet.restart().await;
    fleet.settled().await;
    assert_eq!(fleet.api::<Pod>().get(POD).await.unwrap().uid(), pod.uid());
    assert!(!fleet.has_deleted(&format!("pods/{POD}")));

    fleet.node_returns("d").await;
    let next = fleet.until_on_node(POD, "b").await;
    assert_ne!(next.uid(), pod.uid());
    assert!(fleet.has_deleted(&format!("pods/{POD}")), "not somebody else");
    fleet.stop().await;
}
