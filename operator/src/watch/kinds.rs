//! The kinds that are kept, and of each what nobody reads: it would be most of the memory.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, StatefulSet};
use k8s_openapi::api::core::v1::{
    Container, PersistentVolumeClaim, Pod, PodSpec, PodStatus, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Shelf, Shelves};

/// A kind that is kept.
pub trait Shelved:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + 'static
{
    /// Whether no field of it is an API server's or somebody else's to choose: what is not wanted there can be taken out.
    const IS_ALL_OURS: bool = false;

    /// Where.
    fn shelf(shelves: &Shelves) -> &Shelf<Self>;

    /// Drops what nobody reads.
    fn trim(&mut self) {}
}

impl Shelved for ServiceAccount {
    fn shelf(shelves: &Shelves) -> &Shelf<Self> {
        &shelves.service_accounts
    }
}

impl Shelved for Service {
    fn shelf(shelves: &Shelves) -> &Shelf<Self> {
        &shelves.services
    }
}

impl Shelved for StatefulSet {
    fn shelf(shelves: &Shelves) -> &Shelf<Self> {
        &shelves.stateful_sets
    }
}

impl Shelved for Deployment {
    fn shelf(shelves: &Shelves) -> &Shelf<Self> {
        &shelves.deployments
    }

    /// How many pods there are is no news; that none can be made is.
    fn trim(&mut self) {
        let conditions = self.status.take().and_then(|status| status.conditions).unwrap_or_default();
        let failure =
            conditions.into_iter().find(|one| one.type_ == "ReplicaFailure" && one.status == "True");
        self.status = failure.map(|failure| DeploymentStatus {
            conditions: Some(vec![DeploymentCondition {
                last_transition_time: None,
                last_update_time: None,
                ..failure
            }]),
            ..DeploymentStatus::default()
        });
    }
}

impl Shelved for PodDisruptionBudget {
    const IS_ALL_OURS: bool = true;

    fn shelf(shelves: &Shelves) -> &Shelf<Self> {
        &shelves.disruption_budgets
    }

    fn trim(&mut self) {
        self.status = None;
    }
}

impl Shelved for NetworkPolicy {
    const IS_ALL_OURS: bool = true;

    fn shelf(shelves: &Shelves) -> &Shelf<Self> {
        &shelves.network_policies
    }
}

impl Shelved for PersistentVolumeClaim {
    fn shelf(shelves: &Shelves) -> &Shelf<Self> {
        &shelves.claims
    }
}

impl Shelved for Pod {
    fn shelf(shelves: &Shelves) -> &Shelf<Self> {
        &shelves.pods
    }

    /// Who it is, where it runs, from which images, on which claims, and how it is: not what else its template says.
    fn trim(&mut self) {
        self.spec = self.spec.take().map(|spec| PodSpec {
            node_name: spec.node_name,
            containers: spec
                .containers
                .into_iter()
                .map(|container| Container {
                    name: container.name,
                    image: container.image,
                    resources: container.resources,
                    ..Container::default()
                })
                .collect(),
            volumes: spec.volumes.map(|mut volumes| {
                volumes.retain(|volume| volume.persistent_volume_claim.is_some());
                volumes
            }),
            ..PodSpec::default()
        });
        self.status = self.status.take().map(|status| PodStatus {
            phase: status.phase,
            reason: status.reason,
            message: status.message,
            host_ip: status.host_ip,
            pod_ip: status.pod_ip,
            conditions: status.conditions,
            container_statuses: status.container_statuses,
            ..PodStatus::default()
        });
    }
}

/// As a reconcile sees it.
#[cfg(test)]
pub(crate) fn as_kept<K: Shelved>(object: serde_json::Value) -> K {
    let mut object: K = serde_json::from_value(object).unwrap();
    object.trim();
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_deployment_only_a_failure_is_news() {
        let kept = |ready: u32, failure: Option<&str>, at: &str| {
            let condition = |kind: &str, status: &str, message: &str| {
                json!({
                    "type": kind, "status": status, "reason": "FailedCreate", "message": message,
                    "lastTransitionTime": at, "lastUpdateTime": at,
                })
            };
            let mut conditions = vec![condition("Available", "False", "")];
            conditions.extend(failure.map(|message| condition("ReplicaFailure", "True", message)));
            let mut deployment: Deployment = serde_json::from_value(json!({
                "metadata": {"name": "g"},
                "status": {"replicas": ready, "readyReplicas": ready, "conditions": conditions},
            }))
            .unwrap();
            deployment.trim();
            serde_json::to_value(deployment).unwrap()
        };
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z");
        assert_eq!(kept(0, None, early), kept(2, None, late));
        assert_eq!(kept(0, Some("quota"), early), kept(1, Some("quota"), late));
        assert_ne!(kept(0, Some("quota"), early), kept(0, None, early));
        assert_ne!(kept(0, Some("quota"), early), kept(0, Some("account"), early));
    }
}
