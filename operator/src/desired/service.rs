//! Services: names for single pods, and addresses for clients.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use shard_wire::contract::{BOOTSTRAP_PORT, DIAGNOSTICS_PORT, HTTP_PORT};

use super::meta::{Part, meta};
use super::pod::{DIAGNOSTICS, HTTP, P2P_TCP, P2P_UDP};
use crate::cluster::Cluster;
use crate::crd;

/// A name for each pod, ready or not: members find one another before they are of use.
pub(super) fn peers(cluster: &Cluster, part: Part, name: String) -> Service {
    let mut ports = p2p(cluster);
    ports.push(port(DIAGNOSTICS, "TCP", DIAGNOSTICS_PORT));
    Service {
        metadata: meta(cluster, name, part.labels(cluster)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(part.selector(cluster)),
            ports: Some(ports),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Addresses of the bootstrap: one Service, and with a load balancer one more for each protocol.
pub(super) struct BootstrapServices {
    pub(super) client: Service,
    pub(super) tcp: Option<Service>,
    pub(super) udp: Option<Service>,
}

pub(super) fn bootstrap(cluster: &Cluster) -> BootstrapServices {
    let part = Part::Bootstrap;
    let (wanted, name) = (&cluster.bootstrap.service, part.name(cluster));
    let balanced = wanted.service_type == crd::ServiceType::LoadBalancer;
    let inside = crd::ServiceSpec::default();
    let one = |ports: Vec<ServicePort>, name: String| {
        let metadata = meta(cluster, name, part.labels(cluster));
        (!ports.is_empty()).then(|| address(cluster, part, metadata, wanted, ports))
    };
    let (tcp, udp): (Vec<_>, Vec<_>) =
        p2p(cluster).into_iter().partition(|port| port.protocol.as_deref() == Some("TCP"));
    BootstrapServices {
        client: address(
            cluster,
            part,
            part.meta(cluster),
            if balanced { &inside } else { wanted },
            p2p(cluster),
        ),
        tcp: if balanced { one(tcp, format!("{name}-tcp")) } else { None },
        udp: if balanced { one(udp, format!("{name}-udp")) } else { None },
    }
}

/// Where the API is.
pub(super) fn gateway(cluster: &Cluster) -> Service {
    let (part, wanted) = (Part::Gateway, &cluster.gateway.service);
    address(cluster, part, part.meta(cluster), wanted, vec![port(HTTP, "TCP", HTTP_PORT)])
}

fn address(
    cluster: &Cluster,
    part: Part,
    mut metadata: ObjectMeta,
    wanted: &crd::ServiceSpec,
    ports: Vec<ServicePort>,
) -> Service {
    let annotations: &BTreeMap<String, String> = &wanted.annotations;
    metadata.annotations = (!annotations.is_empty()).then(|| annotations.clone());
    let balanced = wanted.service_type == crd::ServiceType::LoadBalancer;
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(wanted.service_type.word().into()),
            selector: Some(part.selector(cluster)),
            ports: Some(ports),
            // Else policies would see a node's address instead of the client's.
            external_traffic_policy: balanced.then(|| "Local".into()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn p2p(cluster: &Cluster) -> Vec<ServicePort> {
    let tcp = cluster.transport.tcp().then(|| port(P2P_TCP, "TCP", BOOTSTRAP_PORT));
    let udp = cluster.transport.quic().then(|| port(P2P_UDP, "UDP", BOOTSTRAP_PORT));
    tcp.into_iter().chain(udp).collect()
}

fn port(name: &str, protocol: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        protocol: Some(protocol.into()),
        port: number.into(),
        target_port: Some(IntOrString::String(name.into())),
        ..ServicePort::default()
    }
}
