//! What a node still does while its engine is held.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shard_engine::Device;
use shard_node::commands::{Commands, Models};
use shard_node::config::{self, ActivationDtype, EngineConfig, LogFormat};
use shard_node::fetching::Fetcher;
use shard_node::files::Files;
use shard_node::net::Transport;
use shard_node::report::Console;
use shard_node::ring::client::Prompt;
use shard_node::shards::{Obtain, Shards, ShardsConfig};
use shard_node::torrent::download::Downloads;
use shard_node::torrent::serve::Shelf;
use shard_node::torrents::Known;
use shard_wire::message::{Request, Status};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::harness::{SOON, fleet, peer, prompt};

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_held_delays_neither_pings_nor_commands() {
    let hold = Duration::from_secs(5);
    let fixture = fleet(Transport::Tcp, &[0], 1, hold).await;
    let (network, mut requests) =
        (fixture.nodes[0].clone(), fixture.requests.lock().expect("ours").remove(0));
    let (_announce, announced) = watch::channel(Vec::new());
    let (_plan, plan) = watch::channel(None);
    let engine = EngineConfig {
        threads: Some(1),
        device: Device::Cpu,
        weights: config::Weights::Auto,
        kv: config::KvDtype::F16,
        activations: ActivationDtype::F32,
        max_sessions: 1,
        context: None,
    };
    let (console, known) = (Console::new(LogFormat::Text), Known::new(network.local_peer()));
    let (shelf, folder) = (Shelf::default(), tempfile::TempDir::new().expect("a folder"));
    let fetcher = Fetcher {
        network: network.clone(),
        downloads: Downloads::new(network.clone(), shelf.clone(), folder.path()),
        known: known.clone(),
        view: watch::channel(Arc::default()).1,
        files: Files::new(shelf, known.clone()),
        console,
    };
    let shards = Shards::spawn(
        ShardsConfig {
            wanted: Vec::new(),
            engine,
            obtain: Obtain { model_name: None, fetcher, console },
            stages: fixture.stages[0].clone(),
            console,
            joined: Arc::default(),
        },
        plan.clone(),
    );
    let commands = Commands {
        peer_id: network.local_peer().to_string(),
        announced,
        shards,
        stages: fixture.stages[0].clone(),
        client: fixture.client.clone(),
        models: Arc::new(Models::new(plan, None)),
        known,
        started: Instant::now(),
        console,
    };
    let (forward, inbound) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            let _ = forward.send(request).await;
        }
    });
    tokio::spawn(commands.serve(inbound));

    let prompt = Prompt { eos: Vec::new(), ..prompt(vec![1, 547], 1) };
    let begun = Instant::now();
    let mut answer = fixture.client.generate(prompt).await.expect("opens");
    // A connection is pinged as soon as it is made.
    let (visitor, _) = peer(Transport::Tcp, "visitor").await;
    let node =
        visitor.dial(Some(network.local_peer()), network.listen_addresses().await).await.expect("dials");
    let mut took = Vec::new();
    let mut rtt = None;
    while begun.elapsed() < hold - Duration::from_secs(1) {
        let asked = Instant::now();
        let request = Request {
            command: "GET_CAPABILITIES".into(),
            request_id: "1".into(),
            params: serde_json::Value::Null,
        };
        let response = visitor.request(node, request).await.expect("answers");
        assert_eq!(response.status, Status::Ok);
        took.push(asked.elapsed());
        rtt = rtt.or(visitor.rtt(node).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    took.sort();
    let (median, ping) = (took[took.len() / 2], rtt.expect("pinged"));
    assert!(median < Duration::from_millis(50), "commands take {took:?}");
    assert!(ping < Duration::from_millis(50), "a ping takes {ping:?}");
    assert!(timeout(SOON, answer.tokens.recv()).await.expect("in time").expect("a token").is_ok());
    assert!(begun.elapsed() >= hold, "the engine was not held");
}
