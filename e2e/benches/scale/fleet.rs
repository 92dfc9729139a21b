//! The ShardClusters, and what is there of them.

use std::collections::HashSet;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use shard_e2e::{ControlPlane, namespace, until};
use shard_operator::crd::{ShardCluster, ShardClusterStatus, definition};

use crate::owned;

pub(crate) const SHARDS: u32 = 4;
/// Requests at the same time, as many as the operator's reconciles.
pub(crate) const CONCURRENCY: usize = 16;

pub(crate) struct Fleet {
    client: Client,
    namespace: String,
    count: usize,
}

/// Of a ShardCluster, by number: all are equally long.
pub(crate) fn name(number: usize) -> String {
    format!("cluster-{number:05}")
}

pub(crate) async fn define(client: &Client) {
    let definition = definition().unwrap();
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    let name = definition.name_any();
    api.patch(&name, &PatchParams::apply("bench").force(), &Patch::Apply(&definition)).await.unwrap();
    let shardclusters = Api::<ShardCluster>::all(client.clone());
    until("the definition is in force", || async { shardclusters.list(&ListParams::default()).await.ok() })
        .await;
}

pub(crate) fn resource(number: usize) -> ShardCluster {
    serde_json::from_value(json!({
        "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster",
        "metadata": {"name": name(number)},
        "spec": {
            "model": {"name": "llama", "source": {"http": {"url": "https://models.example.com/llama.gguf"}}},
            "shards": {"count": SHARDS},
        },
    }))
    .unwrap()
}

impl Fleet {
    pub(crate) async fn new(plane: &ControlPlane, count: usize) -> Self {
        let client = plane.client().await.unwrap();
        define(&client).await;
        let namespace = namespace(&client, "scale").await.unwrap();
        Self { client, namespace, count }
    }

    fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) async fn create(&self) {
        let api = self.api::<ShardCluster>();
        let create = |number| {
            let api = api.clone();
            async move { api.create(&PostParams::default(), &resource(number)).await.unwrap() }
        };
        stream::iter(0..self.count).map(create).buffer_unordered(CONCURRENCY).count().await;
    }

    /// Returns when the status of every ShardCluster is so.
    pub(crate) async fn until_all(&self, is: impl Fn(&ShardClusterStatus) -> bool) {
        let mut done = HashSet::new();
        let mut events =
            pin!(watcher(self.api::<ShardCluster>(), watcher::Config::default()).applied_objects());
        while done.len() < self.count {
            let resource = events.try_next().await.unwrap().unwrap();
            if resource.status.as_ref().is_some_and(&is) {
                done.insert(resource.name_any());
            }
        }
    }

    /// All that the operator has made of the first one, as it has named it.
    pub(crate) async fn children_of_first(&self) -> Vec<Value> {
        let mut all = Vec::new();
        all.extend(self.labelled::<ServiceAccount>().await);
        all.extend(self.labelled::<Secret>().await);
        all.extend(self.labelled::<NetworkPolicy>().await);
        all.extend(self.labelled::<Service>().await);
        all.extend(self.labelled::<StatefulSet>().await);
        all.extend(self.labelled::<Deployment>().await);
        let status = self.api::<ShardCluster>().get(&name(0)).await.unwrap().status;
        all.push(json!({
            "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster",
            "metadata": {"name": name(0)}, "status": status,
        }));
        all
    }

    async fn labelled<K>(&self) -> Vec<Value>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Serialize
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let of = ListParams::default().labels(&format!("app.kubernetes.io/instance={}", name(0)));
        let list = self.api::<K>().list(&of).await.unwrap();
        let applied = |object: K| {
            let object = serde_json::to_value(object).unwrap();
            let all = object["metadata"]["managedFields"].as_array().unwrap();
            let ours = all.iter().find(|entry| entry["manager"] == "shardcluster-operator").unwrap();
            let mut value = owned::owned(&object, &ours["fieldsV1"]);
            value["metadata"]["name"] = object["metadata"]["name"].clone();
            value["apiVersion"] = K::api_version(&()).into();
            value["kind"] = K::kind(&()).into();
            value
        };
        list.into_iter().map(applied).collect()
    }

    /// A pod for each gateway, ready, on loopback.
    pub(crate) async fn add_gateways(&self) {
        let add = |number| async move {
            let pods = self.api::<Pod>();
            let cluster = name(number);
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": format!("{cluster}-gateway-x"), "labels": {
                    "app.kubernetes.io/name": "shardcluster", "app.kubernetes.io/instance": cluster,
                    "app.kubernetes.io/component": "gateway",
                    "app.kubernetes.io/managed-by": "shardcluster-operator",
                }},
                "spec": {
                    "serviceAccountName": format!("{cluster}-gateway"), "automountServiceAccountToken": false,
                    "containers": [{"name": "node", "image": "node"}],
                },
            }))
            .unwrap();
            let pod = pods.create(&PostParams::default(), &pod).await.unwrap();
            let status = json!({"status": {
                "phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}],
                "conditions": [{"type": "Ready", "status": "True"}],
            }});
            let patch = Patch::Merge(&status);
            pods.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await.unwrap();
        };
        stream::iter(0..self.count).map(add).buffer_unordered(CONCURRENCY).count().await;
    }

    /// How long a change of a spec takes to reach its child, over and over.
    pub(crate) async fn change(&self, times: usize) -> Vec<Duration> {
        let deployments = watcher(self.api::<Deployment>(), watcher::Config::default()).applied_objects();
        let mut deployments = pin!(deployments);
        for _ in 0..self.count {
            deployments.try_next().await.unwrap();
        }
        let mut all = Vec::with_capacity(times);
        for time in 0..times {
            let cluster = name(time * 7919 % self.count);
            let replicas = i32::try_from(time / self.count).unwrap() + 2;
            let patch = json!({"spec": {"gateway": {"replicas": replicas}}});
            let began = Instant::now();
            let resources = self.api::<ShardCluster>();
            resources.patch(&cluster, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
            loop {
                let deployment = deployments.try_next().await.unwrap().unwrap();
                let is_it = deployment.name_any() == format!("{cluster}-gateway");
                if is_it && deployment.spec.unwrap().replicas == Some(replicas) {
                    break;
                }
            }
            all.push(began.elapsed());
        }
        all
    }
}
