//! Where pods run in relation to one another: all of it a preference, because a full cluster is no reason to serve less.

use k8s_openapi::api::core::v1::{
    Affinity, PodAffinity, PodAffinityTerm, TopologySpreadConstraint, WeightedPodAffinityTerm,
};

use super::meta::{Labels, Part, matching};
use crate::cluster::Cluster;

const NODE: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Set by StatefulSets: the pods of one column have the same.
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// Replicas of one thing over nodes, then zones.
pub(super) fn apart(selector: &Labels) -> Vec<TopologySpreadConstraint> {
    let over = |key: &str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(matching(selector.clone())),
        ..TopologySpreadConstraint::default()
    };
    vec![over(NODE), over(ZONE)]
}

/// The shards of a column in one zone: a token goes through all of them.
pub(super) fn columns_together(cluster: &Cluster) -> Affinity {
    let term = PodAffinityTerm {
        topology_key: ZONE.into(),
        label_selector: Some(matching(Part::Shards.selector(cluster))),
        match_label_keys: Some(vec![POD_INDEX.into()]),
        ..PodAffinityTerm::default()
    };
    let preferred = WeightedPodAffinityTerm { weight: 50, pod_affinity_term: term };
    Affinity {
        pod_affinity: Some(PodAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![preferred]),
            ..PodAffinity::default()
        }),
        ..Affinity::default()
    }
}
