//! The blocks that hold for one pod, put together: the widest first.

use k8s_openapi::api::core::v1::Affinity;

use crate::cluster::Pod;
use crate::crd::PodBlock;

/// Maps and lists add up, by key where they have one; of single values the narrowest holds.
pub(super) fn merge(blocks: &[&PodBlock]) -> Pod {
    blocks.iter().fold(Pod::default(), |pod, block| narrowed(pod, block))
}

fn narrowed(mut pod: Pod, block: &PodBlock) -> Pod {
    pod.node_selector.extend(block.node_selector.clone());
    pod.labels.extend(block.labels.clone());
    pod.annotations.extend(block.annotations.clone());
    for toleration in &block.tolerations {
        if !pod.tolerations.contains(toleration) {
            pod.tolerations.push(toleration.clone());
        }
    }
    for secret in &block.image_pull_secrets {
        if !pod.image_pull_secrets.contains(&secret.name) {
            pod.image_pull_secrets.push(secret.name.clone());
        }
    }
    for variable in &block.env {
        pod.env.retain(|wider| wider.name != variable.name);
        pod.env.push(variable.clone());
    }
    if let Some(Affinity { node_affinity, pod_affinity, pod_anti_affinity }) = block.affinity.clone() {
        pod.affinity.node_affinity = node_affinity.or(pod.affinity.node_affinity);
        pod.affinity.pod_affinity = pod_affinity.or(pod.affinity.pod_affinity);
        pod.affinity.pod_anti_affinity = pod_anti_affinity.or(pod.affinity.pod_anti_affinity);
    }
    pod.priority_class = block.priority_class_name.clone().or(pod.priority_class);
    pod.image_pull_policy = block.image_pull_policy.or(pod.image_pull_policy);
    pod.service_account = block.service_account_name.clone().or(pod.service_account);
    pod
}
