//! The children of each fixture, as they would be written. A change of a snapshot is a change of running pods.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;

use common::{FIXTURES, children, cluster, facts};
use insta::assert_snapshot;
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use serde::Serialize;
use shard_operator::desired::{Desired, desired};

fn yaml(object: &impl Serialize) -> String {
    serde_yaml::to_string(object).unwrap()
}

/// All objects of a kind in one document after another.
fn documents<T: Serialize>(objects: impl IntoIterator<Item = T>) -> String {
    objects.into_iter().map(|object| yaml(&object)).collect::<Vec<_>>().join("---\n")
}

#[test]
fn bootstraps() {
    for fixture in FIXTURES {
        assert_snapshot!(format!("bootstrap-{fixture}"), yaml(&children(fixture).bootstrap.stateful_set));
    }
}

#[test]
fn shards() {
    for fixture in ["minimal", "everything", "gpu", "hugging-face", "empty-dir", "suspended"] {
        let shards = children(fixture).shards;
        // One that is like the others is enough.
        let shown = if fixture == "minimal" { &shards[..1] } else { &shards[..] };
        let sets = shown.iter().map(|shard| &shard.stateful_set);
        assert_snapshot!(format!("shard-{fixture}"), documents(sets));
    }
}

#[test]
fn gateways() {
    for fixture in ["minimal", "everything", "suspended"] {
        assert_snapshot!(format!("gateway-{fixture}"), yaml(&children(fixture).gateway.deployment));
    }
}

#[test]
fn services() {
    for fixture in ["minimal", "everything", "hugging-face"] {
        let Desired { bootstrap, shards, gateway, .. } = children(fixture);
        let first = [Some(bootstrap.peers), Some(bootstrap.client), bootstrap.tcp, bootstrap.udp];
        let all = first.into_iter().flatten().chain([shards[0].peers.clone(), gateway.service]);
        assert_snapshot!(format!("services-{fixture}"), documents(all));
    }
}

#[test]
fn secrets_accounts_budgets_and_policies() {
    for fixture in ["minimal", "everything"] {
        let Desired { accounts, secrets, bootstrap, shards, gateway, policies, .. } = children(fixture);
        assert_snapshot!(
            format!("secrets-{fixture}"),
            documents([secrets.cluster, secrets.identities, secrets.operator_key])
        );
        let accounts = [accounts.bootstrap, accounts.shard, accounts.gateway].into_iter().flatten();
        assert_snapshot!(format!("accounts-{fixture}"), documents(accounts));
        let shards = shards.into_iter().map(|shard| shard.disruption);
        let budgets = [bootstrap.disruption, gateway.disruption].into_iter().chain(shards).flatten();
        assert_snapshot!(format!("budgets-{fixture}"), documents(budgets));
        let policies = policies.unwrap();
        assert_snapshot!(
            format!("policies-{fixture}"),
            documents([policies.bootstrap, policies.shard, policies.gateway])
        );
    }
    assert_eq!(children("empty-dir").policies, None);
}

/// Until the manifest is known nobody knows how much memory a pod needs: the StatefulSet is there and has no pods.
#[test]
fn shards_wait_for_the_manifest() {
    let cluster = cluster("minimal");
    let mut facts = facts(&cluster);
    facts.plan.as_mut().unwrap().shards.retain(|shard| shard.shard_id == 2);
    let sets = desired(&cluster, &facts).shards.into_iter().map(|shard| shard.stateful_set.spec.unwrap());
    let request = |spec: &PodTemplateSpec| {
        let resources = spec.spec.as_ref().unwrap().containers[0].resources.clone().unwrap();
        resources.requests.and_then(|requests| requests.get("memory").map(|memory| memory.0.clone()))
    };
    let seen: Vec<_> = sets.map(|set| (set.replicas.unwrap(), request(&set.template))).collect();
    // 250 MB × 1.1, 4 sessions × 4096 tokens × 4096 bytes, and 256 Mi.
    let mib = (275_000_000_u64 + 4 * 4096 * 4096 + (256 << 20)).div_ceil(1 << 20);
    let none = (0, None);
    assert_eq!(seen, [none.clone(), none.clone(), (1, Some(format!("{mib}Mi"))), none]);
}

fn pods(children: &Desired) -> Vec<(String, PodTemplateSpec)> {
    let sets = std::iter::once(&children.bootstrap.stateful_set)
        .chain(children.shards.iter().map(|shard| &shard.stateful_set))
        .map(|set| (set.metadata.name.clone().unwrap(), set.spec.clone().unwrap().template));
    let gateway = &children.gateway.deployment;
    let gateway = (gateway.metadata.name.clone().unwrap(), gateway.spec.clone().unwrap().template);
    sets.chain([gateway]).collect()
}

/// The restricted Pod Security Standard, point by point, and what DESIGN.md asks beyond it.
#[test]
fn every_pod_is_restricted() {
    for fixture in FIXTURES {
        for (name, template) in pods(&children(fixture)) {
            let spec = template.spec.unwrap();
            restricted(&spec, &format!("{fixture}: {name}"));
        }
    }
}

fn restricted(spec: &PodSpec, name: &str) {
    let PodSpec { host_network, host_pid, host_ipc, volumes, .. } = spec;
    assert_eq!((host_network, host_pid, host_ipc), (&None, &None, &None), "{name}");
    for volume in volumes.iter().flatten() {
        let value = serde_json::to_value(volume).unwrap();
        let kinds = ["configMap", "emptyDir", "secret", "persistentVolumeClaim", "image"];
        assert!(kinds.iter().any(|kind| value.get(kind).is_some()), "{name}: {value}");
    }
    let pod = spec.security_context.as_ref().unwrap();
    assert_eq!(
        (pod.run_as_non_root, pod.seccomp_profile.as_ref().unwrap().type_.as_str()),
        (Some(true), "RuntimeDefault")
    );
    assert!(pod.run_as_user.unwrap() > 0 && pod.fs_group.is_some(), "{name}");
    assert_eq!(pod.fs_group_change_policy.as_deref(), Some("OnRootMismatch"));
    assert_eq!((spec.automount_service_account_token, spec.enable_service_links), (Some(false), Some(false)));
    assert_eq!((spec.containers.len(), &spec.init_containers), (1, &None));
    assert!(pod.sysctls.is_none() && pod.se_linux_options.is_none(), "{name}");
    let mut ports = spec.containers[0].ports.iter().flatten();
    assert!(ports.all(|port| port.host_port.is_none()), "{name}");
    let container = spec.containers[0].security_context.as_ref().unwrap();
    assert_eq!(
        (container.allow_privilege_escalation, container.read_only_root_filesystem),
        (Some(false), Some(true))
    );
    assert_eq!(container.privileged, None);
    assert_eq!(container.capabilities.as_ref().unwrap().drop, Some(vec!["ALL".into()]));
    assert_eq!(container.capabilities.as_ref().unwrap().add, None);
}

/// A pod mounts what it has a volume for, its probes and Services name ports that it has, and its labels are those
/// that its workload and its Services select by.
#[test]
fn names_in_pods_fit_together() {
    for fixture in FIXTURES {
        let children = children(fixture);
        for set in std::iter::once(&children.bootstrap.stateful_set)
            .chain(children.shards.iter().map(|shard| &shard.stateful_set))
        {
            let spec = set.spec.as_ref().unwrap();
            let claims = spec
                .volume_claim_templates
                .iter()
                .flatten()
                .map(|claim| claim.metadata.name.clone().unwrap());
            fits(&spec.template, claims.collect());
            selects(&spec.selector.match_labels, &spec.template);
        }
        let spec = children.gateway.deployment.spec.as_ref().unwrap();
        fits(&spec.template, BTreeSet::new());
        selects(&spec.selector.match_labels, &spec.template);

        let bootstrap = &children.bootstrap;
        let template = &bootstrap.stateful_set.spec.as_ref().unwrap().template;
        let services =
            [Some(&bootstrap.peers), Some(&bootstrap.client), bootstrap.tcp.as_ref(), bootstrap.udp.as_ref()];
        let mut served: Vec<_> = services.into_iter().flatten().map(|service| (service, template)).collect();
        let shards = &children.shards;
        served.extend(shards.iter().map(|it| (&it.peers, &it.stateful_set.spec.as_ref().unwrap().template)));
        served.push((&children.gateway.service, &spec.template));
        for (service, template) in served {
            let spec = service.spec.as_ref().unwrap();
            selects(&spec.selector, template);
            let ports = ports(template);
            for port in spec.ports.iter().flatten() {
                assert!(ports.contains(port.name.as_ref().unwrap()), "{fixture}: {port:?}");
            }
        }
    }
}

fn ports(template: &PodTemplateSpec) -> BTreeSet<String> {
    let container = &template.spec.as_ref().unwrap().containers[0];
    container.ports.iter().flatten().map(|port| port.name.clone().unwrap()).collect()
}

fn fits(template: &PodTemplateSpec, claims: BTreeSet<String>) {
    let spec = template.spec.as_ref().unwrap();
    let volumes: BTreeSet<_> =
        spec.volumes.iter().flatten().map(|volume| volume.name.clone()).chain(claims).collect();
    let container = &spec.containers[0];
    let mounts: BTreeSet<_> =
        container.volume_mounts.iter().flatten().map(|mount| mount.name.clone()).collect();
    assert_eq!(volumes, mounts);
    let ports = ports(template);
    for probe in [&container.startup_probe, &container.liveness_probe, &container.readiness_probe]
        .into_iter()
        .flatten()
    {
        let port = serde_json::to_value(&probe.http_get.as_ref().unwrap().port).unwrap();
        assert!(ports.contains(port.as_str().unwrap()), "{port}");
    }
    // Every file that a program is told of lies below something that is mounted, or in the image.
    let paths: Vec<_> =
        container.volume_mounts.iter().flatten().map(|mount| mount.mount_path.clone()).collect();
    for arg in container.args.iter().flatten() {
        let Some((flag, value)) = arg.split_once('=') else { continue };
        if value.starts_with('/') && !value.starts_with("/usr/share/") {
            assert!(
                paths.iter().any(|path| value.starts_with(path)),
                "{flag}={value} is not below {paths:?}"
            );
        }
    }
    let variables: Vec<_> = container.env.iter().flatten().map(|variable| &variable.name).collect();
    assert_eq!(variables.iter().collect::<BTreeSet<_>>().len(), variables.len(), "{variables:?}");
}

fn selects(selector: &Option<std::collections::BTreeMap<String, String>>, template: &PodTemplateSpec) {
    let labels = template.metadata.as_ref().unwrap().labels.as_ref().unwrap();
    for (key, value) in selector.as_ref().unwrap() {
        assert_eq!(labels.get(key), Some(value), "{key}");
    }
}

/// Children go with their resource, in its namespace, and no two have one name.
#[test]
fn children_are_owned_and_named_apart() {
    fn objects(value: &serde_json::Value, found: &mut Vec<serde_json::Value>) {
        match value {
            serde_json::Value::Object(map) if map.contains_key("kind") && map.contains_key("metadata") => {
                found.push(value.clone());
            }
            serde_json::Value::Array(all) => all.iter().for_each(|inner| objects(inner, found)),
            _ => {}
        }
    }
    for fixture in FIXTURES {
        let Desired { accounts, secrets, bootstrap, shards, gateway, policies, .. } = children(fixture);
        let policies = policies.map(|it| serde_json::json!([it.bootstrap, it.shard, it.gateway]));
        let shards: Vec<_> =
            shards.iter().map(|it| serde_json::json!([it.stateful_set, it.peers, it.disruption])).collect();
        let all = serde_json::json!([
            [accounts.bootstrap, accounts.shard, accounts.gateway],
            [secrets.cluster, secrets.identities, secrets.operator_key],
            [
                bootstrap.stateful_set,
                bootstrap.peers,
                bootstrap.client,
                bootstrap.tcp,
                bootstrap.udp,
                bootstrap.disruption
            ],
            shards,
            [gateway.deployment, gateway.service, gateway.disruption],
            policies,
        ]);
        let mut found = Vec::new();
        objects(&all, &mut found);
        assert!(found.len() >= 10, "{fixture}: {}", found.len());
        let mut names = BTreeSet::new();
        for object in found {
            let meta = &object["metadata"];
            let name = format!("{} {}", object["kind"], meta["name"]);
            assert!(meta["name"].as_str().unwrap().len() <= 63, "{name}");
            assert_eq!(
                (&meta["namespace"], &meta["ownerReferences"][0]["uid"]),
                (&"llm".into(), &"6a0b".into()),
                "{name}"
            );
            assert_eq!(meta["labels"]["app.kubernetes.io/managed-by"], "shardcluster-operator", "{name}");
            assert!(names.insert(name.clone()), "{fixture} has two {name}");
        }
    }
}

/// Before a pod starts it has a key: one for each pod that the StatefulSets are to have, by its name.
#[test]
fn every_pod_of_a_stateful_set_has_an_identity() {
    for fixture in FIXTURES {
        let Desired { secrets, bootstrap, shards, .. } = children(fixture);
        let sets =
            std::iter::once(bootstrap.stateful_set).chain(shards.into_iter().map(|shard| shard.stateful_set));
        let pods = sets.flat_map(|set| {
            let (name, replicas) = (set.metadata.name.unwrap(), set.spec.unwrap().replicas.unwrap());
            (0..replicas).map(move |ordinal| format!("{name}-{ordinal}"))
        });
        let keys: Vec<_> = secrets.identities.data.unwrap().into_keys().collect();
        assert_eq!(pods.collect::<BTreeSet<_>>(), keys.into_iter().collect(), "{fixture}");
    }
}
