//! An image that speaks another wire version, against a real API server and the real controllers: the gateway goes over
//! when a column of the new plan serves, and the old columns wait for it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod fixture;
mod rolling;

use fixture::{Fleet, is_condition};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::ResourceExt;
use kube::api::ListParams;
use rolling::{Seen, WIRE, bootstrap_is_replaced, complete, ready_of, shard_pods, step_through};
use serde_json::json;
use shard_e2e::{ControlPlane, Parts, skipped, until};
use shard_operator::crd::condition;
use tokio::sync::OnceCell;

const OLD: &str = "node:1";
const NEW: &str = "node:2";

static PLANE: OnceCell<Option<ControlPlane>> = OnceCell::const_new();

/// On a control plane that all these tests share, without a scheduler, which says of pods that they fit no node; `None`
/// where it may be left out.
async fn begin(test: &str) -> Option<Fleet> {
    let start = || async {
        match ControlPlane::start(Parts { controller_manager: true, scheduler: false }).await {
            Err(error) if skipped(&error) => None,
            plane => Some(plane.unwrap()),
        }
    };
    let plane = PLANE.get_or_init(start).await.as_ref()?;
    Some(Fleet::start_on(plane, test).await)
}

async fn ask_for(fleet: &Fleet, image: &str) {
    fleet.apply(json!({"image": image, "shards": {"count": 2, "replicas": 2}})).await;
}

/// What gateway pods are made from.
async fn template_of_gateway(fleet: &Fleet) -> PodTemplateSpec {
    fleet.api::<Deployment>().get("tiny-gateway").await.unwrap().spec.unwrap().template
}

async fn image_of_gateway(fleet: &Fleet) -> String {
    template_of_gateway(fleet).await.spec.unwrap().containers[0].image.clone().unwrap()
}

async fn until_told(fleet: &Fleet, words: &str) {
    let told = |message: &str| message.contains(words);
    let wanted = format!("a condition says {words:?}");
    fleet.until_status(&wanted, |status| status.conditions.iter().any(|one| told(&one.message))).await;
}

fn are_all(pods: &[Seen], image: &str) -> bool {
    pods.len() == 4 && pods.iter().all(|pod| pod.ready && pod.image == image)
}

fn one_serves(pods: &[Seen]) {
    let serves = |plan: &str| ready_of(pods, |pod| pod.plan == plan).len() == 2;
    assert!(serves("p1") || serves("p2"), "no plan is complete: {pods:#?}");
}

/// A new image is wanted: its bootstrap is ready, and its origin has not been heard. What the gateway was made from.
async fn nobody_hears_the_new_bootstrap(fleet: &Fleet) -> PodTemplateSpec {
    ask_for(fleet, OLD).await;
    complete(fleet, 2, 2).await;
    let before = template_of_gateway(fleet).await;
    ask_for(fleet, NEW).await;
    bootstrap_is_replaced(fleet).await;
    until_told(fleet, "the shards follow when a gateway hears which wire version the new bootstrap speaks")
        .await;
    fleet.until_quiet().await;
    assert_eq!(template_of_gateway(fleet).await, before);
    assert!(are_all(&shard_pods(fleet).await, OLD));
    before
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_of_another_wire_version_comes_between_the_columns() {
    let Some(fleet) = begin("wire").await else { return };
    let before = nobody_hears_the_new_bootstrap(&fleet).await;
    // It speaks otherwise, and reads its model.
    fleet.gateway_hears_the_bootstrap(WIRE + 1).await;
    until_told(&fleet, "the shards keep their plan until the manifest of the new one is known").await;
    fleet.until_quiet().await;
    assert_eq!(template_of_gateway(&fleet).await, before);
    assert!(are_all(&shard_pods(&fleet).await, OLD));

    fleet.gateway_knows_of_another_plan("p2", 2);
    let of_new = |pods: &[Seen]| pods.iter().filter(|pod| pod.ready && pod.plan == "p2").count();
    let first = |pods: &[Seen]| of_new(pods) == 2;
    let check = |pods: &[Seen]| {
        one_serves(pods);
        assert!(pods.iter().all(|pod| pod.image == OLD || pod.name.ends_with("-1")), "{pods:#?}");
    };
    step_through(&fleet, "the first column serves", check, first).await;
    let (image, pods) = until("the gateway is to go over", || async {
        let image = image_of_gateway(&fleet).await;
        (image == NEW).then_some((image, shard_pods(&fleet).await))
    })
    .await;
    assert_eq!((image.as_str(), of_new(&pods), pods.len()), (NEW, 2, 4), "{pods:#?}");
    until_told(&fleet, "one column serves, the others wait for the new gateway").await;
    fleet.until_quiet().await;
    check(&shard_pods(&fleet).await);

    fleet.gateway_runs().await;
    until("the old gateway is gone", || async {
        let pods = fleet.api::<Pod>().list(&ListParams::default()).await.unwrap();
        let gateways: Vec<Pod> =
            pods.into_iter().filter(|pod| pod.name_any().starts_with("tiny-gateway-")).collect();
        let is_new = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some(NEW);
        gateways.iter().all(is_new).then_some(())
    })
    .await;
    fleet.gateway_speaks(WIRE + 1);
    fleet.gateway_goes_over();
    step_through(&fleet, "all pods are of the new image", one_serves, |pods| are_all(pods, NEW)).await;
    fleet
        .until_status("the rollout is over", |status| {
            is_condition(status, condition::PIPELINE_COMPLETE, "True", "Complete")
        })
        .await;
    fleet.until_quiet().await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_of_the_same_wire_version_goes_when_the_bootstrap_has_said_so() {
    let Some(fleet) = begin("same-wire").await else { return };
    nobody_hears_the_new_bootstrap(&fleet).await;
    fleet.gateway_hears_the_bootstrap(WIRE).await;
    until("the gateway goes over", || async { (image_of_gateway(&fleet).await == NEW).then_some(()) }).await;
    fleet.gateway_runs().await;
    let whole = |pods: &[Seen]| {
        let ready: usize = ready_of(pods, |_| true).values().sum();
        assert!(ready >= 3, "two pods at once: {pods:#?}");
    };
    step_through(&fleet, "all pods are of the new image", whole, |pods| are_all(pods, NEW)).await;
    fleet.stop().await;
}
