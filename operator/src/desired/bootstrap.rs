//! The bootstrap: up at once as the entry to the network, then the origin of the model.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    Affinity, ConfigMapVolumeSource, ImageVolumeSource, KeyToPath, PersistentVolumeClaimVolumeSource,
    SecretVolumeSource, Volume,
};
use shard_wire::contract::{self as c, BOOTSTRAP_PORT, DIAGNOSTICS_PORT, Program};

use super::BootstrapChildren;
use super::args::Args;
use super::disruption::budget;
use super::meta::{Part, bootstrap_peers, from_ordinal, marked, matching};
use super::pod::{self, DIAGNOSTICS, Mount, Template, read_only};
use super::probe::Probes;
use super::service;
use super::storage::{SHARDS_DIR, folder};
use crate::cluster::{Cluster, Source};
use crate::crd::KeyRef;

/// Where a volume with the model is seen.
const MODEL: &str = "/model";
const TOKEN_FILE: &str = "/etc/shardcluster/token/token";
const CA_FILE: &str = "/etc/shardcluster/ca/ca.crt";
/// Pieces are hashed and sent as they are read: the model itself is never in memory.
const DEFAULTS: [(&str, &str); 2] = [("cpu", "100m"), ("memory", "256Mi")];

pub(super) fn bootstrap(cluster: &Cluster) -> BootstrapChildren {
    let part = Part::Bootstrap;
    let service::BootstrapServices { client, tcp, udp } = service::bootstrap(cluster);
    BootstrapChildren {
        stateful_set: stateful_set(cluster, part),
        peers: service::peers(cluster, part, bootstrap_peers(cluster)),
        client,
        tcp,
        udp,
        disruption: budget(cluster, part, cluster.bootstrap.replicas),
    }
}

fn stateful_set(cluster: &Cluster, part: Part) -> StatefulSet {
    let wanted = &cluster.bootstrap;
    let mut mounts = vec![pod::cluster_secret(cluster), pod::identity(cluster)];
    mounts.extend(mounts_of(&cluster.model.source));
    let folder = wanted.storage.as_ref().map(|storage| folder(cluster, part, storage));
    let (mut claims, mut retention) = (None, None);
    if let Some(folder) = folder {
        mounts.push(folder.mount);
        (claims, retention) = (folder.claims, folder.retention);
    }
    let template = Template {
        part,
        program: Program::Server,
        image: &cluster.image,
        pod: &wanted.pod,
        args: args(cluster),
        resources: pod::resources(
            &wanted.resources,
            &DEFAULTS.map(|(name, value)| (name, value.into())),
            None,
        ),
        probes: Probes::at_once(DIAGNOSTICS),
        mounts,
        gpu: None,
        affinity: Affinity::default(),
        tolerations: Vec::new(),
        grace_seconds: 30,
    };
    StatefulSet {
        metadata: part.meta(cluster),
        spec: Some(StatefulSetSpec {
            replicas: i32::try_from(wanted.replicas).ok(),
            service_name: Some(bootstrap_peers(cluster)),
            pod_management_policy: Some("Parallel".into()),
            // As Kubernetes has it by default; said, so that a hand that changes it holds up no rollout.
            update_strategy: Some(from_ordinal(0)),
            selector: matching(part.selector(cluster)),
            template: marked(pod::template(cluster, template), None),
            volume_claim_templates: claims,
            persistent_volume_claim_retention_policy: retention,
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

fn args(cluster: &Cluster) -> Args {
    let model = &cluster.model;
    let starts: Vec<String> = model.layer_starts.iter().map(u32::to_string).collect();
    let args = Args::member(cluster)
        .identified()
        .with(&c::SERVER_PORT, BOOTSTRAP_PORT)
        .with(&c::SERVER_DIAGNOSTICS_PORT, DIAGNOSTICS_PORT)
        .with(&c::ORIGIN_SHARDS, cluster.shards.len())
        .with_some(&c::LAYERS, (!starts.is_empty()).then(|| starts.join(",")));
    match &model.source {
        Source::Http { url, sha256, token, ca } => args
            .with(&c::MODEL_SOURCE, url)
            .with(&c::SERVER_SHARDS_DIR, SHARDS_DIR)
            .with_some(&c::SHA256, sha256.as_ref())
            .with_some(&c::TOKEN_FILE, token.as_ref().map(|_| TOKEN_FILE))
            .with_some(&c::CA_FILE, ca.as_ref().map(|_| CA_FILE)),
        Source::Hub { reference, endpoint, token } => args
            .with(&c::MODEL_SOURCE, reference)
            .with(&c::SERVER_SHARDS_DIR, SHARDS_DIR)
            .with_some(&c::HF_ENDPOINT, endpoint.as_ref())
            .with_some(&c::TOKEN_FILE, token.as_ref().map(|_| TOKEN_FILE)),
        Source::Claim { path, .. } | Source::Image { path, .. } => {
            args.with(&c::MODEL_SOURCE, format_args!("{MODEL}/{path}"))
        }
        Source::Builtin { path } => args.with(&c::MODEL_SOURCE, path),
    }
}

/// What the source needs: keys to it, or the volume with the model.
fn mounts_of(source: &Source) -> Vec<Mount> {
    match source {
        Source::Http { token, ca, .. } => {
            token.iter().map(token_file).chain(ca.iter().map(ca_file)).collect()
        }
        Source::Hub { token, .. } => token.iter().map(token_file).collect(),
        Source::Claim { name, .. } => {
            let claim = PersistentVolumeClaimVolumeSource { claim_name: name.clone(), read_only: Some(true) };
            vec![read_only(Volume { persistent_volume_claim: Some(claim), ..named("source") }, MODEL)]
        }
        Source::Image { reference, .. } => {
            let image = ImageVolumeSource { reference: Some(reference.clone()), pull_policy: None };
            vec![read_only(Volume { image: Some(image), ..named("source") }, MODEL)]
        }
        Source::Builtin { .. } => Vec::new(),
    }
}

fn named(name: &str) -> Volume {
    Volume { name: name.into(), ..Volume::default() }
}

fn token_file(entry: &KeyRef) -> Mount {
    let secret = SecretVolumeSource {
        secret_name: Some(entry.name.clone()),
        items: Some(vec![item(entry, TOKEN_FILE)]),
        default_mode: Some(pod::SECRET_MODE),
        ..SecretVolumeSource::default()
    };
    read_only(Volume { secret: Some(secret), ..named("token") }, pod::parent(TOKEN_FILE))
}

fn ca_file(entry: &KeyRef) -> Mount {
    let bundle = ConfigMapVolumeSource {
        name: entry.name.clone(),
        items: Some(vec![item(entry, CA_FILE)]),
        ..ConfigMapVolumeSource::default()
    };
    read_only(Volume { config_map: Some(bundle), ..named("ca") }, pod::parent(CA_FILE))
}

/// The entry under the name that the program is told.
fn item(entry: &KeyRef, file: &'static str) -> KeyToPath {
    let path = file.rsplit('/').next().unwrap_or(file).to_owned();
    KeyToPath { key: entry.key.clone(), path, mode: None }
}
