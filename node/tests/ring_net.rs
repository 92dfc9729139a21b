//! The ring over real connections and real weights, all nodes in one process: the tokens are llama.cpp's, over TCP
//! and QUIC, for every shard count, alone and four at once; slots are free when a client or its gateway is gone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use shard_engine::{Device, KvDtype, LoadOptions, Rows, Session, SessionError, ShardModel};
use shard_node::commands::{Commands, Models};
use shard_node::config::{self, ActivationDtype, EngineConfig, LogFormat};
use shard_node::fetching::Fetcher;
use shard_node::files::Files;
use shard_node::net::{self, DhtMode, NetConfig, Network, Transport};
use shard_node::report::Console;
use shard_node::ring::client::{Client, Prompt, Token};
use shard_node::ring::gateway::route::{Fleet, Replica};
use shard_node::ring::gateway::{self, sessions};
use shard_node::ring::lanes::{INBOX, Inboxes, Lanes, PROTOCOL};
use shard_node::ring::stage::driver::Stages;
use shard_node::ring::stage::table::{Limits, Served};
use shard_node::ring::stage::worker::Model;
use shard_node::shards::{Obtain, Shards, ShardsConfig};
use shard_node::torrent::download::Downloads;
use shard_node::torrent::serve::Shelf;
use shard_node::torrents::Known;
use shard_wire::frame::{Dtype, Frame, Header, Kind};
use shard_wire::layers::LayerRange;
use shard_wire::message::{Request, Status};
use shard_wire::session::Sampling;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

const LAYERS: u32 = 8;
const SOON: Duration = Duration::from_secs(30);

fn model_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models_cache/tiny-tales-f16.gguf")
}

fn golden() -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/tests/data/golden/f16.json");
    serde_json::from_slice(&std::fs::read(path).expect("golden file")).expect("JSON")
}

fn ids(value: &serde_json::Value) -> Vec<u32> {
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

type Requests = mpsc::Receiver<shard_node::net::Inbound>;

async fn peer(transport: Transport, name: &str) -> (Network, Multiaddr) {
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

struct Fixture {
    stages: Vec<Stages>,
    nodes: Vec<Network>,
    /// What peers ask each node.
    requests: Mutex<Vec<Requests>>,
    gateway: Network,
    client: Client,
}

async fn fleet(transport: Transport, starts: &[u32], max_sessions: usize, delay: Duration) -> Fixture {
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

async fn answer(client: &Client, ids: Vec<u32>, max_tokens: u32) -> Vec<Token> {
    let prompt = Prompt {
        plan: None,
        ids,
        sampling: Sampling::default(),
        eos: vec![2, 4],
        max_tokens,
        deadline: SOON,
    };
    let mut answer = client.generate(prompt).await.expect("opens");
    let mut tokens = Vec::new();
    while let Some(token) = timeout(SOON, answer.tokens.recv()).await.expect("a token in time") {
        tokens.push(token.expect("no error"));
    }
    tokens
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn matches_llama_cpp(transport: Transport, starts: &[u32]) {
    let fixture = fleet(transport, starts, 4, Duration::ZERO).await;
    for case in golden()["cases"].as_array().expect("cases").iter().take(4) {
        let tokens = answer(&fixture.client, ids(&case["prompt_ids"]), 64).await;
        let produced: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        assert_eq!(produced, ids(&case["ids"]), "{} over {starts:?}", case["prompt"]);
        assert!(tokens.iter().all(|token| token.trace.len() == starts.len()));
        assert!(tokens.iter().all(|token| token.trace.iter().all(|stage| stage.compute_us > 0)));
    }
    for stages in &fixture.stages {
        until("slots are free", || stages.status().active == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_shard_is_its_own_ring() {
    matches_llama_cpp(Transport::Tcp, &[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_shards_over_tcp() {
    matches_llama_cpp(Transport::Tcp, &[0, 2, 4, 6]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_uneven_shards_over_quic() {
    matches_llama_cpp(Transport::Quic, &[0, 3, 4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_interleave() {
    let fixture = fleet(Transport::Tcp, &[0, 2, 4, 6], 4, Duration::from_millis(20)).await;
    let prompt = vec![1, 547, 689];
    let begun = Instant::now();
    let alone = answer(&fixture.client, prompt.clone(), 64).await;
    let one = begun.elapsed();
    let begun = Instant::now();
    let four = futures::future::join_all((0..4).map(|_| answer(&fixture.client, prompt.clone(), 64))).await;
    let together = begun.elapsed();
    let plain = |tokens: &[Token]| tokens.iter().map(|token| token.id).collect::<Vec<_>>();
    assert!(four.iter().all(|tokens| plain(tokens) == plain(&alone)));
    assert!(together <= one.mul_f64(1.5), "four take {together:?}, one takes {one:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_frees_every_stage() {
    let fixture = fleet(Transport::Tcp, &[0, 4], 1, Duration::from_millis(20)).await;
    let prompt = Prompt {
        plan: None,
        ids: vec![1, 547, 689],
        sampling: Sampling::default(),
        eos: Vec::new(),
        max_tokens: 400,
        deadline: Duration::from_secs(600),
    };
    let mut answer = fixture.client.generate(prompt).await.expect("opens");
    answer.tokens.recv().await.expect("a token").expect("no error");
    assert!(fixture.stages.iter().all(|stages| stages.status().active == 1));
    drop(answer);
    let begun = Instant::now();
    for stages in &fixture.stages {
        until("the slot is free", || stages.status().active == 0).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_gone_frees_every_stage_after_its_lease() {
    let fixture = fleet(Transport::Tcp, &[0, 4], 1, Duration::from_millis(20)).await;
    let prompt = Prompt {
        plan: None,
        ids: vec![1, 547, 689],
        sampling: Sampling::default(),
        eos: Vec::new(),
        max_tokens: 400,
        deadline: Duration::from_secs(600),
    };
    let mut answer = fixture.client.generate(prompt).await.expect("opens");
    answer.tokens.recv().await.expect("a token").expect("no error");
    // Nothing is said to the stages: the connection is just gone.
    fixture.gateway.shutdown().await;
    let begun = Instant::now();
    for stages in &fixture.stages {
        until("the slot is free", || stages.status().active == 0).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_dies_is_an_error_that_names_it() {
    let fixture = fleet(Transport::Tcp, &[0, 4], 1, Duration::from_millis(20)).await;
    fixture.nodes[1].shutdown().await;
    let prompt = Prompt {
        plan: None,
        ids: vec![1, 547, 689],
        sampling: Sampling::default(),
        eos: Vec::new(),
        max_tokens: 4,
        deadline: SOON,
    };
    let error =
        timeout(SOON, fixture.client.generate(prompt)).await.expect("an answer").expect_err("no route");
    let text = error.to_string();
    assert!(matches!(error, shard_node::ring::client::OpenError::Incomplete { .. }), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_bytes_and_stale_frames_harm_nobody() {
    let fixture = fleet(Transport::Tcp, &[0, 4], 2, Duration::ZERO).await;
    let prompt = ids(&golden()["cases"][1]["prompt_ids"]);
    let expected = ids(&golden()["cases"][1]["ids"]);
    let target = fixture.nodes[0].local_peer();
    let (stranger, _) = peer(Transport::Tcp, "stranger").await;
    stranger.dial(Some(target), fixture.nodes[0].listen_addresses().await).await.expect("dials");

    let header = Header { dtype: Dtype::F32, count: 1, width: 256, ..Header::control(Kind::Step, 1, 1, 0) };
    let step = Frame { values: vec![0; 1024], ..Frame::control(header) }.encode();
    let mut oversized = step.clone();
    oversized[36..40].copy_from_slice(&u32::MAX.to_le_bytes());
    let nonsense: [(&str, Vec<u8>); 4] = [
        ("no lane", vec![9; 200]),
        ("not a frame", [vec![1], vec![0xFF; 200]].concat()),
        ("a frame of 4 TB", [vec![1], oversized].concat()),
        ("another version", [vec![1, 2], vec![0; 200]].concat()),
    ];
    for (what, bytes) in nonsense {
        let mut stream = stranger.streams().open_stream(target, PROTOCOL).await.expect("a stream");
        // The node may cut the stream off while it is written.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        let mut rest = [0; 1];
        let read =
            timeout(SOON, stream.read(&mut rest)).await.unwrap_or_else(|_| panic!("{what}: not cut off"));
        assert!(matches!(read, Ok(0) | Err(_)), "{what}");
    }

    // Well-formed, and not the stranger's to send: a step, a token, and an end for the session that is running.
    let mut answer = fixture
        .client
        .generate(Prompt {
            plan: None,
            ids: prompt.clone(),
            sampling: Sampling::default(),
            eos: vec![2, 4],
            max_tokens: 64,
            deadline: SOON,
        })
        .await
        .expect("opens");
    let mut stream = stranger.streams().open_stream(target, PROTOCOL).await.expect("a stream");
    let close = Frame::control(Header::control(Kind::Close, 1, 9, 0)).encode();
    let token = Header { dtype: Dtype::U32, count: 1, width: 1, ..Header::control(Kind::Token, 2, 1, 0) };
    let token = Frame { values: vec![1, 0, 0, 0], ..Frame::control(token) }.encode();
    stream.write_all(&[vec![1], step, close, token].concat()).await.expect("writes");
    stream.flush().await.expect("writes");
    until("foreign frames are counted", || fixture.stages[0].status().drops.unknown >= 2).await;

    let mut produced = Vec::new();
    while let Some(token) = timeout(SOON, answer.tokens.recv()).await.expect("in time") {
        produced.push(token.expect("no error").id);
    }
    assert_eq!(produced, expected);
}

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
        console: shard_node::report::Console::new(shard_node::config::LogFormat::Text),
    };
    let (forward, inbound) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            let _ = forward.send(request).await;
        }
    });
    tokio::spawn(commands.serve(inbound));

    let prompt = Prompt {
        plan: None,
        ids: vec![1, 547],
        sampling: Sampling::default(),
        eos: Vec::new(),
        max_tokens: 1,
        deadline: SOON,
    };
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
