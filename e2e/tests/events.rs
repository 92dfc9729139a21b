//! What `kubectl describe` tells of a life: each transition once, whatever happens in between.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod fixture;

use fixture::{Fleet, is_condition};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use serde_json::json;
use shard_e2e::{shared, until};
use shard_operator::crd::{Phase, condition};

const POD: &str = "tiny-shard-1-0";

/// From the first on: type, reason and note.
async fn events(fleet: &Fleet) -> Vec<String> {
    let all = fleet.api::<Event>().list(&ListParams::default()).await.unwrap();
    let of_cluster =
        |one: &Event| one.regarding.as_ref().is_some_and(|of| of.kind.as_deref() == Some("ShardCluster"));
    let mut all: Vec<_> = all.into_iter().filter(of_cluster).collect();
    all.sort_by_key(|one| one.event_time.as_ref().map(|time| time.0));
    let told = |one: Event| format!("{} {}: {}", one.type_.unwrap(), one.reason.unwrap(), one.note.unwrap());
    all.into_iter().map(told).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_is_told_as_a_story_and_a_restart_adds_nothing_to_it() {
    let Some(mut fleet) = Fleet::start("life").await else { return };
    for node in ["home", "spare"] {
        fleet.make_node(node, "home").await;
    }
    fleet.make_node("a", "work").await;
    fleet
        .apply(json!({
            "shards": {"count": 2, "overrides": [{"id": 1, "pod": fleet.selector("work")}], "pod": fleet.selector("home")},
            "bootstrap": {"pod": fleet.selector("home")},
            "gateway": {"pod": fleet.selector("home")},
            "storage": {"emptyDir": true},
            "nodeLossSeconds": 3,
        }))
        .await;
    let is = |condition: &'static str, holds: &'static str, reason: &'static str| {
        move |status: &shard_operator::crd::ShardClusterStatus| is_condition(status, condition, holds, reason)
    };
    fleet.until_status("it begins", |status| status.phase == Some(Phase::Pending)).await;
    fleet.pods_run("tiny-bootstrap").await;
    fleet.until_status("the bootstrap is up", is(condition::BOOTSTRAP_READY, "True", "PodsReady")).await;
    fleet.gateway_runs().await;
    fleet
        .until_status("the model is on its way", is(condition::MODEL_AVAILABLE, "False", "Downloading"))
        .await;
    fleet.gateway_knows_the_manifest(2);
    fleet.pods_run("tiny-shard-0").await;
    fleet.pods_run("tiny-shard-1").await;
    fleet.until_status("the shards are up", is(condition::SHARDS_READY, "True", "ShardsReady")).await;
    fleet.gateway_completes();
    fleet.until_status("it runs", |status| status.phase == Some(Phase::Running)).await;

    fleet.make_node("b", "work").await;
    let pod = fleet.until_on_node(POD, "a").await;
    fleet.gateway_misses_shard(1);
    fleet.touch_a_pod().await;
    fleet
        .until_status("a gateway misses it", is(condition::PIPELINE_COMPLETE, "False", "ShardsMissing"))
        .await;
    fleet.lose_node("a", Timestamp::now()).await;
    fleet.not_ready(&pod).await;
    fleet.until_on_node(POD, "b").await;
    fleet.pods_run("tiny-shard-1").await;
    fleet.until_status("the shard is back", is(condition::SHARDS_READY, "True", "ShardsReady")).await;
    fleet.gateway_completes();
    fleet.until_status("it runs again", |status| status.phase == Some(Phase::Running)).await;
    fleet.until_quiet().await;

    let a = fleet.node("a");
    let api = format!("Normal Ready: the API answers at http://tiny-gateway.{}.svc:8080", fleet.namespace);
    let lost = format!(
        "Warning NodeLost: 1 of 2 shards are ready; shard 1 has a problem: pod {POD} is on node {a}, which cannot be reached; after 3 s it is replaced"
    );
    let deleted =
        format!("Warning PodDeleted: pod {POD} is deleted by force: its node {a} cannot be reached");
    let story = [
        "Normal BootstrapReady: 1 of 1 bootstrap pods are ready",
        "Normal GatewayReady: 1 of 1 gateway pods are ready",
        "Normal ModelAvailable: the origin has the model, and the manifest is known",
        "Normal Planned: the model is cut into 2 shards of layers 0-1, 1-2",
        "Normal ShardsReady: 2 of 2 shards are ready",
        "Normal PipelineComplete: a token went through every shard",
        &api,
        "Normal Running: every pod is ready, and the pipeline is complete",
        "Warning PipelineIncomplete: layers 1-2: shard 1 is ready, but the gateway has not found its pods yet",
        "Warning Degraded: PipelineComplete does not hold",
        &lost,
        &deleted,
        "Normal ShardsReady: 2 of 2 shards are ready",
        "Normal PipelineComplete: a token went through every shard",
        &api,
        "Normal Running: every pod is ready, and the pipeline is complete",
    ];
    assert_eq!(events(&fleet).await, story);

    fleet.restart().await;
    fleet.until_quiet().await;
    assert_eq!(events(&fleet).await, story, "it is in the status already");

    // As a person sees it, in this order.
    let plane = shared().await.unwrap().unwrap();
    let output = tokio::process::Command::new(plane.program("kubectl"))
        .arg("--kubeconfig")
        .arg(plane.kubeconfig())
        .args(["--namespace", &fleet.namespace, "describe", "shardcluster", "tiny"])
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with("Events:")).skip(3);
    let shown: Vec<String> = lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {}: {}", words[0], words[1], words[4..].join(" "))
        })
        .collect();
    assert_eq!(shown, story, "{text}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_told_once() {
    let Some(fleet) = Fleet::start("refused").await else { return };
    fleet.make_service("tiny-gateway", json!({})).await;
    fleet.apply(json!({"shards": {"count": 1}})).await;
    let told = until("it is told", || async {
        let events = events(&fleet).await;
        (!events.is_empty()).then_some(events)
    })
    .await;
    assert!(told[0].starts_with("Warning ApplyFailed: "), "{told:?}");
    assert!(told[0].contains("tiny-gateway is there already and belongs to something else"), "{told:?}");
    // Another spec, which fails as the first one did.
    fleet.apply(json!({"shards": {"count": 2}})).await;
    fleet.until_status("it is looked at", |status| status.observed_generation == Some(2)).await;
    assert_eq!(events(&fleet).await, told);
    fleet.stop().await;
}
