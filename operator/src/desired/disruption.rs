//! PodDisruptionBudgets: a drain takes one pod at a time, where there are more.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::meta::{Part, matching};
use crate::cluster::Cluster;

/// With one pod a budget would only block drains. A pod that is not ready may always go.
pub(super) fn budget(cluster: &Cluster, part: Part, replicas: u32) -> Option<PodDisruptionBudget> {
    (replicas >= 2).then(|| PodDisruptionBudget {
        metadata: part.meta(cluster),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(matching(part.selector(cluster))),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}
