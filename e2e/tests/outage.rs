//! The API server goes away and comes back, and two operators work at the same time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod fixture;

use fixture::{Fleet, OPERATORS, is_condition};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::DeleteParams;
use serde_json::json;
use shard_e2e::until;
use shard_operator::crd::condition;

/// One of two shards serves, and all that there is to know is known.
async fn begins(fleet: &Fleet) {
    fleet.apply(json!({"shards": {"count": 2}})).await;
    fleet.until_exist(&fleet.children(2)).await;
    fleet.pods_run("tiny-bootstrap").await;
    fleet.gateway_runs().await;
    fleet.gateway_knows_the_manifest(2);
    fleet.pods_run("tiny-shard-0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_comes_back_finds_all_as_it_is_wanted() {
    let Some(mut fleet) = Fleet::start_alone("outage").await else { return };
    begins(&fleet).await;

    // In the middle of what follows from a change.
    fleet.apply(json!({"shards": {"count": 2}, "gateway": {"replicas": 2}})).await;
    fleet.restart_api_server().await;
    fleet.pods_run("tiny-shard-1").await;
    fleet.gateway_completes();
    fleet
        .until_status("it can be used", |status| is_condition(status, condition::READY, "True", "Ready"))
        .await;
    fleet.api::<Service>().delete("tiny-gateway", &DeleteParams::default()).await.unwrap();
    fleet.until_exist(&fleet.children(2)).await;
    fleet.apply(json!({"shards": {"count": 2}, "gateway": {"replicas": 3}})).await;
    until("a change after it came back is carried out", || async {
        let gateway = fleet.api::<Deployment>().get("tiny-gateway").await.unwrap();
        (gateway.spec?.replicas == Some(3)).then_some(())
    })
    .await;
    fleet.until_quiet().await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_at_once_agree() {
    let Some(fleet) = Fleet::start("two").await else { return };
    let other = fleet.another_operator(OPERATORS);
    begins(&fleet).await;
    fleet.pods_run("tiny-shard-1").await;
    fleet.gateway_completes();
    fleet
        .until_status("it can be used", |status| is_condition(status, condition::READY, "True", "Ready"))
        .await;
    // What both write is counted.
    fleet.until_quiet().await;
    other.end().await;
    fleet.stop().await;
}
