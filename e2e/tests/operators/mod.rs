//! Operators as processes, each behind a proxy of its own, that reconcile one namespace.

mod process;
mod proxy;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
pub(crate) use process::Process;
use proxy::{Proxy, Record};
use serde_json::json;
use shard_e2e::{namespace, shared, until};
use shard_operator::crd::ShardCluster;
use tempfile::TempDir;

const USER: &str = "a-user";

pub(crate) struct Operators {
    pub(crate) record: Record,
    namespace: String,
    client: Client,
    proxies: BTreeMap<&'static str, Proxy>,
    folder: TempDir,
}

impl Operators {
    /// `None` where they may be left out.
    pub(crate) async fn begin(test: &str) -> Option<Self> {
        let client = shared().await.unwrap()?.client().await.unwrap();
        define(&client).await;
        let namespace = namespace(&client, test).await.unwrap();
        let (record, proxies) = (Record::default(), BTreeMap::new());
        Some(Self { record, namespace, client, proxies, folder: tempfile::tempdir().unwrap() })
    }

    pub(crate) async fn start(&mut self, name: &'static str) -> Process {
        let proxy = Proxy::start(name, self.client.clone(), self.record.clone()).await;
        let process = Process::start(name, &self.namespace, proxy.port, self.folder.path());
        self.proxies.insert(name, proxy);
        process
    }

    pub(crate) fn cut(&self, name: &str) {
        self.proxies[name].cut();
    }

    pub(crate) fn heal(&self, name: &str) {
        self.proxies[name].heal();
    }

    /// So many leaders there have been, and this is the last one.
    pub(crate) async fn until_leads(&self, name: &str, count: usize) {
        until(&format!("{name} leads"), || async {
            let mut leaders = self.record.leaders();
            leaders.retain(|leader| !leader.is_empty());
            let is_last = leaders.last().is_some_and(|last| last.starts_with(&format!("{name}_")));
            (leaders.len() == count && is_last).then_some(())
        })
        .await;
    }

    /// Makes or changes ShardCluster `tiny`.
    pub(crate) async fn apply(&self, shards: u32) {
        self.apply_named("tiny", shards).await;
    }

    pub(crate) async fn apply_named(&self, name: &str, shards: u32) {
        let object = json!({
            "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster", "metadata": {"name": name},
            "spec": {
                "model": {"name": "tiny", "source": {"builtin": {"name": "tiny-tales"}}},
                "shards": {"count": shards},
            },
        });
        let params = PatchParams::apply(USER).force();
        let api = Api::<ShardCluster>::namespaced(self.client.clone(), &self.namespace);
        api.patch(name, &params, &Patch::Apply(&object)).await.unwrap();
    }

    pub(crate) async fn until_shards(&self, shards: u32) {
        until(&format!("there are {shards} shards"), || async {
            let last = self.services().get_opt(&format!("tiny-shard-{}", shards - 1)).await.unwrap();
            let more = self.services().get_opt(&format!("tiny-shard-{shards}")).await.unwrap();
            (last.is_some() && more.is_none()).then_some(())
        })
        .await;
    }

    /// A Service that somebody else has made.
    pub(crate) async fn occupy(&self, name: &str) {
        let service = json!({"metadata": {"name": name}, "spec": {"ports": [{"name": "x", "port": 1}]}});
        let service = serde_json::from_value(service).unwrap();
        self.services().create(&PostParams::default(), &service).await.unwrap();
    }

    pub(crate) async fn vacate(&self, name: &str) {
        self.services().delete(name, &DeleteParams::default()).await.unwrap();
    }

    fn services(&self) -> Api<Service> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

async fn define(client: &Client) {
    let definition = shard_operator::crd::definition().unwrap();
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    let name = definition.name_any();
    api.patch(&name, &PatchParams::apply(USER).force(), &Patch::Apply(&definition)).await.unwrap();
    until("the definition is in force", || async {
        let conditions = api.get(&name).await.unwrap().status?.conditions?;
        conditions.iter().any(|one| one.type_ == "Established" && one.status == "True").then_some(())
    })
    .await;
}
