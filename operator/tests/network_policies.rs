//! What the policies mean: who reaches whom on which port. Nothing enforces policies where this runs, so a small
//! evaluator of their meaning asks about every pair of pods, and about strangers.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::net::IpAddr;

use common::{children, cluster, facts};
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use shard_operator::desired::{Desired, desired};

type Labels = BTreeMap<String, String>;

/// Somebody with an address: a pod, or a host, which has no labels and no namespace.
#[derive(Clone, Debug)]
struct Host {
    namespace: Option<&'static str>,
    namespace_labels: Labels,
    labels: Labels,
    ip: IpAddr,
}

fn pod(namespace: &'static str, labels: Labels, extra: &[(&str, &str)], ip: &str) -> Host {
    let mut namespace_labels: Labels = [("kubernetes.io/metadata.name".into(), namespace.into())].into();
    namespace_labels.extend(extra.iter().map(|(key, value)| ((*key).into(), (*value).into())));
    Host { namespace: Some(namespace), namespace_labels, labels, ip: ip.parse().unwrap() }
}

fn host(ip: &str) -> Host {
    Host { namespace: None, namespace_labels: Labels::new(), labels: Labels::new(), ip: ip.parse().unwrap() }
}

/// Both ends have a say: a pod that no policy of a direction selects allows all of it.
fn allowed(policies: &[NetworkPolicy], from: &Host, to: &Host, protocol: &str, port: u16) -> bool {
    let out = selecting(policies, from, "Egress").all_or_any(|policy| {
        let rules = policy.spec.as_ref().unwrap().egress.iter().flatten();
        rules.into_iter().any(|rule| peers(&rule.to, policy, to) && ports(&rule.ports, protocol, port))
    });
    let into = selecting(policies, to, "Ingress").all_or_any(|policy| {
        let rules = policy.spec.as_ref().unwrap().ingress.iter().flatten();
        rules.into_iter().any(|rule| peers(&rule.from, policy, from) && ports(&rule.ports, protocol, port))
    });
    out && into
}

struct Selecting<'a>(Vec<&'a NetworkPolicy>);

impl Selecting<'_> {
    fn all_or_any(&self, allows: impl Fn(&NetworkPolicy) -> bool) -> bool {
        self.0.is_empty() || self.0.iter().any(|policy| allows(policy))
    }
}

fn selecting<'a>(policies: &'a [NetworkPolicy], pod: &Host, direction: &str) -> Selecting<'a> {
    let selects = |policy: &&NetworkPolicy| {
        let spec = policy.spec.as_ref().unwrap();
        policy.metadata.namespace.as_deref() == pod.namespace
            && spec.policy_types.as_ref().unwrap().iter().any(|kind| kind == direction)
            && matches(spec.pod_selector.as_ref().unwrap(), &pod.labels)
    };
    Selecting(policies.iter().filter(selects).collect())
}

fn peers(peers: &Option<Vec<NetworkPolicyPeer>>, policy: &NetworkPolicy, other: &Host) -> bool {
    let Some(peers) = peers.as_ref().filter(|peers| !peers.is_empty()) else { return true };
    peers.iter().any(|peer| match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
        (Some(block), _, _) => within(block, other.ip),
        (None, None, pods) => {
            other.namespace.is_some()
                && other.namespace == policy.metadata.namespace.as_deref()
                && pods.as_ref().is_some_and(|pods| matches(pods, &other.labels))
        }
        (None, Some(namespaces), pods) => {
            other.namespace.is_some()
                && matches(namespaces, &other.namespace_labels)
                && pods.as_ref().is_none_or(|pods| matches(pods, &other.labels))
        }
    })
}

fn ports(ports: &Option<Vec<NetworkPolicyPort>>, protocol: &str, number: u16) -> bool {
    let Some(ports) = ports.as_ref().filter(|ports| !ports.is_empty()) else { return true };
    ports.iter().any(|port| {
        port.protocol.as_deref().unwrap_or("TCP") == protocol
            && port.port.as_ref().is_none_or(|it| *it == IntOrString::Int(number.into()))
    })
}

/// Our policies have labels to match and no expressions; another selector would be met by an evaluator that lies.
fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    assert_eq!(selector.match_expressions, None);
    selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
}

fn within(block: &IPBlock, ip: IpAddr) -> bool {
    assert_eq!(block.except, None);
    let (net, bits) = block.cidr.split_once('/').unwrap();
    match (net.parse().unwrap(), ip) {
        (IpAddr::V4(net), IpAddr::V4(ip)) => {
            let mask = u32::MAX.checked_shl(32 - bits.parse::<u32>().unwrap()).unwrap_or(0);
            u32::from(net) & mask == u32::from(ip) & mask
        }
        _ => false,
    }
}

/// The pods of a cluster, and everybody else whom the policies are about.
fn everybody(children: &Desired, other: &Desired) -> BTreeMap<&'static str, Host> {
    let set = |set: &k8s_openapi::api::apps::v1::StatefulSet| {
        set.spec.as_ref().unwrap().template.metadata.as_ref().unwrap().labels.clone().unwrap()
    };
    let gateway = &children.gateway.deployment.spec.as_ref().unwrap().template;
    let gateway = gateway.metadata.as_ref().unwrap().labels.clone().unwrap();
    [
        ("bootstrap", pod("llm", set(&children.bootstrap.stateful_set), &[], "10.0.0.1")),
        ("shard 0", pod("llm", set(&children.shards[0].stateful_set), &[], "10.0.0.2")),
        ("shard 1", pod("llm", set(&children.shards[1].stateful_set), &[], "10.0.0.3")),
        ("gateway", pod("llm", gateway, &[], "10.0.0.4")),
        ("other cluster", pod("llm", set(&other.shards[0].stateful_set), &[], "10.0.1.1")),
        ("neighbour", pod("llm", Labels::new(), &[], "10.0.1.2")),
        ("impostor", pod("evil", set(&children.shards[0].stateful_set), &[], "10.0.1.3")),
        ("app", pod("apps", Labels::new(), &[("team", "apps")], "10.0.1.4")),
        ("operator", pod("shardcluster-system", Labels::new(), &[], "10.0.1.5")),
        ("prometheus", pod("monitoring", Labels::new(), &[], "10.0.1.6")),
        ("dns", pod("kube-system", Labels::new(), &[], "10.0.1.7")),
        ("node outside", host("192.0.2.7")),
        ("client outside", host("203.0.113.9")),
        ("internet", host("198.51.100.1")),
    ]
    .into()
}

const MEMBERS: [&str; 4] = ["bootstrap", "shard 0", "shard 1", "gateway"];
const NODES: [&str; 3] = ["bootstrap", "shard 0", "shard 1"];
const PORTS: [(&str, u16); 10] = [
    ("TCP", 22),
    ("TCP", 53),
    ("UDP", 53),
    ("TCP", 443),
    ("TCP", 3128),
    ("TCP", 8080),
    ("TCP", 8443),
    ("TCP", 51820),
    ("UDP", 51820),
    ("TCP", 51821),
];

/// Whether the topology of DESIGN.md has this arrow. Among those whom no policy selects everything is allowed.
fn drawn(everything: bool, from: &str, to: &str, protocol: &str, port: u16) -> bool {
    let transport = port == 51820 && (protocol == "UDP" || !everything);
    let is_watcher = matches!(from, "operator" | "prometheus");
    let leaves = !MEMBERS.contains(&from)
        || port == 53
        || transport && MEMBERS.contains(&to)
        || everything && to == "node outside"
        || everything && from == "bootstrap" && protocol == "TCP" && [443, 8443, 3128].contains(&port);
    let enters = match to {
        to if NODES.contains(&to) => {
            transport && (MEMBERS.contains(&from) || everything && from == "node outside")
                || port == 51821 && is_watcher
        }
        "gateway" => {
            let is_client = !everything || matches!(from, "app" | "client outside");
            transport && MEMBERS.contains(&from) || port == 8080 && (is_watcher || is_client)
        }
        _ => true,
    };
    leaves && enters
}

fn check(fixture: &str, everything: bool) {
    let children = children(fixture);
    let mut other = cluster(fixture);
    other.name = "other".into();
    let other = desired(&other, &facts(&other));
    let everybody = everybody(&children, &other);
    let policies = children.policies.unwrap();
    let policies = [policies.bootstrap, policies.shard, policies.gateway];
    let (mut open, mut shut) = (0, 0);
    for (from_name, from) in &everybody {
        for (to_name, to) in &everybody {
            for (protocol, port) in PORTS {
                let is = allowed(&policies, from, to, protocol, port);
                let should = drawn(everything, from_name, to_name, protocol, port);
                assert_eq!(is, should, "{fixture}: {from_name} → {to_name} on {port} {protocol}");
                let touched = MEMBERS.contains(from_name) || MEMBERS.contains(to_name);
                *(if is { &mut open } else { &mut shut }) += i32::from(touched);
            }
        }
    }
    assert!(open > 50 && shut > 500, "{open} arrows are open and {shut} shut");
}

#[test]
fn a_cluster_is_open_to_its_members_and_its_gateway_to_all() {
    check("minimal", false);
}

#[test]
fn with_external_peers_and_clients_named_nobody_else_gets_in() {
    check("everything", true);
}

/// The arrows that matter, by hand, so that a mistake in the table above does not hide one in the policies.
#[test]
fn by_hand() {
    let children = children("everything");
    let everybody = everybody(&children, &children);
    let policies = children.policies.clone().unwrap();
    let policies = [policies.bootstrap, policies.shard, policies.gateway];
    let table = [
        ("gateway", "shard 1", "UDP", 51820, true),
        ("gateway", "shard 1", "TCP", 51820, false),
        ("shard 1", "gateway", "TCP", 8080, false),
        ("shard 1", "gateway", "UDP", 51820, true),
        ("node outside", "gateway", "UDP", 51820, false),
        ("bootstrap", "internet", "TCP", 8443, true),
        ("bootstrap", "internet", "TCP", 22, false),
        ("shard 0", "internet", "TCP", 443, false),
        ("shard 0", "node outside", "UDP", 40_000, true),
        ("node outside", "shard 0", "UDP", 51820, true),
        ("node outside", "gateway", "TCP", 8080, false),
        ("impostor", "shard 0", "UDP", 51820, false),
        ("neighbour", "bootstrap", "UDP", 51820, false),
        ("operator", "gateway", "TCP", 8080, true),
        ("prometheus", "shard 0", "TCP", 51821, true),
        ("app", "gateway", "TCP", 8080, true),
        ("app", "shard 0", "TCP", 51821, false),
        ("client outside", "gateway", "TCP", 8080, true),
        ("internet", "gateway", "TCP", 8080, false),
        ("shard 0", "dns", "UDP", 53, true),
    ];
    for (from, to, protocol, port, should) in table {
        let is = allowed(&policies, &everybody[from], &everybody[to], protocol, port);
        assert_eq!(is, should, "{from} → {to} on {port} {protocol}");
    }
}
