//! What keeps pods from being made or from starting, and no pod says, against a real API server and controller-manager.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod fixture;

use fixture::{Fleet, is_condition};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::PostParams;
use serde_json::{Value, json};
use shard_e2e::until;
use shard_operator::crd::{ShardClusterStatus, condition};

fn message<'a>(status: &'a ShardClusterStatus, name: &str) -> &'a str {
    &status.conditions.iter().find(|one| one.type_ == name).unwrap().message
}

fn named<K: serde::de::DeserializeOwned>(name: &str, more: &Value) -> K {
    let mut object = json!({"metadata": {"name": name}});
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(object).unwrap()
}

/// Returns when the operator has begun so many passes more, by itself.
async fn looks_again(fleet: &Fleet, times: usize) {
    let passes = fleet.passes() + times;
    until("it looks again", || async { (fleet.passes() >= passes).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_the_api_server_refuses_are_explained_until_they_are_there() {
    let Some(fleet) = Fleet::start("refused-pods").await else { return };
    fleet.apply(json!({"shards": {"count": 1}, "pod": {"serviceAccountName": "nobody"}})).await;
    let told = |status: &ShardClusterStatus| {
        is_condition(status, condition::BOOTSTRAP_READY, "False", "FailedCreate")
            && is_condition(status, condition::GATEWAY_READY, "False", "FailedCreate")
            && is_condition(status, condition::READY, "False", "FailedCreate")
    };
    let status = fleet.until_status("neither has pods", told).await;
    let account = format!("{}/nobody", fleet.namespace);
    let why = format!("error looking up service account {account}: serviceaccount \"nobody\" not found");
    for (name, part) in [(condition::BOOTSTRAP_READY, "bootstrap"), (condition::GATEWAY_READY, "gateway")] {
        assert_eq!(message(&status, name), format!("{part} pods cannot be created: {why}"));
    }

    looks_again(&fleet, 1).await;
    let writes = fleet.writes();
    looks_again(&fleet, 2).await;
    assert_eq!(fleet.writes(), writes, "what stays the same is not written: {:?}", fleet.last_writes());

    let account: ServiceAccount = named("nobody", &json!({}));
    fleet.api::<ServiceAccount>().create(&PostParams::default(), &account).await.unwrap();
    fleet.pods_run("tiny-bootstrap").await;
    fleet.pods_run("tiny-gateway").await;
    fleet
        .until_status("both are well", |status| {
            is_condition(status, condition::BOOTSTRAP_READY, "True", "PodsReady")
                && is_condition(status, condition::GATEWAY_READY, "True", "PodsReady")
        })
        .await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_not_there_is_named_until_it_is() {
    let Some(fleet) = Fleet::start("missing").await else { return };
    fleet.make_node("home", "home").await;
    let on_home = fleet.selector("home");
    fleet
        .apply(json!({
            "shards": {"count": 1}, "pod": on_home, "gateway": {"apiKeysSecretRef": {"name": "keys"}},
        }))
        .await;
    let status = fleet
        .until_status("the Secret is missing", |status| {
            is_condition(status, condition::GATEWAY_READY, "False", "SecretMissing")
        })
        .await;
    assert_eq!(
        message(&status, condition::GATEWAY_READY),
        "gateway.apiKeysSecretRef names Secret keys, which does not exist: create it, or remove the field"
    );

    let keys: Secret = named("keys", &json!({"stringData": {"alice": "secret"}}));
    fleet.api::<Secret>().create(&PostParams::default(), &keys).await.unwrap();
    fleet
        .until_status("nothing is missing, though no watch has told", |status| {
            is_condition(status, condition::GATEWAY_READY, "False", "Starting")
        })
        .await;
    fleet.stop().await;
}
