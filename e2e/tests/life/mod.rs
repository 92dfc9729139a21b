//! A life that makes the operator do all that it can do, where no machine is lost. There are no kubelets: what they and
//! gateways would say is written here.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use shard_e2e::{ControlPlane, until};
use shard_operator::crd::{LayerRange, PlanShard, PlanStatus, ShardCluster, condition};

use crate::helm::{kubectl, tree};

/// Of the example.
const FIRST: &str = "tiny-tales";
const SECOND: &str = "grown";
const THIRD: &str = "lacking";

pub(crate) async fn live(plane: &ControlPlane, client: &Client, namespace: &str) {
    let life = Life { plane, client: client.clone(), namespace: namespace.to_owned() };
    life.comes().await;
    life.is_scaled().await;
    life.is_changed_by_hand().await;
    life.has_volumes_that_grow().await;
    life.lacks_what_it_names().await;
    life.shrinks().await;
    life.goes().await;
}

struct Life<'a> {
    plane: &'a ControlPlane,
    client: Client,
    namespace: String,
}

impl Life<'_> {
    async fn comes(&self) {
        self.kubectl(&["apply", "-f", &tree("examples/shardcluster.yaml").display().to_string()]);
        self.there::<Deployment>("tiny-tales-gateway").await;
        self.plan_is_known(FIRST, 4).await;
        for workload in ["bootstrap", "gateway", "shard-0", "shard-1", "shard-2", "shard-3"] {
            self.pods_run(&format!("{FIRST}-{workload}-")).await;
        }
        until("all shards are ready", || async {
            let status = self.api::<ShardCluster>().get(FIRST).await.unwrap().status?;
            (status.ready_shards.as_deref() == Some("4/4")).then_some(())
        })
        .await;
    }

    async fn is_scaled(&self) {
        self.kubectl(&["scale", "shardcluster/tiny-tales", "--replicas=2"]);
        self.there::<PodDisruptionBudget>("tiny-tales-shard-3").await;
        until("the second pods have keys", || async {
            let data = self.api::<Secret>().get("tiny-tales-identities").await.unwrap().data?;
            data.contains_key("tiny-tales-shard-3-1").then_some(())
        })
        .await;
        self.pods_run("tiny-tales-shard-3-1").await;
    }

    async fn is_changed_by_hand(&self) {
        let services = self.api::<Service>();
        let other = json!({"spec": {"ports": [{"name": "http", "port": 81, "targetPort": "http"}]}});
        services.patch("tiny-tales-gateway", &PatchParams::default(), &Patch::Merge(&other)).await.unwrap();
        until("the port is what it was", || async {
            let port = services.get("tiny-tales-gateway").await.unwrap().spec?.ports?[0].port;
            (port == 8080).then_some(())
        })
        .await;
        self.comes_again::<ServiceAccount>("tiny-tales-shard").await;
        self.comes_again::<NetworkPolicy>("tiny-tales-shard").await;
        self.comes_again::<PodDisruptionBudget>("tiny-tales-shard-3").await;
        // What an older release may have left.
        let owner = self.api::<ShardCluster>().get(FIRST).await.unwrap().controller_owner_ref(&()).unwrap();
        let mut left = self.api::<Deployment>().get("tiny-tales-gateway").await.unwrap();
        left.metadata = kube::api::ObjectMeta {
            name: Some("tiny-tales-old".into()),
            labels: left.metadata.labels,
            owner_references: Some(vec![owner]),
            ..Default::default()
        };
        self.api::<Deployment>().create(&PostParams::default(), &left).await.unwrap();
        self.gone::<Deployment>("tiny-tales-old").await;
    }

    async fn has_volumes_that_grow(&self) {
        let class: StorageClass = serde_json::from_value(json!({
            "metadata": {"name": self.namespace}, "provisioner": "kubernetes.io/no-provisioner",
            "allowVolumeExpansion": true,
        }))
        .unwrap();
        Api::<StorageClass>::all(self.client.clone()).create(&PostParams::default(), &class).await.unwrap();
        self.apply_second("1Gi").await;
        self.there::<StatefulSet>("grown-shard-0").await;
        self.plan_is_known(SECOND, 1).await;
        let claim = "model-grown-shard-0-0";
        self.there::<PersistentVolumeClaim>(claim).await;
        let volume: PersistentVolume = serde_json::from_value(json!({
            "metadata": {"name": self.namespace},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": self.namespace,
                "hostPath": {"path": "/nowhere"}, "claimRef": {"namespace": self.namespace, "name": claim},
            },
        }))
        .unwrap();
        Api::<PersistentVolume>::all(self.client.clone())
            .create(&PostParams::default(), &volume)
            .await
            .unwrap();
        until("the claim is bound", || async {
            let claim = self.api::<PersistentVolumeClaim>().get(claim).await.unwrap();
            (claim.status?.phase? == "Bound").then_some(())
        })
        .await;
        let old = self.api::<StatefulSet>().get("grown-shard-0").await.unwrap().uid();
        self.apply_second("2Gi").await;
        until("the claim asks for more, of a set that was made anew", || async {
            let set = self.api::<StatefulSet>().get_opt("grown-shard-0").await.unwrap()?;
            let claim = self.api::<PersistentVolumeClaim>().get(claim).await.unwrap();
            let asked = claim.spec?.resources?.requests?["storage"].0.clone();
            (set.uid() != old && asked == "2Gi").then_some(())
        })
        .await;
    }

    /// A ConfigMap that is not there, and pods that cannot be created.
    async fn lacks_what_it_names(&self) {
        let resource = json!({
            "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster", "metadata": {"name": THIRD},
            "spec": {
                "model": {"name": "m", "source": {"http": {
                    "url": "https://models.invalid/m.gguf", "caBundleRef": {"name": "nowhere", "key": "ca.crt"},
                }}},
                "shards": {"count": 1, "pod": {"serviceAccountName": "nobody"}},
            },
        });
        let params = PatchParams::apply("a-user").force();
        self.api::<ShardCluster>().patch(THIRD, &params, &Patch::Apply(&resource)).await.unwrap();
        self.is_told(THIRD, condition::BOOTSTRAP_READY, "Unschedulable").await;
        self.plan_is_known(THIRD, 1).await;
        self.is_told(THIRD, condition::SHARDS_READY, "FailedCreate").await;
    }

    async fn is_told(&self, name: &str, condition: &str, reason: &str) {
        until(&format!("{condition} of {name} says {reason}"), || async {
            let status = self.api::<ShardCluster>().get(name).await.unwrap().status?;
            let found = status.conditions.iter().find(|one| one.type_ == condition)?;
            (found.reason == reason).then_some(())
        })
        .await;
    }

    async fn shrinks(&self) {
        let fewer = json!({"spec": {
            "shards": {"count": 3, "replicas": 1}, "networkPolicy": {"enabled": false},
            "pod": {"serviceAccountName": "default"},
        }});
        let resources = self.api::<ShardCluster>();
        resources.patch(FIRST, &PatchParams::default(), &Patch::Merge(&fewer)).await.unwrap();
        // Without the new manifest the shards would keep their plan.
        self.plan_is_known(FIRST, 3).await;
        self.gone::<StatefulSet>("tiny-tales-shard-3").await;
        self.gone::<Service>("tiny-tales-shard-3").await;
        self.gone::<PodDisruptionBudget>("tiny-tales-shard-0").await;
        self.gone::<NetworkPolicy>("tiny-tales-shard").await;
        self.gone::<ServiceAccount>("tiny-tales-shard").await;
    }

    async fn goes(&self) {
        self.kubectl(&["delete", "shardcluster", FIRST, SECOND, THIRD]);
        self.gone::<Deployment>("tiny-tales-gateway").await;
        self.gone::<StatefulSet>("grown-shard-0").await;
        self.gone::<StatefulSet>("lacking-shard-0").await;
    }

    fn kubectl(&self, args: &[&str]) {
        kubectl(self.plane, &[&["--namespace", &self.namespace], args].concat()).unwrap();
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn apply_second(&self, size: &str) {
        let resource = json!({
            "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster", "metadata": {"name": SECOND},
            "spec": {
                "model": {"name": "tiny-tales", "source": {"builtin": {"name": "tiny-tales"}}},
                "shards": {"count": 1}, "storage": {"size": size, "storageClassName": self.namespace},
            },
        });
        let params = PatchParams::apply("a-user").force();
        self.api::<ShardCluster>().patch(SECOND, &params, &Patch::Apply(&resource)).await.unwrap();
    }

    /// As after a restart of the gateways: the last status has what they know from the manifest.
    async fn plan_is_known(&self, name: &str, count: u32) {
        let shard = |id| PlanShard {
            id,
            layers: LayerRange { start: id, end: id + 1 },
            weight_bytes: 1 << 20,
            kv_bytes: 1 << 20,
            memory_request: None,
        };
        let plan =
            PlanStatus { id: "p1".into(), shards: (0..count).map(shard).collect(), tolerates: Vec::new() };
        let plan = json!({"status": {"plan": plan}});
        let resources = self.api::<ShardCluster>();
        resources.patch_status(name, &PatchParams::default(), &Patch::Merge(&plan)).await.unwrap();
        until("every shard has a pod", || async {
            let sets = self.api::<StatefulSet>();
            for id in 0..count {
                let set = sets.get(&format!("{name}-shard-{id}")).await.unwrap();
                if set.spec?.replicas == Some(0) {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// What kubelets say of pods that are ready.
    async fn pods_run(&self, prefix: &str) {
        let pods = self.api::<Pod>();
        let names = until(&format!("there is a pod {prefix}"), || async {
            let all = pods.list(&ListParams::default()).await.unwrap();
            let names: Vec<_> =
                all.iter().map(ResourceExt::name_any).filter(|name| name.starts_with(prefix)).collect();
            (!names.is_empty()).then_some(names)
        })
        .await;
        // An address that nobody has: gateways do not answer.
        let status = json!({"status": {
            "phase": "Running", "podIP": "192.0.2.1", "podIPs": [{"ip": "192.0.2.1"}],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
        }});
        for name in names {
            pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        }
    }

    async fn there<K: Namespaced>(&self, name: &str) -> K {
        let what = format!("{} {name} is there", K::kind(&()));
        until(&what, || async { self.api::<K>().get_opt(name).await.unwrap() }).await
    }

    async fn gone<K: Namespaced>(&self, name: &str) {
        let what = format!("{} {name} is gone", K::kind(&()));
        until(&what, || async { self.api::<K>().get_opt(name).await.unwrap().is_none().then_some(()) }).await;
    }

    async fn comes_again<K: Namespaced>(&self, name: &str) {
        let old = self.there::<K>(name).await.uid();
        self.api::<K>().delete(name, &DeleteParams::default()).await.unwrap();
        let what = format!("{} {name} is there again", K::kind(&()));
        let again = || async {
            let found = self.api::<K>().get_opt(name).await.unwrap()?;
            (found.uid() != old).then_some(())
        };
        until(&what, again).await;
    }
}

trait Namespaced:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned
{
}

impl<K> Namespaced for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
{
}
