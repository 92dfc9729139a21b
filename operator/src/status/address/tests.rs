use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::*;
use crate::crd::ShardCluster;
use crate::observe::Children;
use crate::settings::Settings;
use crate::validate::validate;
use crate::watch::kept;

fn addresses(spec: &Value, services: &[Value], pods: &[Value], keys: &[(&str, &str)]) -> Vec<String> {
    let mut whole = json!({"model": {"name": "m", "source": {"builtin": {}}}, "shards": {"count": 2}});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let resource: ShardCluster = serde_json::from_value(json!({
        "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster",
        "metadata": {"name": "llama", "namespace": "llm", "uid": "1"}, "spec": whole,
    }))
    .unwrap();
    let cluster = validate(&resource, &Settings::example()).unwrap();
    let data = keys.iter().map(|(pod, seed)| ((*pod).to_owned(), ByteString(seed.as_bytes().to_vec())));
    let identities = Secret { data: Some(data.collect()), ..Secret::default() };
    let read =
        |values: &[Value]| values.iter().cloned().map(serde_json::from_value).map(Result::unwrap).collect();
    let observed = Observed {
        children: Children { services: read(services), ..Children::default() },
        secrets: HeldSecrets { identities: Some(identities), ..HeldSecrets::default() },
        pods: pods.iter().cloned().map(kept).collect(),
        ..Observed::nothing_of(resource)
    };
    bootstrap(&cluster, &observed)
}

const SEEDS: [&str; 2] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

fn keys() -> [(&'static str, &'static str); 2] {
    [("llama-bootstrap-0", SEEDS[0]), ("llama-bootstrap-1", SEEDS[1])]
}

/// Every `P0` and `P1` stands for the peer id of that pod.
fn check(spec: &Value, services: &[Value], pods: &[Value], expected: &[&str]) {
    let ids = SEEDS.map(|seed| peer_id::of_seed(seed.as_bytes()).unwrap());
    let expected: Vec<String> =
        expected.iter().map(|it| it.replace("P0", &ids[0]).replace("P1", &ids[1])).collect();
    assert_eq!(addresses(spec, services, pods, &keys()), expected, "{spec}");
}

fn service(name: &str, ports: &Value, ingress: &Value) -> Value {
    json!({
        "metadata": {"name": name}, "spec": {"ports": ports},
        "status": {"loadBalancer": {"ingress": ingress}},
    })
}

#[test]
fn inside_each_pod_has_a_name() {
    let none = json!(null);
    check(
        &json!({}),
        &[],
        &[],
        &[
            "/dns/llama-bootstrap-0.llama-bootstrap-peers.llm.svc/udp/51820/quic-v1/p2p/P0",
            "/dns/llama-bootstrap-0.llama-bootstrap-peers.llm.svc/tcp/51820/p2p/P0",
        ],
    );
    check(
        &json!({"transport": "tcp", "bootstrap": {"replicas": 2}}),
        &[service("llama-bootstrap", &none, &none)],
        &[],
        &[
            "/dns/llama-bootstrap-0.llama-bootstrap-peers.llm.svc/tcp/51820/p2p/P0",
            "/dns/llama-bootstrap-1.llama-bootstrap-peers.llm.svc/tcp/51820/p2p/P1",
        ],
    );
    // A suspended cluster comes back where it was.
    check(
        &json!({"transport": "quic", "suspend": true}),
        &[],
        &[],
        &["/dns/llama-bootstrap-0.llama-bootstrap-peers.llm.svc/udp/51820/quic-v1/p2p/P0"],
    );
}

#[test]
fn a_balancer_has_an_address_for_each_protocol() {
    let spec = || json!({"bootstrap": {"service": {"type": "LoadBalancer"}}});
    let none = json!(null);
    let inside = service("llama-bootstrap", &none, &none);
    let tcp = |ingress: Value| service("llama-bootstrap-tcp", &none, &ingress);
    let udp = |ingress: Value| service("llama-bootstrap-udp", &none, &ingress);
    check(
        &spec(),
        &[inside.clone(), tcp(none.clone()), udp(json!([]))],
        &[],
        &[
            "/dns/llama-bootstrap-0.llama-bootstrap-peers.llm.svc/udp/51820/quic-v1/p2p/P0",
            "/dns/llama-bootstrap-0.llama-bootstrap-peers.llm.svc/tcp/51820/p2p/P0",
        ],
    );
    check(
        &spec(),
        &[inside.clone(), tcp(json!([{"ip": "192.0.2.7"}])), udp(none.clone())],
        &[],
        &["/ip4/192.0.2.7/tcp/51820/p2p/P0"],
    );
    check(
        &spec(),
        &[
            inside,
            tcp(json!([{"hostname": "tcp.example.org", "ip": "192.0.2.7"}])),
            udp(json!([{"ip": "2001:db8::1"}, {"ip": "192.0.2.8"}])),
        ],
        &[],
        &[
            "/ip6/2001:db8::1/udp/51820/quic-v1/p2p/P0",
            "/ip4/192.0.2.8/udp/51820/quic-v1/p2p/P0",
            "/dns/tcp.example.org/tcp/51820/p2p/P0",
        ],
    );
}

#[test]
fn a_node_port_is_told_with_the_node_of_the_pod() {
    let spec = json!({"bootstrap": {"replicas": 2, "service": {"type": "NodePort"}}});
    let ports = json!([
        {"protocol": "TCP", "port": 51820, "nodePort": 30001},
        {"protocol": "UDP", "port": 51820, "nodePort": 30002},
    ]);
    let services = [service("llama-bootstrap", &ports, &json!(null))];
    let pod = |name: &str, ip: Value| json!({"metadata": {"name": name}, "status": {"hostIP": ip}});
    let pods = [pod("llama-bootstrap-0", json!("198.51.100.4")), pod("llama-bootstrap-1", json!(null))];
    check(
        &spec,
        &services,
        &pods,
        &[
            "/ip4/198.51.100.4/udp/30002/quic-v1/p2p/P0",
            "/ip4/198.51.100.4/tcp/30001/p2p/P0",
            "/dns/llama-bootstrap-1.llama-bootstrap-peers.llm.svc/udp/51820/quic-v1/p2p/P1",
            "/dns/llama-bootstrap-1.llama-bootstrap-peers.llm.svc/tcp/51820/p2p/P1",
        ],
    );
}

#[test]
fn a_pod_without_a_key_is_nobody_yet() {
    let spec = json!({"transport": "tcp", "bootstrap": {"replicas": 2}});
    assert_eq!(addresses(&spec, &[], &[], &[]), Vec::<String>::new());
    let one =
        addresses(&spec, &[], &[], &[("llama-bootstrap-1", SEEDS[1]), ("llama-bootstrap-0", "no seed")]);
    assert_eq!(one.len(), 1);
    assert!(one[0].starts_with("/dns/llama-bootstrap-1."), "{one:?}");
}
