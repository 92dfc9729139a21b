//! The gateway: any number of pods of no identity, each with the whole API.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::Affinity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use shard_wire::contract::{self as c, BOOTSTRAP_PORT, HTTP_PORT, Program};

use super::GatewayChildren;
use super::args::Args;
use super::disruption::budget;
use super::meta::{Part, marked, matching};
use super::pod::{self, HTTP, Template};
use super::probe::Probes;
use super::secrets::{OPERATOR_KEY_FILE, names};
use super::service;
use crate::cluster::Cluster;

/// A folder: every entry of the Secret is a file with a key.
const API_KEYS: &str = "/etc/shardcluster/api-keys";
/// It keeps the manifest and the tokenizer in memory.
const DEFAULTS: [(&str, &str); 2] = [("cpu", "100m"), ("memory", "256Mi")];

pub(super) fn gateway(cluster: &Cluster) -> GatewayChildren {
    GatewayChildren {
        deployment: deployment(cluster),
        service: service::gateway(cluster),
        disruption: budget(cluster, Part::Gateway, cluster.gateway.replicas),
    }
}

fn deployment(cluster: &Cluster) -> Deployment {
    let (part, wanted) = (Part::Gateway, &cluster.gateway);
    let mut mounts = vec![
        pod::cluster_secret(cluster),
        pod::secret("operator-key", names::operator_key(&cluster.name), pod::parent(OPERATOR_KEY_FILE)),
    ];
    mounts.extend(wanted.api_keys.clone().map(|name| pod::secret("api-keys", name, API_KEYS)));
    let template = Template {
        part,
        program: Program::WebServer,
        image: &cluster.image,
        pod: &wanted.pod,
        args: Args::dialling(cluster)
            .with(&c::GATEWAY_PORT, BOOTSTRAP_PORT)
            .with(&c::GATEWAY_HTTP_PORT, HTTP_PORT)
            .with(&c::OPERATOR_KEY_FILE, OPERATOR_KEY_FILE)
            .switch(&c::SUSPENDED, cluster.suspended)
            .with_some(&c::API_KEYS_FILE, wanted.api_keys.as_ref().map(|_| API_KEYS)),
        resources: pod::resources(
            &wanted.resources,
            &DEFAULTS.map(|(name, value)| (name, value.into())),
            None,
        ),
        probes: Probes::at_once(HTTP),
        mounts,
        gpu: None,
        affinity: Affinity::default(),
        tolerations: Vec::new(),
        grace_seconds: 60,
    };
    let strategy = DeploymentStrategy {
        type_: Some("RollingUpdate".into()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::Int(1)),
            max_unavailable: Some(IntOrString::Int(0)),
        }),
    };
    Deployment {
        metadata: part.meta(cluster),
        spec: Some(DeploymentSpec {
            replicas: i32::try_from(wanted.replicas).ok(),
            selector: matching(part.selector(cluster)),
            strategy: Some(strategy),
            template: marked(pod::template(cluster, template), None),
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}
