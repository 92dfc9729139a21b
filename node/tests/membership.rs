//! Who is a member and who is not, over real sockets: what a stranger gets is nothing, and not for long.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, outside a test function"
)]

mod common;

use std::time::{Duration, Instant};

use common::{CLUSTER, Peer, deadline, secrets};
use futures::future::join_all;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt};
use libp2p::swarm::{SwarmEvent, dummy};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use serde_json::json;
use shard_node::config::Transport;
use shard_node::joiner::{Entry, JoinReport, Joiner, JoinerConfig};
use shard_node::net::{DhtMode, NetError, NetEvent, signed};
use shard_wire::announce::{FileAnnouncement, FileInfo};
use shard_wire::keys::{self, DhtKey};
use shard_wire::message::{Request, Response};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::{broadcast, mpsc};

const BOTH: [Transport; 2] = [Transport::Tcp, Transport::Quic];
/// What a stranger has, and what this machine may take to notice.
const GONE: Duration = Duration::from_millis(3000 + 700);

fn request() -> Request {
    Request { command: "GET_METRICS".into(), request_id: "1".into(), params: json!({}) }
}

/// Whether a peer was ever connected, of what has happened so far.
fn connected(events: &mut broadcast::Receiver<NetEvent>, wanted: PeerId) -> bool {
    let happened = std::iter::from_fn(|| events.try_recv().ok());
    happened.into_iter().any(|event| matches!(event, NetEvent::Connected { peer, .. } if peer == wanted))
}

#[tokio::test(flavor = "multi_thread")]
async fn members_meet_also_while_the_secret_changes() {
    for transport in BOTH {
        for (dialer, listener) in [
            (&["new"][..], &["new"][..]),
            (&["old"], &["old", "new"]),
            (&["new", "old"], &["old", "new"]),
            (&["new"], &["new", "old"]),
        ] {
            let mut server = Peer::member(DhtMode::Server, transport, listener).await;
            let client = Peer::member(DhtMode::Client, transport, dialer).await;
            let peer = deadline(client.network.dial(None, server.addresses().await)).await.unwrap();
            let asked = tokio::spawn({
                let network = client.network.clone();
                async move { network.request(peer, request()).await }
            });
            let inbound = deadline(server.requests.as_mut().unwrap().recv()).await.unwrap();
            assert_eq!(inbound.peer, client.network.local_peer());
            inbound.responder.send(Response::ok("1", json!({}))).await;
            deadline(asked).await.unwrap().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_secret_or_none_is_told_as_such() {
    // Who dials, who listens, what the dialer is told.
    let table: [(&[&str], &[&str], &str); 3] = [
        (&["a"], &["b"], "another cluster secret"),
        (&["a", "b"], &["c"], "another cluster secret"),
        (&["a"], &[], "cluster may be open"),
    ];
    for transport in BOTH {
        for (dialer, listener, told) in table {
            let server = match listener {
                [] => Peer::start(DhtMode::Server, transport).await,
                names => Peer::member(DhtMode::Server, transport, names).await,
            };
            let client = Peer::member(DhtMode::Client, transport, dialer).await;
            let mut events = client.network.events();
            let began = Instant::now();
            let error = deadline(client.network.dial(None, server.addresses().await)).await.unwrap_err();
            let text = error.to_string();
            let known = matches!(error, NetError::Dial(_)) && text.contains("membership failed");
            assert!(
                known && (text.contains(told) || text.contains("or none") || text.contains("is open")),
                "{text}"
            );
            assert!(began.elapsed() < GONE, "{:?}", began.elapsed());
            assert!(!connected(&mut events, server.network.local_peer()));
        }
    }
}

/// It speaks every protocol at once, and again at every new connection, until it has been refused five times.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gets_nothing() {
    for transport in BOTH {
        let mut server = Peer::member(DhtMode::Server, transport, &["a"]).await;
        let mut seen = server.network.events();
        let mut torrent = server.network.streams().accept(StreamProtocol::new(keys::TORRENT)).unwrap();
        let mut activation = server.network.streams().accept(StreamProtocol::new(keys::ACTIVATION)).unwrap();
        let entry = server.addresses().await;
        let home = server.network.local_peer();

        // Something to find: a member's announcement, in the store of the peer that the stranger asks.
        let key = DhtKey::File("0f".repeat(32));
        let value = FileAnnouncement {
            cluster: CLUSTER.into(),
            peer_id: home.to_string(),
            file: FileInfo { info_hash: "0f".repeat(32), name: "f".into(), size: 1, plan: None },
        };
        let value = signed::seal(&server.keypair, server.network.secrets(), 1, &value).unwrap();
        // Alone, it stores the record itself.
        let _ = deadline(server.network.put_record(key.text(CLUSTER), value)).await;
        let mut copies = deadline(server.network.get_records(key.text(CLUSTER))).await;
        assert!(deadline(copies.recv()).await.is_some());

        let stranger = Peer::start(DhtMode::Client, transport).await.network;
        let me = stranger.local_peer();
        stranger.keep(home, true).await;
        stranger.add_address(home, entry[0].clone()).await;
        let mut events = stranger.events();
        for _ in 0..5 {
            let began = Instant::now();
            // Its own side has seen Noise and Yamux succeed: it may believe that it is connected.
            let _ = deadline(stranger.dial(Some(home), entry.clone())).await;
            let raw = |protocol| {
                let mut control = stranger.streams();
                async move {
                    let mut stream = control.open_stream(home, StreamProtocol::new(protocol)).await.ok()?;
                    stream.write_all(&[1; 64]).await.ok()?;
                    let mut heard = [0; 1];
                    stream.read(&mut heard).await.ok().filter(|bytes| *bytes > 0)
                }
            };
            let record = async {
                let mut found = stranger.get_records(key.text(CLUSTER)).await;
                found.recv().await
            };
            let put = stranger.put_record_to(home, format!("{CLUSTER}/shard/0"), vec![1]);
            let attempts = async {
                tokio::join!(
                    stranger.request(home, request()),
                    raw(keys::TORRENT),
                    raw(keys::ACTIVATION),
                    record,
                    put
                )
            };
            let (asked, pieces, frames, found, stored) = deadline(attempts).await;
            assert!(asked.is_err() && stored.is_err(), "{asked:?} {stored:?}");
            assert_eq!((pieces, frames, found), (None, None, None));
            while !matches!(deadline(events.recv()).await.unwrap(), NetEvent::Disconnected { .. }) {}
            assert!(began.elapsed() < GONE, "gone after {:?}", began.elapsed());
        }
        assert!(!connected(&mut seen, me));
        assert!(deadline(server.network.snapshot()).await.unwrap().peers.is_empty());
        assert!(torrent.next().now_or_never().is_none() && activation.next().now_or_never().is_none());
        assert!(server.requests.as_mut().unwrap().try_recv().is_err());
    }
}

/// libp2p that dials and then says nothing at all.
fn silent() -> Swarm<dummy::Behaviour> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_behaviour(|_| dummy::Behaviour)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_silent_is_gone_in_three_seconds() {
    for transport in BOTH {
        let server = Peer::member(DhtMode::Server, transport, &["a"]).await;
        let mut seen = server.network.events();
        let mut stranger = silent();
        let began = Instant::now();
        stranger.dial(server.addresses().await.remove(0)).unwrap();
        while !matches!(deadline(stranger.select_next_some()).await, SwarmEvent::ConnectionClosed { .. }) {}
        assert!(began.elapsed() < GONE, "{transport:?}: gone after {:?}", began.elapsed());
        assert!(!connected(&mut seen, *stranger.local_peer_id()));
    }
}

fn socket(address: &Multiaddr) -> String {
    let text = address.to_string();
    let parts: Vec<&str> = text.split('/').collect();
    format!("{}:{}", parts[2], parts[4])
}

/// When a socket that says nothing is closed by the other side.
async fn closed(mut socket: TcpStream) -> Instant {
    let mut bytes = [0; 256];
    // multistream-select's first words may come; then the end, or a reset.
    while let Ok(1..) = socket.read(&mut bytes).await {}
    Instant::now()
}

/// A hundred sockets that say nothing: those beyond the bound are closed at once, the others in time, and then a member
/// comes in.
#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_are_bounded() {
    let server = Peer::member(DhtMode::Server, Transport::Tcp, &["a"]).await;
    let address = socket(&server.addresses().await[0]);
    let began = Instant::now();
    let mut sockets = Vec::new();
    for _ in 0..100 {
        sockets.push(TcpStream::connect(&address).await.unwrap());
    }
    let opened = began.elapsed();
    assert!(opened < Duration::from_secs(1), "this machine is too slow to tell: {opened:?}");
    let ends = deadline(join_all(sockets.into_iter().map(closed))).await;
    let at_once = ends.iter().filter(|end| **end < began + Duration::from_millis(2500)).count();
    assert_eq!(at_once, 100 - 64);
    assert!(ends.iter().all(|end| *end < began + opened + GONE));

    let client = Peer::member(DhtMode::Client, Transport::Tcp, &["a"]).await;
    deadline(client.network.dial(None, server.addresses().await)).await.unwrap();
}

/// A node without the secret, or with another, says why it cannot join, and goes on trying, less and less often.
#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_join_says_why() {
    for transport in BOTH {
        for names in [None, secrets(&["another"])] {
            let server = Peer::member(DhtMode::Server, transport, &["a"]).await;
            let open = names.is_none();
            let node = Peer::with(DhtMode::Server, transport, |config| config.secrets = names).await;
            let (reports, mut receive) = mpsc::channel(1024);
            let config = JoinerConfig {
                cluster: CLUSTER.into(),
                keypair: node.keypair.clone(),
                incarnation: 1,
                entries: vec![Entry { peer: None, addresses: server.addresses().await }],
                shards: None,
                member: None,
                files: None,
                refresh_interval: Duration::from_secs(300),
            };
            let _joiner =
                Joiner::spawn(node.network.clone(), config, move |report| reports.try_send(report).unwrap());
            let mut waits = Vec::new();
            while waits.len() < 3 {
                if let JoinReport::Unreachable { error, retry_in, .. } =
                    deadline(receive.recv()).await.unwrap()
                {
                    let why =
                        if open { "--cluster-secret-file would give" } else { "another cluster secret" };
                    assert!(error.contains(why), "{error}");
                    waits.push(retry_in);
                }
            }
            assert!(waits[0] < waits[1] && waits[1] < waits[2], "{waits:?}");
        }
    }
}
