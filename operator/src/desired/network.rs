//! NetworkPolicies, drawn from who talks to whom.
//!
//! ```text
//!  gateway, shards, bootstrap ─51820─▶ gateway, shards, bootstrap
//!                             ─any───▶ external peers ─51820─▶ shards, bootstrap
//!                             ─53────▶ DNS
//!  bootstrap ──▶ source of the model
//!  clients ─8080─▶ gateway
//!  operator, monitoring ─8080──▶ gateway
//!                       ─51821─▶ shards, bootstrap
//! ```

mod source;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use shard_wire::contract::{BOOTSTRAP_PORT, DIAGNOSTICS_PORT, HTTP_PORT};

use super::Policies;
use super::meta::{Part, matching, members};
use crate::cluster::{Cluster, Policy};

const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
const DNS: u16 = 53;

pub(super) fn policies(cluster: &Cluster, policy: &Policy) -> Policies {
    let to_all = || egress(cluster, policy);
    let mut to_source = to_all();
    to_source.extend(source::egress(cluster));
    Policies {
        bootstrap: of(cluster, Part::Bootstrap, node_ingress(cluster, policy), to_source),
        shard: of(cluster, Part::Shards, node_ingress(cluster, policy), to_all()),
        gateway: of(cluster, Part::Gateway, gateway_ingress(cluster, policy), to_all()),
    }
}

fn of(
    cluster: &Cluster,
    part: Part,
    ingress: Vec<NetworkPolicyIngressRule>,
    egress: Vec<NetworkPolicyEgressRule>,
) -> NetworkPolicy {
    NetworkPolicy {
        metadata: part.meta(cluster),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(matching(part.selector(cluster))),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            ingress: Some(ingress),
            egress: Some(egress),
        }),
    }
}

/// Into a bootstrap or shard.
fn node_ingress(cluster: &Cluster, policy: &Policy) -> Vec<NetworkPolicyIngressRule> {
    let members_and_peers = [vec![pods_of(cluster)], external(policy)].concat();
    vec![
        ingress(members_and_peers, p2p(cluster)),
        ingress(watchers(policy), vec![port("TCP", DIAGNOSTICS_PORT)]),
    ]
}

/// Into a gateway: members, the operator and monitoring always, and whom the user lets in.
fn gateway_ingress(cluster: &Cluster, policy: &Policy) -> Vec<NetworkPolicyIngressRule> {
    let http = || vec![port("TCP", HTTP_PORT)];
    let members = ingress(vec![pods_of(cluster)], p2p(cluster));
    // No peers at all are all peers.
    vec![members, ingress(watchers(policy), http()), ingress(policy.clients.clone(), http())]
}

/// Out of any pod.
fn egress(cluster: &Cluster, policy: &Policy) -> Vec<NetworkPolicyEgressRule> {
    let dns = NetworkPolicyEgressRule { ports: Some(vec![port("UDP", DNS), port("TCP", DNS)]), to: None };
    let within = NetworkPolicyEgressRule { ports: Some(p2p(cluster)), to: Some(vec![pods_of(cluster)]) };
    let peers = external(policy);
    // Nodes outside listen on any port.
    let outside = (!peers.is_empty()).then_some(NetworkPolicyEgressRule { ports: None, to: Some(peers) });
    [dns, within].into_iter().chain(outside).collect()
}

fn ingress(from: Vec<NetworkPolicyPeer>, ports: Vec<NetworkPolicyPort>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule { from: (!from.is_empty()).then_some(from), ports: Some(ports) }
}

fn pods_of(cluster: &Cluster) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(matching(members(cluster))), ..NetworkPolicyPeer::default() }
}

fn external(policy: &Policy) -> Vec<NetworkPolicyPeer> {
    let block = |cidr: &String| NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr: cidr.clone(), except: None }),
        ..NetworkPolicyPeer::default()
    };
    policy.external_peers.iter().map(block).collect()
}

/// The operator, and who reads metrics.
fn watchers(policy: &Policy) -> Vec<NetworkPolicyPeer> {
    let namespace = |name: &String| NetworkPolicyPeer {
        namespace_selector: Some(matching([(NAMESPACE_NAME.into(), name.clone())].into())),
        ..NetworkPolicyPeer::default()
    };
    [&policy.operator_namespace].into_iter().chain(&policy.monitoring_namespaces).map(namespace).collect()
}

fn p2p(cluster: &Cluster) -> Vec<NetworkPolicyPort> {
    let tcp = cluster.transport.tcp().then(|| port("TCP", BOOTSTRAP_PORT));
    let udp = cluster.transport.quic().then(|| port("UDP", BOOTSTRAP_PORT));
    tcp.into_iter().chain(udp).collect()
}

fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.into()),
        port: Some(IntOrString::Int(number.into())),
        end_port: None,
    }
}
