//! What the two documents say of one node, on real processes: the lines of its start in their order, what it calls
//! itself, and what it answers.

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::swarm::SwarmEvent;
use libp2p::{StreamProtocol, SwarmBuilder, identify, noise, tcp, yamux};
use serde_json::{Value, json};
use shard_node::config::Transport;
use shard_node::net::DhtMode;
use shard_wire::keys;

use super::Folder;
use super::common::{Peer, deadline, multiaddr};
use super::process::{Bootstrap, Node, split};

/// The lines of a node that has its shard, in the order of the connection log.
const WITH_SHARD: [&str; 13] = [
    "Peer ID: ",
    "[TORRENT] Found 2 GGUF file(s)",
    "[TORRENT] ✓ Seeding primary shard: shard-0.gguf",
    "[TORRENT] Found additional GGUF file to seed: tokenizer.gguf",
    "[TORRENT]   Primary shards (0-1): 1/2 seeded",
    "[TENSOR_LOAD]   ✓ Tensor file loaded successfully for shard 0",
    "[SHARD] ✓✓✓ SHARD 0 LOADED BEFORE JOINING NETWORK ✓✓✓",
    "[TRANSPORT] Using transport: DualStack",
    "[LISTEN] Listening on: ",
    "🔗 Connecting to bootstrap node...",
    "[CONNECT] ✓ Connection established!",
    "[DHT] ✓ Started Kademlia bootstrap",
    "[DHT] Routing updated: ",
];
/// Those of one that has to fetch it.
const WITHOUT: [&str; 6] = [
    "Peer ID: ",
    "[SHARD] ⚠  ASSIGNED SHARD 0 NOT FOUND LOCALLY ⚠",
    "[LISTEN] Listening on: ",
    "[CONNECT] ✓ Connection established!",
    "[DHT] ✓ Started Kademlia bootstrap",
    "[DHT] Routing updated: ",
];
const REGISTERED: &str = "[TORRENT] ✓ Registered torrent file in DHT: shard-0.gguf";

/// Waits for the last lines, which come beside one another, and looks at the order of the others.
fn starts(node: &Node, lines: &[&str], last: [&str; 2]) {
    let [_, said] = last.map(|line| node.process.says(line));
    let mut rest = said.as_str();
    for line in lines {
        let Some(at) = rest.find(line) else { panic!("no {line:?} after what came before it, in:\n{said}") };
        rest = &rest[at + line.len()..];
    }
    for line in last {
        assert!(rest.contains(line), "{line:?} came too early, in:\n{said}");
    }
}

const SHARD: [&str; 4] = ["--shard-id", "0", "--total-shards", "2"];

#[test]
fn a_node_with_its_shard_starts_in_the_order_of_the_documents() {
    let dir = split("documents", "2");
    std::fs::remove_file(dir.0.join("shard-1.gguf")).unwrap();
    let bootstrap = Bootstrap::start("dual", &[]);
    let node = bootstrap.node("dual", &dir, &SHARD);
    starts(&node, &WITH_SHARD, ["[DHT] ✓ Announced shard 0 to DHT", REGISTERED]);

    let told = node.call("GET_CAPABILITIES", "{}");
    let shard = &told["data"]["shards"][0];
    assert_eq!(shard["shard_id"], 0, "{told}");
    assert_eq!((&shard["total_shards"], &shard["total_layers"]), (&json!(2), &json!(8)), "{told}");
    assert_eq!(shard["layers"], json!({"start": 0, "end": 4}), "{told}");
    assert_eq!(shard["capabilities"]["shard_loaded"], true, "{told}");
    assert_eq!(shard["capabilities"]["gpu_available"], false, "{told}");
    assert!(shard["capabilities"]["memory_mb"].as_u64() > Some(100), "{told}");

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", node.address().rsplit_once(':').unwrap().1);
    runtime.block_on(async {
        assert_eq!(called(&address).await, "shard-listener/llama-cluster/0");
        // Whatever is asked there, nothing included.
        for asked in ["", r#"{"command": "LIST_FILES", "request_id": "r1"}"#] {
            let metrics = metrics(&address, asked).await;
            assert_eq!(metrics["status"], "ok", "{metrics}");
            assert_eq!(metrics["request_id"], if asked.is_empty() { "" } else { "r1" });
            assert!(metrics["data"]["requests"]["active"].is_u64(), "{metrics}");
        }
    });
}

#[test]
fn a_node_without_it_makes_its_folder_and_fetches_it() {
    let (source, state) = (split("documents-source", "2"), Folder::new("documents-empty"));
    let bootstrap = Bootstrap::start("dual", &["--shards-dir", source.0.to_str().unwrap()]);
    let dir = Folder(state.0.join("not/there/yet"));
    let node = bootstrap.node("dual", &dir, &SHARD);
    starts(&node, &WITHOUT, ["[SHARD] ✓✓✓ SHARD 0 LOADED ✓✓✓", REGISTERED]);
    assert!(dir.0.join("shard-0.gguf").is_file());
}

#[test]
fn a_file_that_is_here_without_a_manifest_is_not_called_missing() {
    let (source, dir) = (split("documents-manifest", "2"), split("documents-file", "2"));
    std::fs::remove_file(dir.0.join("manifest.json")).unwrap();
    let bootstrap = Bootstrap::start("dual", &["--shards-dir", source.0.to_str().unwrap()]);
    let node = bootstrap.node("dual", &dir, &SHARD);
    let said = node.process.says("[SHARD] ✓✓✓ SHARD 0 LOADED");
    assert!(!said.contains("NOT FOUND LOCALLY") && !said.contains("Downloaded shard-0.gguf"), "{said}");
}

/// What a peer calls itself by identify.
async fn called(address: &str) -> String {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key| identify::Behaviour::new(identify::Config::new("test".into(), key.public())))
        .unwrap()
        .build();
    swarm.dial(multiaddr(address)).unwrap();
    deadline(async {
        loop {
            if let SwarmEvent::Behaviour(identify::Event::Received { info, .. }) =
                swarm.select_next_some().await
            {
                return info.protocol_version;
            }
        }
    })
    .await
}

async fn metrics(address: &str, asked: &str) -> Value {
    let peer = Peer::start(DhtMode::Client, Transport::Tcp).await;
    let node = deadline(peer.network.dial(None, vec![multiaddr(address)])).await.unwrap();
    deadline(async {
        let protocol = StreamProtocol::new(keys::METRICS);
        let mut stream = peer.network.streams().open_stream(node, protocol).await.unwrap();
        stream.write_all(asked.as_bytes()).await.unwrap();
        stream.close().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        serde_json::from_slice(&answer).unwrap()
    })
    .await
}
