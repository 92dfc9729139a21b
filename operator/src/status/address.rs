//! Where the gateway is for clients, and where nodes outside enter the network: the bootstrap's addresses, with the names
//! that must answer there. Pure.
//!
//! ```text
//! ClusterIP     each pod's own name in the cluster's DNS: for nodes of other namespaces, and behind a VPN
//! NodePort      the node of each pod that has one, at the Service's node port
//! LoadBalancer  where the balancer of each protocol is
//! ```
//! Until an address outside is there, those inside are told. Behind one address may be several pods: it is told once for
//! each, and a node that reached another one than it asked for tries again.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use shard_wire::contract::{BOOTSTRAP_PORT, HTTP_PORT};

use crate::cluster::Cluster;
use crate::crd::ServiceType;
use crate::desired::meta::{Part, bootstrap_peers};
use crate::keys::HeldSecrets;
use crate::observe::Observed;
use crate::peer_id;

/// What a node dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Quic,
    Tcp,
}

impl Protocol {
    /// As Kubernetes has it.
    fn name(self) -> &'static str {
        match self {
            Self::Quic => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// An address without the peer that answers there.
struct Place {
    host: String,
    protocol: Protocol,
    port: u16,
}

/// Where clients find the API: outside where a load balancer says so, else inside the cluster.
pub(super) fn endpoint(cluster: &Cluster, observed: &Observed) -> String {
    let name = Part::Gateway.name(cluster);
    let service = observed.children.services.iter().find(|service| service.name_any() == name);
    let outside = service.and_then(|service| balancers(service).into_iter().next());
    let host = match outside {
        Some(ip) if ip.contains(':') => format!("[{ip}]"),
        Some(host) => host,
        None => format!("{name}.{}.svc", cluster.namespace),
    };
    format!("http://{host}:{HTTP_PORT}")
}

/// Multiaddrs of every bootstrap pod whose key is there; none before.
pub(super) fn bootstrap(cluster: &Cluster, observed: &Observed) -> Vec<String> {
    let quic = cluster.transport.quic().then_some(Protocol::Quic);
    let tcp = cluster.transport.tcp().then_some(Protocol::Tcp);
    let protocols: Vec<Protocol> = quic.into_iter().chain(tcp).collect();
    let mut addresses = Vec::new();
    for ordinal in 0..cluster.bootstrap.entries {
        let pod = format!("{}-{ordinal}", Part::Bootstrap.name(cluster));
        let Some(peer) = peer(&observed.secrets, &pod) else { continue };
        let mut places = outside(cluster, observed, &pod, &protocols);
        if places.is_empty() {
            let host = format!("{pod}.{}.{}.svc", bootstrap_peers(cluster), cluster.namespace);
            let inside = |&protocol| Place { host: host.clone(), protocol, port: BOOTSTRAP_PORT };
            places = protocols.iter().map(inside).collect();
        }
        addresses.extend(places.iter().map(|place| place.multiaddr(&peer)));
    }
    addresses
}

/// The name of a pod in the nodes' network.
fn peer(secrets: &HeldSecrets, pod: &str) -> Option<String> {
    let seed = secrets.identities.as_ref()?.data.as_ref()?.get(pod)?;
    peer_id::of_seed(&seed.0)
}

fn outside(cluster: &Cluster, observed: &Observed, pod: &str, protocols: &[Protocol]) -> Vec<Place> {
    let name = Part::Bootstrap.name(cluster);
    let service = |name: &str| observed.children.services.iter().find(|it| it.name_any() == name);
    let mut places = Vec::new();
    for &protocol in protocols {
        match cluster.bootstrap.service.service_type {
            ServiceType::ClusterIp => {}
            ServiceType::NodePort => {
                let port = service(&name).and_then(|service| node_port(service, protocol));
                let host = host_of(&observed.pods, pod);
                places.extend(port.zip(host).map(|(port, host)| Place { host, protocol, port }));
            }
            ServiceType::LoadBalancer => {
                let of_protocol = format!("{name}-{}", protocol.name().to_ascii_lowercase());
                let hosts = service(&of_protocol).map(balancers).unwrap_or_default();
                let place = |host| Place { host, protocol, port: BOOTSTRAP_PORT };
                places.extend(hosts.into_iter().map(place));
            }
        }
    }
    places
}

fn node_port(service: &Service, protocol: Protocol) -> Option<u16> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    let port = ports.iter().find(|port| port.protocol.as_deref() == Some(protocol.name()))?.node_port?;
    u16::try_from(port).ok()
}

/// The address of the node that a pod is on.
fn host_of(pods: &[Pod], name: &str) -> Option<String> {
    pods.iter().find(|pod| pod.name_any() == name)?.status.as_ref()?.host_ip.clone()
}

fn balancers(service: &Service) -> Vec<String> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    ingress.iter().filter_map(|one| one.hostname.clone().or_else(|| one.ip.clone())).collect()
}

impl Place {
    fn multiaddr(&self, peer: &str) -> String {
        let Self { host, protocol, port } = self;
        let kind = match host.parse() {
            Ok(IpAddr::V4(_)) => "ip4",
            Ok(IpAddr::V6(_)) => "ip6",
            Err(_) => "dns",
        };
        match protocol {
            Protocol::Quic => format!("/{kind}/{host}/udp/{port}/quic-v1/p2p/{peer}"),
            Protocol::Tcp => format!("/{kind}/{host}/tcp/{port}/p2p/{peer}"),
        }
    }
}

#[cfg(test)]
mod tests;
