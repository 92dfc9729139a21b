//! What hands do to children that the operator would not see by comparing what it wants with what it is told of: labels
//! and owners that are taken away, fields that do not go together, what a deletion left behind, what nobody takes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod fixture;

use fixture::{Fleet, is_condition};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PropagationPolicy};
use serde_json::{Value, json};
use shard_e2e::until;
use shard_operator::crd::{ShardCluster, condition};

const INSTANCE: &str = "app.kubernetes.io/instance";

async fn by_hand<K>(api: &Api<K>, name: &str, patch: Value)
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_without_its_label_is_labelled_and_made_again_and_one_without_its_owner_is_owned() {
    let Some(fleet) = Fleet::start("labels").await else { return };
    fleet.apply(json!({"shards": {"count": 1}})).await;
    fleet.until_exist(&fleet.children(1)).await;
    let (sets, services) = (fleet.api::<StatefulSet>(), fleet.api::<Service>());
    for instance in [Value::Null, json!("somebody-else")] {
        by_hand(&sets, "tiny-bootstrap", json!({"metadata": {"labels": {INSTANCE: instance}}})).await;
        until("it has its label again", || async {
            let set = sets.get("tiny-bootstrap").await.unwrap();
            set.labels().get(INSTANCE).is_some_and(|found| found == "tiny").then_some(())
        })
        .await;
    }
    by_hand(&services, "tiny-gateway", json!({"metadata": {"labels": {INSTANCE: null}}})).await;
    services.delete("tiny-gateway", &DeleteParams::default()).await.unwrap();
    let deployments = fleet.api::<Deployment>();
    by_hand(&deployments, "tiny-gateway", json!({"metadata": {"ownerReferences": null}})).await;
    until("one is there again, the other has its owner", || async {
        let service = services.get_opt("tiny-gateway").await.unwrap()?;
        let deployment = deployments.get("tiny-gateway").await.unwrap();
        (!service.labels().is_empty() && !deployment.owner_references().is_empty()).then_some(())
    })
    .await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_go_with_ours_goes() {
    let Some(fleet) = Fleet::start("unlike").await else { return };
    fleet.apply(json!({"gateway": {"replicas": 2}, "networkPolicy": {"enabled": true}})).await;
    fleet.until_exist(&fleet.children(4)).await;
    let (policies, services) = (fleet.api::<NetworkPolicy>(), fleet.api::<Service>());
    let budgets = fleet.api::<PodDisruptionBudget>();
    until("there is a budget", || async { budgets.get_opt("tiny-gateway").await.unwrap() }).await;
    let more = json!({"foo": "bar"});
    by_hand(&policies, "tiny-shard", json!({"spec": {"podSelector": {"matchLabels": more}}})).await;
    by_hand(&services, "tiny-gateway", json!({"spec": {"selector": more}})).await;
    by_hand(&budgets, "tiny-gateway", json!({"spec": {"maxUnavailable": null, "minAvailable": 1}})).await;
    until("all three are as they were", || async {
        let policy = policies.get("tiny-shard").await.unwrap().spec.unwrap();
        let selected = policy.pod_selector?.match_labels?;
        let service = services.get("tiny-gateway").await.unwrap().spec?.selector?;
        let budget = budgets.get_opt("tiny-gateway").await.unwrap()?.spec?;
        let as_it_was = !selected.contains_key("foo")
            && !service.contains_key("foo")
            && budget.min_available.is_none()
            && budget.max_unavailable.is_some();
        as_it_was.then_some(())
    })
    .await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deletion_left_behind_is_adopted() {
    let Some(fleet) = Fleet::start("orphans").await else { return };
    fleet.apply(json!({"shards": {"count": 1}})).await;
    fleet.until_exist(&fleet.children(1)).await;
    let (key, sets, secrets) =
        (fleet.operator_key().await, fleet.api::<StatefulSet>(), fleet.api::<Secret>());
    let before = sets.get("tiny-shard-0").await.unwrap().uid();
    let orphan =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    let resources = fleet.api::<ShardCluster>();
    resources.delete("tiny", &orphan).await.unwrap();
    until("it is gone without its children", || async {
        let gone = resources.get_opt("tiny").await.unwrap().is_none();
        let left = sets.get("tiny-shard-0").await.unwrap().owner_references().is_empty();
        (gone && left).then_some(())
    })
    .await;

    fleet.apply(json!({"shards": {"count": 1}})).await;
    let uid = until("it is there again", || async { resources.get("tiny").await.unwrap().uid() }).await;
    until("what was left is its own", || async {
        let owned = |owners: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference]| {
            owners.iter().any(|owner| owner.uid == uid)
        };
        let set = sets.get("tiny-shard-0").await.unwrap();
        let secret = secrets.get("tiny-operator-key").await.unwrap();
        (owned(set.owner_references()) && owned(secret.owner_references())).then_some(())
    })
    .await;
    assert_eq!(sets.get("tiny-shard-0").await.unwrap().uid(), before);
    assert_eq!(fleet.operator_key().await, key);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_keeps_nothing_else_from_being_made() {
    let Some(fleet) = Fleet::start("refused").await else { return };
    let shards = |nics: &str| {
        json!({
            "count": 2,
            "overrides": [{"id": 0, "resources": {"limits": {"example.com/nic": nics}}}],
        })
    };
    fleet.apply(json!({"shards": shards("1500m")})).await;
    let mut others = fleet.children(2);
    others.retain(|(kind, name)| (*kind, &**name) != ("StatefulSet", "tiny-shard-0"));
    fleet.until_exist(&others).await;
    let status = fleet
        .until_status("the refusal is told of", |status| {
            is_condition(status, condition::READY, "False", "ApplyFailed")
        })
        .await;
    let message = &status.conditions.iter().find(|one| one.type_ == condition::READY).unwrap().message;
    assert!(message.contains("StatefulSet") && message.contains("tiny-shard-0"), "{message}");
    assert!(message.contains("must be an integer"), "{message}");
    fleet.apply(json!({"shards": shards("1")})).await;
    fleet.until_exist(&fleet.children(2)).await;
    fleet.stop().await;
}
