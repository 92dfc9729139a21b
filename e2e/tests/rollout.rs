//! How pods move to another template and to another plan, against a real API server and the real StatefulSet controller.
//! There are no kubelets: the tests make one pod ready at a time, and look at all of them in between.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod fixture;
mod rolling;

use fixture::{Fleet, is_condition};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use rolling::{PLAN, SHARD, Seen, bootstrap_runs, complete, ready_of, shard_pods, step_through};
use serde_json::json;
use shard_e2e::until;
use shard_operator::crd::{ShardCluster, condition};

#[tokio::test(flavor = "multi_thread")]
async fn an_image_moves_one_shard_at_a_time() {
    let Some(fleet) = Fleet::start("rollout-image").await else { return };
    fleet.apply(json!({"image": "node:1", "shards": {"count": 2, "replicas": 2}})).await;
    complete(&fleet, 2, 2).await;

    fleet.apply(json!({"image": "node:2", "shards": {"count": 2, "replicas": 2}})).await;
    fleet
        .until_status("the shards wait for the bootstrap", |status| {
            is_condition(status, condition::SHARDS_READY, "True", "Rolling")
        })
        .await;
    assert!(shard_pods(&fleet).await.iter().all(|pod| pod.image == "node:1"));
    until("the new bootstrap is there", || async {
        let pod = fleet.api::<Pod>().get_opt("tiny-bootstrap-0").await.unwrap()?;
        (pod.spec?.containers[0].image.as_deref() == Some("node:2")).then_some(())
    })
    .await;
    bootstrap_runs(&fleet).await;
    let check = |pods: &[Seen]| {
        let ready = ready_of(pods, |_| true);
        let short = (0..2).filter(|shard| ready.get(shard).copied().unwrap_or(0) < 2).count();
        assert!(short <= 1, "two shards at once: {pods:#?}");
        assert_eq!(ready.len(), 2, "a shard serves nothing: {pods:#?}");
    };
    step_through(&fleet, "all pods have the new image", check, |pods| {
        pods.len() == 4 && pods.iter().all(|pod| pod.ready && pod.image == "node:2")
    })
    .await;
    let status = fleet
        .until_status("the rollout is over", |status| {
            is_condition(status, condition::SHARDS_READY, "True", "ShardsReady")
        })
        .await;
    assert_eq!((status.replicas, status.image.as_deref()), (2, Some("node:2")));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_cannot_start_is_replaced_when_the_image_is_mended() {
    let Some(fleet) = Fleet::start("rollout-stuck").await else { return };
    fleet.apply(json!({"image": "node:1", "shards": {"count": 1}})).await;
    complete(&fleet, 1, 1).await;
    let image_of = |name: &'static str, image: &'static str| {
        let fleet = &fleet;
        until("the pod has the image", move || async move {
            let pod = fleet.api::<Pod>().get_opt(name).await.unwrap()?;
            (pod.spec.as_ref()?.containers[0].image.as_deref() == Some(image)).then(|| pod.uid().unwrap())
        })
    };
    fleet.apply(json!({"image": "node:bad", "shards": {"count": 1}})).await;
    image_of("tiny-bootstrap-0", "node:bad").await;
    bootstrap_runs(&fleet).await;
    // It never gets ready.
    image_of("tiny-shard-0-0", "node:bad").await;
    fleet.apply(json!({"image": "node:2", "shards": {"count": 1}})).await;
    image_of("tiny-bootstrap-0", "node:2").await;
    bootstrap_runs(&fleet).await;
    image_of("tiny-shard-0-0", "node:2").await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_start_ends_at_the_bootstrap() {
    let Some(fleet) = Fleet::start("rollout-canary").await else { return };
    fleet.apply(json!({"image": "node:1", "shards": {"count": 2}})).await;
    complete(&fleet, 2, 1).await;
    let bootstrap = async |image: &'static str| {
        let pods = fleet.api::<Pod>();
        until("the bootstrap has the image", || async {
            let pod = pods.get_opt("tiny-bootstrap-0").await.unwrap()?;
            (pod.spec?.containers[0].image.as_deref() == Some(image)).then_some(())
        })
        .await;
    };
    // Nobody makes it ready.
    fleet.apply(json!({"image": "node:bad", "shards": {"count": 2}})).await;
    bootstrap("node:bad").await;
    fleet
        .until_status("it serves, and waits", |status| {
            is_condition(status, condition::SHARDS_READY, "True", "Rolling")
                // There are no nodes, which the scheduler soon tells.
                && ["Starting", "Unschedulable"]
                    .iter()
                    .any(|why| is_condition(status, condition::BOOTSTRAP_READY, "False", why))
        })
        .await;
    let pods = shard_pods(&fleet).await;
    assert!(pods.iter().all(|pod| pod.ready && pod.image == "node:1"), "{pods:#?}");

    fleet.apply(json!({"image": "node:2", "shards": {"count": 2}})).await;
    bootstrap("node:2").await;
    bootstrap_runs(&fleet).await;
    step_through(
        &fleet,
        "all pods have the mended image",
        |_| {},
        |pods| pods.len() == 2 && pods.iter().all(|pod| pod.ready && pod.image == "node:2"),
    )
    .await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_plan_moves_column_by_column_and_one_is_complete() {
    let Some(fleet) = Fleet::start("rollout-plan").await else { return };
    fleet.apply(json!({"shards": {"count": 3, "replicas": 2}})).await;
    complete(&fleet, 3, 2).await;

    fleet.apply(json!({"shards": {"count": 2, "replicas": 2}})).await;
    fleet
        .until_status("the new manifest is not known", |status| {
            is_condition(status, condition::PIPELINE_COMPLETE, "True", "Rolling")
        })
        .await;
    until("the bootstrap is on its way", || async {
        let pod = fleet.api::<Pod>().get_opt("tiny-bootstrap-0").await.unwrap()?;
        let ready = pod.status?.conditions.unwrap_or_default();
        (!ready.iter().any(|one| one.type_ == "Ready" && one.status == "True")).then_some(())
    })
    .await;
    let pods = shard_pods(&fleet).await;
    assert_eq!(pods.len(), 6, "the shards of the plan before serve");
    assert!(pods.iter().all(|pod| pod.ready && pod.plan == "p1"));

    bootstrap_runs(&fleet).await;
    fleet.gateway_knows_of_another_plan("p2", 2);
    let check = |pods: &[Seen]| {
        let serve = |plan: &str, shards: usize| ready_of(pods, |pod| pod.plan == plan).len() == shards;
        assert!(serve("p1", 3) || serve("p2", 2), "no plan is complete: {pods:#?}");
    };
    step_through(&fleet, "all pods are of the new plan", check, |pods| {
        pods.len() == 4 && pods.iter().all(|pod| pod.ready && pod.plan == "p2")
    })
    .await;
    let sets = fleet.api::<StatefulSet>();
    assert!(sets.get_opt("tiny-shard-2").await.unwrap().is_none(), "the new plan does not have it");
    fleet.gateway_goes_over();
    let status = fleet
        .until_status("the rollout is over", |status| {
            is_condition(status, condition::PIPELINE_COMPLETE, "True", "Complete")
        })
        .await;
    assert_eq!(status.plan.unwrap().id, "p2");
    assert_eq!(status.ready_shards.as_deref(), Some("2/2"));
    fleet.stop().await;
}

/// Of each shard: how many pods it is to have, and the plan of its template.
async fn sets(fleet: &Fleet) -> Vec<(i32, String)> {
    let sets = fleet.api::<StatefulSet>().list(&ListParams::default().labels(SHARD)).await.unwrap();
    let set = |set: StatefulSet| {
        let spec = set.spec?;
        let plan = spec.template.metadata?.annotations?.get(PLAN)?.clone();
        Some((spec.replicas?, plan))
    };
    sets.into_iter().filter_map(set).collect()
}

async fn until_sets(fleet: &Fleet, what: &str, replicas: &[i32], plan: &str) {
    let expected: Vec<_> = replicas.iter().map(|replicas| (*replicas, plan.to_owned())).collect();
    until(what, || async { (sets(fleet).await == expected).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_scaled_suspended_and_resumed_while_the_next_ones_manifest_is_not_known() {
    let Some(fleet) = Fleet::start("rollout-held").await else { return };
    fleet.apply(json!({"shards": {"count": 3, "replicas": 2}})).await;
    complete(&fleet, 3, 2).await;
    fleet.apply(json!({"shards": {"count": 2, "replicas": 2}})).await;
    fleet
        .until_status("the new manifest is not known", |status| {
            is_condition(status, condition::PIPELINE_COMPLETE, "True", "Rolling")
        })
        .await;
    until_sets(&fleet, "the plan before stays", &[2, 2, 2], "p1").await;

    let scale = async |replicas: u32| {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        fleet.api::<ShardCluster>().patch_scale("tiny", &PatchParams::default(), &patch).await.unwrap();
    };
    scale(1).await;
    until_sets(&fleet, "fewer columns", &[1, 1, 1], "p1").await;
    scale(3).await;
    until_sets(&fleet, "more, as far as there are keys", &[3, 3, 2], "p1").await;
    fleet.apply(json!({"suspend": true, "shards": {"count": 2, "replicas": 2}})).await;
    until_sets(&fleet, "suspended", &[0, 0, 0], "p1").await;
    until("no pods", || async { shard_pods(&fleet).await.is_empty().then_some(()) }).await;
    fleet.apply(json!({"shards": {"count": 2, "replicas": 2}})).await;
    until_sets(&fleet, "resumed", &[2, 2, 2], "p1").await;
    bootstrap_runs(&fleet).await;
    let is_old = |pods: &[Seen]| assert!(pods.iter().all(|pod| pod.plan == "p1"), "{pods:#?}");
    step_through(&fleet, "the plan before serves", is_old, |pods| {
        pods.len() == 6 && pods.iter().all(|pod| pod.ready)
    })
    .await;
    fleet.until_quiet().await;

    fleet.gateway_knows_of_another_plan("p2", 2);
    step_through(
        &fleet,
        "all pods are of the new plan",
        |_| {},
        |pods| pods.len() == 4 && pods.iter().all(|pod| pod.ready && pod.plan == "p2"),
    )
    .await;
    until_sets(&fleet, "the shard that leaves is gone", &[2, 2], "p2").await;
    fleet.stop().await;
}
