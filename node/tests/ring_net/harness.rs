//! Nodes with real weights and a gateway before them, in one process.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use shard_engine::{KvDtype, LoadOptions, Rows, Session, SessionError, ShardModel};
use shard_node::net::{self, DhtMode, NetConfig, Network, Transport};
use shard_node::ring::client::{Client, Prompt, Token};
use shard_node::ring::gateway::route::{Fleet, Replica};
use shard_node::ring::gateway::{self, sessions};
use shard_node::ring::lanes::{INBOX, Inboxes, Lanes};
use shard_node::ring::stage::driver::Stages;
use shard_node::ring::stage::table::{Limits, Served};
use shard_node::ring::stage::worker::Model;
use shard_wire::frame::Dtype;
use shard_wire::layers::LayerRange;
use shard_wire::session::Sampling;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

const LAYERS: u32 = 8;
pub(crate) const SOON: Duration = Duration::from_secs(30);

fn model_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models_cache/tiny-tales-f16.gguf")
}

pub(crate) fn golden() -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/tests/data/golden/f16.json");
    serde_json::from_slice(&std::fs::read(path).expect("golden file")).expect("JSON")
}

pub(crate) fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().expect("ids").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

/// A shard whose every forward takes longer.
struct Slow(ShardModel, Duration);

impl Model for Slow {
    fn session(&self, positions: usize) -> Result<Session, SessionError> {
        self.0.session(positions)
    }

    fn forward(
        &mut self,
        batch: &mut [Rows<'_>],
    ) -> Result<Vec<shard_engine::Output>, shard_engine::ForwardError> {
        std::thread::sleep(self.1);
        self.0.forward(batch)
    }
}

pub(crate) type Requests = mpsc::Receiver<shard_node::net::Inbound>;

pub(crate) async fn peer(transport: Transport, name: &str) -> (Network, Multiaddr) {
    let (network, address, _) = peer_with_requests(transport, name).await;
    (network, address)
}

async fn peer_with_requests(transport: Transport, name: &str) -> (Network, Multiaddr, Requests) {
    let keypair = Keypair::generate_ed25519();
    let config = NetConfig { transport, ..NetConfig::new(keypair, "ring-net", name, DhtMode::Client) };
    let (network, requests) = net::spawn(config).expect("a network");
    let address = match transport {
        Transport::Quic => "/ip4/127.0.0.1/udp/0/quic-v1",
        _ => "/ip4/127.0.0.1/tcp/0",
    };
    network.listen(address.parse().expect("an address")).await.expect("listens");
    let address = network.listen_addresses().await.remove(0);
    (network, address, requests)
}

pub(crate) struct Fixture {
    pub(crate) stages: Vec<Stages>,
    pub(crate) nodes: Vec<Network>,
    /// What peers ask each node.
    pub(crate) requests: Mutex<Vec<Requests>>,
    pub(crate) gateway: Network,
    pub(crate) client: Client,
}

pub(crate) async fn fleet(
    transport: Transport,
    starts: &[u32],
    max_sessions: usize,
    delay: Duration,
) -> Fixture {
    let mut fixture = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut all_requests = Vec::new();
    for (shard, &start) in starts.iter().enumerate() {
        let end = starts.get(shard + 1).copied().unwrap_or(LAYERS);
        let (network, address, requests) = peer_with_requests(transport, "shard").await;
        all_requests.push(requests);
        let (inbox, frames) = mpsc::channel(INBOX);
        let inboxes = Inboxes { stage: Some(inbox), gateway: None };
        let lanes = Lanes::spawn(network.local_peer(), network.streams(), inboxes).expect("lanes");
        let limits = Limits { max_sessions, chunk: 16 };
        let me = network.local_peer();
        let stages =
            Stages::spawn(me, limits, Dtype::F32, lanes, frames, network.events()).expect("a thread");
        let options = LoadOptions { threads: 1, kv_dtype: KvDtype::F32, ..LoadOptions::default() };
        let layers = start as usize..end as usize;
        let model = ShardModel::load_range(&model_file(), layers, &options, &mut |_, _| {}).expect("loads");
        let served =
            Served { plan: "p".into(), width: 256, context: 512, first: start == 0, last: end == LAYERS };
        let model: Box<dyn Model> =
            if delay.is_zero() { Box::new(model) } else { Box::new(Slow(model, delay)) };
        stages.serve(shard as u32, served, model).await;
        fixture.0.push(stages);
        fixture.1.push(network);
        fixture.2.push(address);
        fixture.3.push(LayerRange { start, end });
    }
    let (stages, nodes, addresses, ranges) = fixture;
    for (at, node) in nodes.iter().enumerate() {
        for (peer, address) in nodes.iter().zip(&addresses).skip(at + 1) {
            node.dial(Some(peer.local_peer()), vec![address.clone()]).await.expect("dials a neighbour");
        }
    }
    let (gateway, _) = peer(transport, "gateway").await;
    let mut replicas = Vec::new();
    for (shard, (node, address)) in nodes.iter().zip(&addresses).enumerate() {
        gateway.dial(Some(node.local_peer()), vec![address.clone()]).await.expect("dials a shard");
        let (peer, shard, layers, plan) = (node.local_peer(), shard as u32, ranges[shard], "p".to_owned());
        replicas.push(Replica { peer, shard, layers, plan, total_layers: LAYERS, rtt: Duration::ZERO });
    }
    let fleet = Fleet { replicas, plan: Some("p".into()), total_layers: LAYERS, reason: String::new() };
    let client = gateway_of(&gateway, fleet);
    Fixture { stages, nodes, requests: Mutex::new(all_requests), gateway, client }
}

fn gateway_of(network: &Network, fleet: Fleet) -> Client {
    let (inbox, frames) = mpsc::channel(INBOX);
    let inboxes = Inboxes { stage: None, gateway: Some(inbox) };
    let me: PeerId = network.local_peer();
    let lanes = Lanes::spawn(me, network.streams(), inboxes).expect("lanes");
    let (publish, fleet) = watch::channel(fleet);
    std::mem::forget(publish); // the fleet of a test does not change
    let limits = sessions::Limits::default();
    gateway::driver::spawn(me, limits, lanes, frames, network.events(), fleet).0
}

pub(crate) fn prompt(ids: Vec<u32>, max_tokens: u32) -> Prompt {
    Prompt { plan: None, ids, sampling: Sampling::default(), eos: vec![2, 4], max_tokens, deadline: SOON }
}

/// One that is long under way.
pub(crate) fn long_prompt() -> Prompt {
    let deadline = Duration::from_secs(600);
    Prompt { eos: Vec::new(), deadline, ..prompt(vec![1, 547, 689], 400) }
}

pub(crate) async fn answer(client: &Client, ids: Vec<u32>, max_tokens: u32) -> Vec<Token> {
    let mut answer = client.generate(prompt(ids, max_tokens)).await.expect("opens");
    let mut tokens = Vec::new();
    while let Some(token) = timeout(SOON, answer.tokens.recv()).await.expect("a token in time") {
        tokens.push(token.expect("no error"));
    }
    tokens
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
