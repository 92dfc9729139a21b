use std::path::Path;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use shard_wire::layers::LayerRange;

use super::status::{Cluster, Local, LocalShard, Presence, Status, status};
use super::*;
use crate::config::Transport;

const NODE: &str = "12D3KooWLc2gCgHfwhTLciZDnD6TfJ6e8UtwrVyRpvKtPQwtL8wa";
const SERVER: &str = "12D3KooWKk3zSVNqbNdPFsNXQkWVSAKrhJFXwGubV7WZ13fh6wBt";

fn address(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

/// A node's life up to its first status report, with the values of the connection log that the lines come from.
fn lines() -> String {
    let (node, server): (PeerId, PeerId) = (NODE.parse().unwrap(), SERVER.parse().unwrap());
    let quic = address("/ip4/203.0.113.9/udp/51820/quic-v1");
    let (shard, layers, bytes) = (0, LayerRange { start: 0, end: 4 }, 13_936_120_299);
    let file = Path::new("models_cache/shards/shard-0.gguf");
    let report = Status {
        local: Local {
            peer_id: NODE.into(),
            shards: vec![LocalShard { shard_id: 0, loaded: true, file: file.into(), bytes }],
            active_requests: 0,
            max_requests: 4,
            total_requests: 0,
        },
        cluster: Cluster {
            name: "llama-cluster".into(),
            expected_shards: 3,
            online: vec![Presence::Local, Presence::Online, Presence::Offline],
        },
    };
    [
        peer_id(&node),
        tensor_load_begun(shard, bytes),
        tensor_load_done(shard),
        shard_loaded(shard, file, bytes),
        transport(Transport::Dual, &quic),
        transport(Transport::Tcp, &address("/ip4/203.0.113.9/tcp/51820")),
        listening(&address("/ip4/0.0.0.0/udp/0/quic-v1")),
        listening(&address("/ip4/0.0.0.0/tcp/0")),
        listening(&address("/ip4/192.168.1.27/udp/61490/quic-v1")),
        listening(&address("/ip4/192.168.1.27/tcp/61023")),
        connecting(),
        connect_failed("connection refused", Duration::from_millis(500)),
        connected(&server, &quic),
        dht_started(&server, Duration::from_secs(15)),
        routing_updated(&server, true),
        routing_updated(&node, false),
        dht_bootstrapped(0),
        announced("llama-cluster", shard, &node, layers, true),
        announce_failed(shard, "no peer took it"),
        listener_started(),
        status(&report),
        peer_connected(&node, &quic, false),
        peer_disconnected(&node),
        server_started(),
    ]
    .join("\n")
        + "\n"
}

#[test]
fn the_lines_are_those_that_scripts_look_for() {
    let expected = include_str!("lines.txt");
    for (ours, theirs) in lines().lines().zip(expected.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(lines().lines().count(), expected.lines().count());
}
