//! Rollouts where StatefulSets have `maxUnavailable`: a feature that is off by default until Kubernetes 1.35, and with
//! which the StatefulSet controller counts every pod that is not ready, not those alone that it has replaced.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod fixture;
mod rolling;

use fixture::{Fleet, is_condition};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{Patch, PatchParams};
use rolling::{Seen, bootstrap_moves, complete, ready_of, say_of, shard_pods, step_through};
use serde_json::json;
use shard_e2e::{ControlPlane, Options, Parts, skipped, until};
use shard_operator::crd::condition;
use tokio::sync::OnceCell;

static PLANE: OnceCell<Option<ControlPlane>> = OnceCell::const_new();

/// On a control plane that all these tests share; `None` where it may be left out.
async fn begin(test: &str) -> Option<Fleet> {
    let parts = Parts { controller_manager: true, scheduler: false };
    let options = Options { parts, feature_gates: &["MaxUnavailableStatefulSet"], ..Options::default() };
    let start = || async {
        match ControlPlane::start(options).await {
            Err(error) if skipped(&error) => None,
            plane => Some(plane.unwrap()),
        }
    };
    let plane = PLANE.get_or_init(start).await.as_ref()?;
    Some(Fleet::start_on(plane, test).await)
}

async fn max_unavailable(fleet: &Fleet, set: &str) -> Option<i32> {
    let set = fleet.api::<StatefulSet>().get(set).await.unwrap();
    match set.spec?.update_strategy?.rolling_update?.max_unavailable? {
        IntOrString::Int(most) => Some(most),
        IntOrString::String(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_moves_one_shard_and_one_pod_at_a_time() {
    let Some(fleet) = begin("gate-image").await else { return };
    fleet.apply(json!({"image": "node:1", "shards": {"count": 2, "replicas": 3}})).await;
    complete(&fleet, 2, 3).await;
    fleet.until_quiet().await;
    let by_hand = json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 3}}}});
    for set in ["tiny-shard-0", "tiny-bootstrap"] {
        let sets = fleet.api::<StatefulSet>();
        sets.patch(set, &PatchParams::apply("a-user"), &Patch::Merge(&by_hand)).await.unwrap();
        until("it is one at a time again", || async {
            (max_unavailable(&fleet, set).await == Some(1)).then_some(())
        })
        .await;
    }
    fleet.until_quiet().await;

    fleet.apply(json!({"image": "node:2", "shards": {"count": 2, "replicas": 3}})).await;
    bootstrap_moves(&fleet).await;
    let check = |pods: &[Seen]| {
        let ready: usize = ready_of(pods, |_| true).values().sum();
        assert!(ready >= 5, "two pods at once: {pods:#?}");
    };
    step_through(&fleet, "all pods have the new image", check, |pods| {
        pods.len() == 6 && pods.iter().all(|pod| pod.ready && pod.image == "node:2")
    })
    .await;
    fleet
        .until_status("the rollout is over", |status| {
            is_condition(status, condition::SHARDS_READY, "True", "ShardsReady")
        })
        .await;
    fleet.stop().await;
}

/// The controller waits for a pod that is not ready and stays as it is: the operator replaces what it would not.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_in_trouble_below_the_partition_does_not_stop_a_plan() {
    let Some(fleet) = begin("gate-stuck").await else { return };
    fleet.apply(json!({"shards": {"count": 2, "replicas": 2}})).await;
    complete(&fleet, 2, 2).await;
    say_of(&fleet, "tiny-shard-0-0", "False").await;
    let pull = json!({"status": {"phase": "Pending", "containerStatuses": [{
        "name": "node", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
    }]}});
    let pods = fleet.api::<Pod>();
    pods.patch_status("tiny-shard-0-0", &PatchParams::default(), &Patch::Merge(&pull)).await.unwrap();

    fleet.apply(json!({"shards": {"count": 3, "replicas": 2}})).await;
    bootstrap_moves(&fleet).await;
    fleet.gateway_knows_of_another_plan("p2", 3);
    // Nobody makes the one in trouble ready while it is of the old plan.
    until("all pods are of the new plan", || async {
        let pods = shard_pods(&fleet).await;
        if let Some(pod) = pods.iter().find(|pod| !pod.ready && pod.plan == "p2") {
            say_of(&fleet, &pod.name, "True").await;
        }
        (pods.len() == 6 && pods.iter().all(|pod| pod.ready && pod.plan == "p2")).then_some(())
    })
    .await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_plan_moves_column_by_column_and_one_is_complete() {
    let Some(fleet) = begin("gate-plan").await else { return };
    fleet.apply(json!({"shards": {"count": 3, "replicas": 2}})).await;
    complete(&fleet, 3, 2).await;
    fleet.apply(json!({"shards": {"count": 2, "replicas": 2}})).await;
    bootstrap_moves(&fleet).await;
    fleet.gateway_knows_of_another_plan("p2", 2);
    let check = |pods: &[Seen]| {
        let serve = |plan: &str, shards: usize| ready_of(pods, |pod| pod.plan == plan).len() == shards;
        assert!(serve("p1", 3) || serve("p2", 2), "no plan is complete: {pods:#?}");
    };
    step_through(&fleet, "all pods are of the new plan", check, |pods| {
        pods.len() == 4 && pods.iter().all(|pod| pod.ready && pod.plan == "p2")
    })
    .await;
    fleet.gateway_goes_over();
    fleet
        .until_status("the rollout is over", |status| {
            is_condition(status, condition::PIPELINE_COMPLETE, "True", "Complete")
        })
        .await;
    fleet.stop().await;
}
