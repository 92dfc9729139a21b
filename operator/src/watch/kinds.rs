//! The kinds that are kept, and of each what nobody reads: it would be most of the memory.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
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
    /// Whether nothing is lost where one is deleted and made again.
    const HAS_NO_STATE: bool = false;

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

    fn trim(&mut self) {
        self.status = None;
    }
}

impl Shelved for PodDisruptionBudget {
    const HAS_NO_STATE: bool = true;

    fn shelf(shelves: &Shelves) -> &Shelf<Self> {
        &shelves.disruption_budgets
    }

    fn trim(&mut self) {
        self.status = None;
    }
}

impl Shelved for NetworkPolicy {
    const HAS_NO_STATE: bool = true;

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

    /// Who it is, where it runs, on which claims, and how it is: not what its template says.
    fn trim(&mut self) {
        self.spec = self.spec.take().map(|spec| PodSpec {
            node_name: spec.node_name,
            containers: spec
                .containers
                .into_iter()
                .map(|container| Container {
                    name: container.name,
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
            pod_ip: status.pod_ip,
            conditions: status.conditions,
            container_statuses: status.container_statuses,
            ..PodStatus::default()
        });
    }
}
