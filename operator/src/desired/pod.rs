//! What all pods have: one container, nothing that they do not need, and what the user says of them.
//!
//! They pass the restricted Pod Security Standard: no root, no capabilities, a root file system that is only read.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, LocalObjectReference,
    ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements, SeccompProfile,
    SecretVolumeSource, SecurityContext, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use shard_wire::contract::{BOOTSTRAP_PORT, DIAGNOSTICS_PORT, HTTP_PORT, INCARNATION, Program};

use super::args::Args;
use super::meta::Part;
use super::probe::Probes;
use super::secrets::{CLUSTER_SECRET_FILE, IDENTITY_FILE, names};
use super::spread::apart;
use crate::cluster::{Cluster, Gpu, Pod};
use crate::crd::{PullPolicy, Resources};

/// Names of ports, which probes, Services and policies use.
pub(super) const P2P_TCP: &str = "p2p-tcp";
pub(super) const P2P_UDP: &str = "p2p-udp";
pub(super) const DIAGNOSTICS: &str = "diagnostics";
pub(super) const HTTP: &str = "http";

/// Nobody: the user of distroless images.
const USER: i64 = 65532;
/// A file of a Secret: for its owner and the pod's group.
pub(super) const SECRET_MODE: i32 = 0o440;
const POD_NAME: &str = "POD_NAME";

/// A volume and where it is seen; without the volume, it is a claim's.
pub(super) struct Mount {
    pub(super) volume: Option<Volume>,
    pub(super) mount: VolumeMount,
}

/// What is particular about the pods of a part.
pub(super) struct Template<'a> {
    pub(super) part: Part,
    pub(super) program: Program,
    pub(super) image: &'a str,
    pub(super) pod: &'a Pod,
    pub(super) args: Args,
    pub(super) resources: ResourceRequirements,
    pub(super) probes: Probes,
    pub(super) mounts: Vec<Mount>,
    pub(super) gpu: Option<&'a Gpu>,
    /// Where the user has none.
    pub(super) affinity: Affinity,
    pub(super) tolerations: Vec<Toleration>,
    pub(super) grace_seconds: i64,
}

pub(super) fn template(cluster: &Cluster, it: Template<'_>) -> PodTemplateSpec {
    let Template { part, pod, gpu, .. } = it;
    let mut labels = pod.labels.clone();
    labels.extend(part.labels(cluster));
    let account_of = if matches!(part, Part::Shard(_)) { Part::Shards } else { part };
    let mut node_selector = gpu.map(|gpu| gpu.node_selector.clone()).unwrap_or_default();
    node_selector.extend(pod.node_selector.clone());
    let tolerations = [it.tolerations, gpu.map(|gpu| gpu.tolerations.clone()).unwrap_or_default()].concat();
    let affinity = affinity(&pod.affinity, it.affinity);
    let spec = PodSpec {
        service_account_name: pod.service_account.clone().or_else(|| Some(account_of.name(cluster))),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(it.grace_seconds),
        security_context: Some(nobody()),
        affinity: (affinity != Affinity::default()).then_some(affinity),
        topology_spread_constraints: Some(apart(&part.selector(cluster))),
        node_selector: some(node_selector),
        tolerations: some_list([tolerations, pod.tolerations.clone()].concat()),
        priority_class_name: pod.priority_class.clone(),
        runtime_class_name: gpu.and_then(|gpu| gpu.runtime_class.clone()),
        image_pull_secrets: some_list(
            pod.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect(),
        ),
        volumes: some_list(it.mounts.iter().filter_map(|mount| mount.volume.clone()).collect()),
        containers: vec![Container {
            name: it.program.name().replace('_', "-"),
            image: Some(it.image.to_owned()),
            image_pull_policy: pod.image_pull_policy.map(|policy: PullPolicy| policy.word().into()),
            command: Some(vec![it.program.name().into()]),
            args: Some(it.args.into_vec()),
            env: some_list(variables(part, pod)),
            ports: Some(ports(cluster, part)),
            resources: Some(it.resources),
            startup_probe: it.probes.startup,
            liveness_probe: it.probes.liveness,
            readiness_probe: it.probes.readiness,
            volume_mounts: some_list(it.mounts.into_iter().map(|mount| mount.mount).collect()),
            security_context: Some(unprivileged()),
            ..Container::default()
        }],
        ..PodSpec::default()
    };
    let metadata = ObjectMeta {
        labels: Some(labels),
        annotations: some(pod.annotations.clone()),
        ..ObjectMeta::default()
    };
    PodTemplateSpec { metadata: Some(metadata), spec: Some(spec) }
}

/// As the user says; names that the user does not mention have a default, unless a limit says as much.
pub(super) fn resources(
    user: &Resources,
    defaults: &[(&str, String)],
    gpu: Option<&Gpu>,
) -> ResourceRequirements {
    let (mut requests, mut limits) = (user.requests.clone(), user.limits.clone());
    for (name, value) in defaults {
        if !limits.contains_key(*name) {
            requests.entry((*name).to_owned()).or_insert_with(|| Quantity(value.clone()));
        }
    }
    if let Some(gpu) = gpu {
        // Of such a resource a request is the limit, and another one is refused.
        requests.remove(&gpu.resource);
        limits.insert(gpu.resource.clone(), Quantity(gpu.count.to_string()));
    }
    ResourceRequirements { requests: some(requests), limits: some(limits), ..ResourceRequirements::default() }
}

/// The cluster's secret: a folder, so that a rotated one arrives.
pub(super) fn cluster_secret(cluster: &Cluster) -> Mount {
    secret("cluster-secret", names::cluster_secret(&cluster.name), parent(CLUSTER_SECRET_FILE))
}

/// The pod's own key and no other.
pub(super) fn identity(cluster: &Cluster) -> Mount {
    let mut mount = secret("identity", names::identities(&cluster.name), IDENTITY_FILE);
    mount.mount.sub_path_expr = Some(format!("$({POD_NAME})"));
    mount
}

/// All entries of a Secret, as files.
pub(super) fn secret(volume: &str, name: String, path: &str) -> Mount {
    let source =
        SecretVolumeSource { secret_name: Some(name), default_mode: Some(SECRET_MODE), ..Default::default() };
    let volume = Volume { name: volume.into(), secret: Some(source), ..Volume::default() };
    read_only(volume, path)
}

/// A volume that is only read.
pub(super) fn read_only(volume: Volume, path: &str) -> Mount {
    let mount = VolumeMount {
        name: volume.name.clone(),
        mount_path: path.into(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    Mount { volume: Some(volume), mount }
}

/// The folder of a file that pods see.
pub(super) fn parent(file: &'static str) -> &'static str {
    file.rsplit_once('/').map_or(file, |(folder, _)| folder)
}

/// What nodes reach one another on, and what is asked over HTTP.
fn ports(cluster: &Cluster, part: Part) -> Vec<ContainerPort> {
    let port = |name: &str, protocol: &str, number: u16| ContainerPort {
        name: Some(name.into()),
        protocol: Some(protocol.into()),
        container_port: number.into(),
        ..ContainerPort::default()
    };
    if part == Part::Gateway {
        return vec![port(HTTP, "TCP", HTTP_PORT)];
    }
    let tcp = cluster.transport.tcp().then(|| port(P2P_TCP, "TCP", BOOTSTRAP_PORT));
    let udp = cluster.transport.quic().then(|| port(P2P_UDP, "UDP", BOOTSTRAP_PORT));
    tcp.into_iter().chain(udp).chain([port(DIAGNOSTICS, "TCP", DIAGNOSTICS_PORT)]).collect()
}

/// The pod's name, by which it finds its key, and what tells one start of an origin from another, before what the user
/// says.
fn variables(part: Part, pod: &Pod) -> Vec<EnvVar> {
    let field = |name: &str, path: &str| EnvVar {
        name: name.into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.into(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let name = || field(POD_NAME, "metadata.name");
    let own = match part {
        Part::Gateway => vec![],
        Part::Bootstrap => vec![name(), field(INCARNATION.env, "metadata.uid")],
        Part::Shard(_) | Part::Shards => vec![name()],
    };
    let user = pod.env.iter().filter(|variable| own.iter().all(|own| own.name != variable.name));
    own.iter().chain(user).cloned().collect()
}

/// Each part that the user sets replaces ours.
fn affinity(user: &Affinity, ours: Affinity) -> Affinity {
    Affinity {
        node_affinity: user.node_affinity.clone().or(ours.node_affinity),
        pod_affinity: user.pod_affinity.clone().or(ours.pod_affinity),
        pod_anti_affinity: user.pod_anti_affinity.clone().or(ours.pod_anti_affinity),
    }
}

fn nobody() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // A volume with a large model is not walked through at every start.
        fs_group_change_policy: Some("OnRootMismatch".into()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

fn unprivileged() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
        ..SecurityContext::default()
    }
}

/// An empty map is a field that is not ours.
fn some<T>(map: BTreeMap<String, T>) -> Option<BTreeMap<String, T>> {
    (!map.is_empty()).then_some(map)
}

fn some_list<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_says_of_resources_wins_but_for_the_count_of_gpus() {
        let amounts = |all: &[(&str, &str)]| {
            all.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).into()))).collect()
        };
        let defaults = [("cpu", "100m".to_owned()), ("memory", "300Mi".to_owned())];
        let gpu = Gpu {
            resource: "nvidia.com/gpu".into(),
            count: 2,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            runtime_class: None,
        };
        let user = Resources {
            requests: amounts(&[("cpu", "2"), ("nvidia.com/gpu", "1")]),
            limits: amounts(&[("memory", "1Gi"), ("nvidia.com/gpu", "1")]),
        };
        let merged = resources(&user, &defaults, Some(&gpu));
        assert_eq!(merged.requests, Some(amounts(&[("cpu", "2")])), "a limit is a request, too");
        assert_eq!(merged.limits, Some(amounts(&[("memory", "1Gi"), ("nvidia.com/gpu", "2")])));
        let merged = resources(&Resources::default(), &defaults, None);
        assert_eq!(merged.requests, Some(amounts(&[("cpu", "100m"), ("memory", "300Mi")])));
        assert_eq!(merged.limits, None);
    }
}
