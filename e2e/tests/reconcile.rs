//! The operator's controller against a real API server and controller-manager. There are no kubelets: the tests say of
//! pods what kubelets would, and a small server answers where the gateway's pod is said to be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod fixture;

use std::time::Duration;

use fixture::{Fleet, is_condition};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use shard_e2e::until;
use shard_operator::crd::{Phase, ShardCluster, condition};

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_becomes_a_fleet_and_its_status_tells_how_far_it_is() {
    let Some(fleet) = Fleet::start("fleet").await else { return };
    fleet.apply(json!({"shards": {"count": 2}})).await;
    fleet.until_exist(&fleet.children(2)).await;
    let sets = fleet.api::<StatefulSet>();
    assert_eq!(
        sets.get("tiny-shard-0").await.unwrap().spec.unwrap().replicas,
        Some(0),
        "no size is known yet"
    );
    let status = fleet
        .until_status("no gateway is there to be asked", |status| {
            is_condition(status, condition::PIPELINE_COMPLETE, "Unknown", "GatewayUnreachable")
        })
        .await;
    assert_eq!(status.phase, Some(Phase::Pending));
    assert_eq!(status.ready_shards.as_deref(), Some("0/2"));

    fleet.pods_run("tiny-bootstrap").await;
    fleet.gateway_runs().await;
    fleet
        .until_status("the origin downloads", |status| {
            is_condition(status, condition::MODEL_AVAILABLE, "False", "Downloading")
                && status.phase == Some(Phase::Downloading)
        })
        .await;
    fleet.gateway_knows_the_manifest(2);
    until("shards have pods once their size is known", || async {
        let set = sets.get("tiny-shard-1").await.unwrap().spec.unwrap();
        let requests = set.template.spec?.containers[0].resources.clone()?.requests?;
        (set.replicas == Some(1) && requests.contains_key("memory")).then_some(())
    })
    .await;
    let status = fleet
        .until_status("the unschedulable pods are told of", |status| {
            is_condition(status, condition::SHARDS_READY, "False", "Unschedulable")
        })
        .await;
    assert_eq!(status.plan.unwrap().shards.len(), 2);
    assert_eq!(status.model.unwrap().total_layers, 2);

    fleet.pods_run("tiny-shard-0").await;
    fleet.pods_run("tiny-shard-1").await;
    fleet.gateway_completes();
    let status = fleet
        .until_status("it can be used", |status| {
            is_condition(status, condition::READY, "True", "Ready") && status.phase == Some(Phase::Running)
        })
        .await;
    assert!(status.pipeline_complete && status.missing_layers.is_empty());
    assert_eq!(status.ready_shards.as_deref(), Some("2/2"));
    assert_eq!(status.endpoint.unwrap(), format!("http://tiny-gateway.{}.svc:8080", fleet.namespace));
    assert_eq!(
        fleet.key_of_gateway(),
        fleet.operator_key().await,
        "the operator's own key opens the gateway"
    );

    // Any event leads to another reconcile; with nothing to do, it writes nothing.
    fleet.until_quiet().await;
    let writes = fleet.writes();
    let passes = fleet.passes();
    fleet.touch_a_pod().await;
    until("it has looked again", || async { (fleet.passes() > passes).then_some(()) }).await;
    fleet.settled().await;
    assert_eq!(fleet.writes(), writes, "{:?}", fleet.last_writes());
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hands_change_is_repaired_and_what_they_delete_comes_back() {
    let Some(fleet) = Fleet::start("drift").await else { return };
    fleet.apply(json!({"shards": {"count": 1}})).await;
    fleet.until_exist(&fleet.children(1)).await;
    let key = fleet.operator_key().await;

    let by_hand =
        Patch::Merge(json!({"spec": {"ports": [{"name": "http", "port": 81, "targetPort": "http"}]}}));
    let services = fleet.api::<Service>();
    services.patch("tiny-gateway", &PatchParams::default(), &by_hand).await.unwrap();
    let scaled = Patch::Merge(json!({"spec": {"replicas": 5}}));
    fleet.api::<Deployment>().patch("tiny-gateway", &PatchParams::default(), &scaled).await.unwrap();
    let opened = Patch::Merge(json!({"spec": {"ingress": [{}]}}));
    let policies = fleet.api::<NetworkPolicy>();
    policies.patch("tiny-shard", &PatchParams::default(), &opened).await.unwrap();
    until("all three are as they were", || async {
        let port = services.get("tiny-gateway").await.unwrap().spec?.ports?[0].port;
        let replicas = fleet.api::<Deployment>().get("tiny-gateway").await.unwrap().spec?.replicas;
        let ingress = policies.get("tiny-shard").await.unwrap().spec?.ingress?;
        let closed = ingress.iter().all(|rule| rule.from.is_some());
        (port == 8080 && replicas == Some(1) && closed).then_some(())
    })
    .await;

    services.delete("tiny-gateway", &DeleteParams::default()).await.unwrap();
    fleet.api::<ServiceAccount>().delete("tiny-shard", &DeleteParams::default()).await.unwrap();
    let sets = fleet.api::<StatefulSet>();
    let old = sets.get("tiny-shard-0").await.unwrap().uid();
    sets.delete("tiny-shard-0", &DeleteParams::background()).await.unwrap();
    until("all three are there again", || async {
        let set = sets.get_opt("tiny-shard-0").await.unwrap()?;
        let account = fleet.api::<ServiceAccount>().get_opt("tiny-shard").await.unwrap();
        let service = services.get_opt("tiny-gateway").await.unwrap();
        (set.uid() != old && account.is_some() && service.is_some()).then_some(())
    })
    .await;

    // A key that is there stays, whatever happens to the rest of its Secret.
    let emptied = Patch::Merge(json!({"data": {"tiny-bootstrap-0": null}}));
    let secrets = fleet.api::<Secret>();
    let before = secrets.get("tiny-identities").await.unwrap().data.unwrap();
    secrets.patch("tiny-identities", &PatchParams::default(), &emptied).await.unwrap();
    // Secrets are not watched: the next event of any child shows it.
    services.delete("tiny-gateway", &DeleteParams::default()).await.unwrap();
    let after = until("the pod has a key again", || async {
        let data = secrets.get("tiny-identities").await.unwrap().data?;
        data.contains_key("tiny-bootstrap-0").then_some(data)
    })
    .await;
    assert_eq!(after["tiny-shard-0-0"], before["tiny-shard-0-0"]);
    assert_ne!(after["tiny-bootstrap-0"], before["tiny-bootstrap-0"]);
    assert_eq!(fleet.operator_key().await, key);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_shards_are_pruned_and_others_objects_are_left_alone() {
    let Some(fleet) = Fleet::start("prune").await else { return };
    fleet
        .make_service(
            "bystander",
            json!({"app.kubernetes.io/instance": "tiny", "app.kubernetes.io/name": "shardcluster"}),
        )
        .await;
    fleet.apply(json!({"shards": {"count": 3, "replicas": 2}, "networkPolicy": {"enabled": true}})).await;
    fleet.until_exist(&fleet.children(3)).await;
    fleet.apply(json!({"shards": {"count": 1, "replicas": 1}, "networkPolicy": {"enabled": false}})).await;
    let gone = ["tiny-shard-1", "tiny-shard-2"];
    until("two shards are gone with all that was theirs", || async {
        for name in gone {
            if fleet.api::<StatefulSet>().get_opt(name).await.unwrap().is_some()
                || fleet.api::<Service>().get_opt(name).await.unwrap().is_some()
            {
                return None;
            }
        }
        let policy = fleet.api::<NetworkPolicy>().get_opt("tiny-shard").await.unwrap();
        policy.is_none().then_some(())
    })
    .await;
    fleet.until_status("one shard is told of", |status| status.ready_shards.as_deref() == Some("0/1")).await;
    assert!(fleet.api::<Service>().get_opt("bystander").await.unwrap().is_some());
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_told_and_not_taken_over() {
    let Some(fleet) = Fleet::start("taken").await else { return };
    fleet.make_service("tiny-gateway", json!({})).await;
    fleet.apply(json!({})).await;
    let status = fleet
        .until_status("the reason is told", |status| {
            is_condition(status, condition::READY, "False", "ApplyFailed")
        })
        .await;
    let message = &status.conditions.iter().find(|one| one.type_ == condition::READY).unwrap().message;
    assert!(message.contains("tiny-gateway is there already and belongs to something else"), "{message}");
    let service = fleet.api::<Service>().get("tiny-gateway").await.unwrap();
    assert!(service.owner_references().is_empty() && service.labels().is_empty());
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_keeps_all_but_the_pods_and_a_bad_spec_keeps_those_too() {
    let Some(fleet) = Fleet::start("suspend").await else { return };
    fleet.apply(json!({"shards": {"count": 1}})).await;
    fleet.until_exist(&fleet.children(1)).await;
    fleet.gateway_knows_the_manifest(1);
    fleet.gateway_runs().await;
    let sets = fleet.api::<StatefulSet>();
    let replicas = |name: &'static str| {
        let sets = sets.clone();
        async move { sets.get(name).await.unwrap().spec.unwrap().replicas }
    };
    until("the shard has a pod", || async { (replicas("tiny-shard-0").await == Some(1)).then_some(()) })
        .await;
    fleet.apply(json!({"shards": {"count": 1}, "suspend": true})).await;
    fleet
        .until_status("it is suspended", |status| {
            status.phase == Some(Phase::Suspended)
                && is_condition(status, condition::PIPELINE_COMPLETE, "False", "Suspended")
        })
        .await;
    assert_eq!(replicas("tiny-shard-0").await, Some(0));
    assert_eq!(replicas("tiny-bootstrap").await, Some(0));
    let gateway = fleet.api::<Deployment>().get("tiny-gateway").await.unwrap();
    assert_eq!(gateway.spec.unwrap().replicas, Some(1));
    assert!(fleet.api::<Secret>().get_opt("tiny-cluster-secret").await.unwrap().is_some());
    fleet.apply(json!({"shards": {"count": 1}})).await;
    until("the shard is back", || async { (replicas("tiny-shard-0").await == Some(1)).then_some(()) }).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_that_no_rule_refuses_and_no_name_fits_waits_for_a_change() {
    // The API server lets a resource have a name that no Service can have, where it is older than the rule.
    let Some(fleet) = Fleet::start_without_rules("invalid").await else { return };
    fleet.apply_named("1st", json!({})).await;
    let status = fleet
        .until_status_of("1st", "the spec is called invalid", |status| {
            is_condition(status, condition::READY, "False", "InvalidSpec")
        })
        .await;
    assert_eq!(status.phase, Some(Phase::Failed));
    assert_eq!(status.observed_generation, Some(1));
    assert!(fleet.api::<StatefulSet>().get_opt("1st-bootstrap").await.unwrap().is_none());
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larger_size_makes_the_set_anew_around_its_pods() {
    let Some(fleet) = Fleet::start("grow").await else { return };
    fleet.apply(json!({"shards": {"count": 1}, "storage": {"size": "1Gi"}})).await;
    fleet.until_exist(&fleet.children(1)).await;
    fleet.gateway_knows_the_manifest(1);
    fleet.gateway_runs().await;
    let pod = fleet.until_pod("tiny-shard-0-0").await.uid();
    let sets = fleet.api::<StatefulSet>();
    let old = sets.get("tiny-shard-0").await.unwrap().uid();
    let claims = fleet.api::<PersistentVolumeClaim>();
    until("it has a claim", || async { claims.get_opt("model-tiny-shard-0-0").await.unwrap() }).await;
    fleet.apply(json!({"shards": {"count": 1}, "storage": {"size": "2Gi"}})).await;
    until("the set is another one with another size", || async {
        let set = sets.get_opt("tiny-shard-0").await.unwrap()?;
        let claim = set.spec.clone()?.volume_claim_templates?[0].spec.clone()?;
        (set.uid() != old && claim.resources?.requests?["storage"].0 == "2Gi").then_some(())
    })
    .await;
    assert_eq!(fleet.until_pod("tiny-shard-0-0").await.uid(), pod, "the pod is the same");
    // Nothing has bound the claim here, and API servers let nobody change one that is not bound.
    fleet.pods_run("tiny-shard-0").await;
    fleet
        .until_status("the claim that cannot grow is told of", |status| {
            is_condition(status, condition::SHARDS_READY, "True", "VolumeNotResized")
        })
        .await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_resource_everything_goes() {
    let Some(fleet) = Fleet::start("delete").await else { return };
    fleet.apply(json!({"shards": {"count": 1}})).await;
    let children = fleet.children(1);
    fleet.until_exist(&children).await;
    fleet.delete(DeleteParams::default()).await;
    until("no child is left", || async {
        for child in &children {
            if fleet.exists(child).await {
                return None;
            }
        }
        Some(())
    })
    .await;
    assert!(tokio::time::timeout(Duration::from_secs(20), fleet.stop()).await.is_ok());
}

/// `kubectl delete --cascade=foreground`, and Argo CD: who waits for the resource waits for all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_in_the_foreground_ends_with_the_last_child() {
    let Some(fleet) = Fleet::start("foreground").await else { return };
    fleet.apply(json!({"shards": {"count": 1}})).await;
    let children = fleet.children(1);
    fleet.until_exist(&children).await;
    fleet.delete(DeleteParams::foreground()).await;
    let resources = fleet.api::<ShardCluster>();
    until("it is gone", || async { resources.get_opt("tiny").await.unwrap().is_none().then_some(()) }).await;
    for child in &children {
        assert!(!fleet.exists(child).await, "{child:?} is left");
    }
    fleet.stop().await;
}
