//! The control plane that other tests stand on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;
use shard_e2e::binaries::may_skip;
use shard_e2e::control_plane::ControlPlaneError;
use shard_e2e::{ControlPlane, Parts, namespace, shared, until};

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": "b"}})).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_does_and_who_may_not_is_refused() {
    let Some(plane) = shared().await.unwrap() else { return };
    let client = plane.client().await.unwrap();
    let namespace = namespace(&client, "rights").await.unwrap();
    let maps = Api::<ConfigMap>::namespaced(client, &namespace);
    maps.create(&PostParams::default(), &config_map("m")).await.unwrap();
    assert_eq!(maps.get("m").await.unwrap().data.unwrap()["a"], "b");

    let nobody = plane.client_as(&namespace, "default").await.unwrap();
    let refused = Api::<ConfigMap>::namespaced(nobody, &namespace).get("m").await.unwrap_err();
    let kube::Error::Api(status) = refused else { panic!("{refused}") };
    assert!(status.code == 403 && status.message.contains("system:serviceaccount"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_set_gets_pods_and_the_scheduler_says_why_they_do_not_fit() {
    let Some(plane) = shared().await.unwrap() else { return };
    let client = plane.client().await.unwrap();
    let namespace = namespace(&client, "pods").await.unwrap();
    let set: StatefulSet = serde_json::from_value(json!({
        "metadata": {"name": "s"},
        "spec": {
            "replicas": 2, "serviceName": "s", "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "none"}]},
            },
        },
    }))
    .unwrap();
    let sets = Api::<StatefulSet>::namespaced(client.clone(), &namespace);
    sets.create(&PostParams::default(), &set).await.unwrap();
    let pods = Api::<Pod>::namespaced(client, &namespace);
    let why = until("both pods are unschedulable", || async {
        let pods = pods.list(&ListParams::default()).await.unwrap();
        let why = |pod: &Pod| {
            let conditions = pod.status.as_ref()?.conditions.as_ref()?;
            let condition = conditions.iter().find(|one| one.reason.as_deref() == Some("Unschedulable"))?;
            condition.message.clone()
        };
        let why: Vec<String> = pods.iter().filter_map(why).collect();
        (why.len() == 2).then_some(why)
    })
    .await;
    assert!(why.iter().all(|why| why.contains("no nodes available")), "{why:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_the_api_server_was_killed() {
    let mut plane = match ControlPlane::start(Parts::default()).await {
        Err(ControlPlaneError::Binaries(_)) if may_skip() => return,
        plane => plane.unwrap(),
    };
    let maps = Api::<ConfigMap>::default_namespaced(plane.client().await.unwrap());
    maps.create(&PostParams::default(), &config_map("kept")).await.unwrap();
    plane.stop_api_server();
    assert!(maps.get("kept").await.is_err());
    plane.start_api_server().await.unwrap();
    assert_eq!(maps.get("kept").await.unwrap().data.unwrap()["a"], "b");
}
