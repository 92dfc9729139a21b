//! What strangers, members and clients can make a node hold: under each flood its resident memory grows by less than
//! 64 MB and falls back, and it goes on serving.

use std::future::Future;
use std::net::TcpStream as Socket;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::future::{join_all, poll_fn};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::muxing::StreamMuxerExt;
use libp2p::core::transport::{DialOpts, PortUse};
use libp2p::core::{Endpoint, Transport as _};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, StreamProtocol, quic};
use shard_node::config::Transport;
use shard_node::net::{DhtMode, NetEvent, signed};
use shard_wire::announce::{FileAnnouncement, FileInfo};
use shard_wire::keys::{self, DhtKey};
use shard_wire::torrent::{Kind, Request};
use tokio::time::{sleep, timeout};

use super::Folder;
use super::common::{CLUSTER, Peer, multiaddr, secrets};
use super::process::{Bootstrap, Node, ask, complete, get, split, until};

/// What a node may grow by, whatever is done to it.
const MOST: u64 = 64 << 20;
/// What it may keep afterwards: buffers for the next one, and what the allocator does not give back.
const KEPT: u64 = 24 << 20;
/// How long each flood lasts, unless its peers are thrown out before.
const FLOOD: Duration = Duration::from_secs(2);

/// What is flooded.
#[derive(Clone)]
struct Target {
    tcp: Multiaddr,
    quic: Multiaddr,
    address: String,
    diagnostics: String,
    http: String,
}

type Flood = fn(Target) -> Pin<Box<dyn Future<Output = ()> + Send>>;

const FLOODS: [(&str, Flood); 8] = [
    ("a thousand connections that say nothing", |to| Box::pin(sockets(to.address, ""))),
    ("a thousand halves of a request for diagnostics", |to| {
        Box::pin(sockets(format!("127.0.0.1:{}", to.diagnostics), "GET /status HTTP/1.1\r\nhost: x\r\n"))
    }),
    ("a thousand halves of a prompt", |to| {
        let half =
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n{\"messages\": [";
        Box::pin(sockets(format!("127.0.0.1:{}", to.http), half))
    }),
    ("strangers that write without end before they have proved anything", |to| Box::pin(strangers(to.quic))),
    ("streams of pieces without end, none of which is read", |to| {
        Box::pin(members(to, keys::TORRENT, requests()))
    }),
    ("commands without end", |to| {
        let command =
            [b"{\"command\": \"LIST_FILES\", \"params\": \"".to_vec(), vec![b'x'; 1 << 16]].concat();
        Box::pin(members(to, keys::JSON_MESSAGE, command))
    }),
    ("frames without end", |to| Box::pin(members(to, keys::ACTIVATION, vec![1; 1 << 16]))),
    ("files without number", |to| Box::pin(files(to))),
];

#[test]
fn under_every_flood_memory_is_bounded_and_the_node_goes_on_serving() {
    let (dir, state) = (split("floods", "1"), Folder::new("floods-state"));
    let secret = state.0.join("secret");
    std::fs::write(&secret, "a: a secret of these tests, long enough").unwrap();
    let closed = ["--cluster", CLUSTER, "--cluster-secret-file", secret.to_str().unwrap()];
    let bootstrap = Bootstrap::start("dual", &closed);
    let serve = ["--shard-id", "0", "--total-shards", "1"];
    let node = bootstrap.node("dual", &dir, &[&closed[..], &serve].concat());
    let (gateway, http) = bootstrap.gateway_with("dual", &closed);
    complete(&http);
    serves(&node, &closed, &http);

    let port = node.address().rsplit_once(':').unwrap().1.to_owned();
    let target = Target {
        tcp: multiaddr(&format!("/ip4/127.0.0.1/tcp/{port}")),
        quic: multiaddr(&format!("/ip4/127.0.0.1/udp/{port}/quic-v1")),
        address: node.address().to_owned(),
        diagnostics: node.diagnostics.clone(),
        http: http.clone(),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let processes = [("node", node.process.id()), ("gateway", gateway.id())];
    let before = processes.map(|(_, id)| resident(id));
    for (what, flood) in FLOODS {
        let begun = Instant::now();
        let task = runtime.spawn(flood(target.clone()));
        let mut most = before;
        while !task.is_finished() {
            let now = processes.map(|(_, id)| resident(id));
            most = std::array::from_fn(|at| most[at].max(now[at]));
            std::thread::sleep(Duration::from_millis(5));
        }
        runtime.block_on(task).expect("the flood itself ends well");
        for (at, (name, id)) in processes.into_iter().enumerate() {
            let (grown, limit) = (most[at] - before[at], before[at] + KEPT);
            println!("{what}: the {name} grew by {:.1} MB", grown as f64 / 1e6);
            assert!(grown < MOST, "{what}: the {name} grew by {grown} bytes");
            until(&format!("{what}: the {name} falls back"), || resident(id) < limit);
        }
        println!("{what}: over after {:?}", begun.elapsed());
        serves(&node, &closed, &http);
        println!("{what}: served after {:?}", begun.elapsed());
    }
}

/// Bytes of a process that are in memory.
fn resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it lives");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// The node answers a command, the gateway a prompt, and both are well.
fn serves(node: &Node, closed: &[&str], http: &str) {
    let response = node.call_as("GET_CAPABILITIES", "{}", closed);
    assert_eq!(response["status"], "ok", "{response}");
    assert!(get(&node.diagnostics, "/healthz", "200").contains("200"));
    let body = r#"{"messages": [{"role": "user", "content": "Tell"}], "max_tokens": 4}"#;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close";
    let answer =
        ask(http, &format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()), "finish_reason");
    assert!(answer.contains("finish_reason"), "{answer}");
}

/// Sockets that begin to say something.
async fn sockets(address: String, begin: &'static str) {
    let address = address.parse().unwrap();
    tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        let mut held = Vec::new();
        while held.len() < 1000 && begun.elapsed() < FLOOD {
            // A full backlog or an end is an answer, too.
            let Ok(mut socket) = Socket::connect_timeout(&address, Duration::from_millis(20)) else {
                continue;
            };
            let _ = std::io::Write::write_all(&mut socket, begin.as_bytes());
            held.push(socket);
        }
        std::thread::sleep(FLOOD.saturating_sub(begun.elapsed()));
    })
    .await
    .unwrap();
}

/// QUIC connections of no member, each with a stream that goes on after the first words of a proof, again and again.
async fn strangers(to: Multiaddr) {
    let one = |_| async {
        loop {
            stranger(to.clone()).await;
        }
    };
    // As many again as are refused at once.
    let _ = timeout(FLOOD, join_all((0..100).map(one))).await;
}

async fn stranger(to: Multiaddr) {
    let mut transport = quic::tokio::Transport::new(quic::Config::new(&Keypair::generate_ed25519()));
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let Ok(dial) = transport.dial(to, options) else { return };
    let Ok((_, mut connection)) = dial.await else { return };
    let opened = poll_fn(|cx| {
        let _ = connection.poll_unpin(cx);
        connection.poll_outbound_unpin(cx)
    });
    let Ok(mut stream) = opened.await else { return };
    let _ = stream.write_all(b"\0shrdcl1").await;
    while stream.write_all(&[0; 1 << 16]).await.is_ok() {}
}

/// Members over both transports that open streams of a protocol, and write the same again and again.
async fn members(to: Target, protocol: &'static str, bytes: Vec<u8>) {
    let one = |at: usize| {
        let tcp = at.is_multiple_of(2);
        let (transport, address) = if tcp { (Transport::Tcp, &to.tcp) } else { (Transport::Quic, &to.quic) };
        let bytes = &bytes;
        async move {
            let member = member(transport).await;
            let Ok(node) = member.network.dial(None, vec![address.clone()]).await else { return };
            join_all((0..100).map(|_| write(&member, node, protocol, bytes))).await;
        }
    };
    let _ = timeout(FLOOD, join_all((0..8).map(one))).await;
}

async fn member(transport: Transport) -> Peer {
    Peer::with(DhtMode::Client, transport, |config| config.secrets = secrets(&["a"])).await
}

async fn write(member: &Peer, node: PeerId, protocol: &'static str, bytes: &[u8]) {
    let mut control = member.network.streams();
    let Ok(mut stream) = control.open_stream(node, StreamProtocol::new(protocol)).await else { return };
    while stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok() {}
    // What it says to that.
    let _ = stream.read(&mut [0; 64]).await;
    sleep(FLOOD).await;
}

/// Requests for the manifest of a plan and for pieces of a file that nobody has, and for waits.
fn requests() -> Vec<u8> {
    let kinds = [Kind::Manifest, Kind::Piece, Kind::Have, Kind::Got];
    let one = |kind| Request { kind, length: 1 << 10, offset: 1, what: [7; 32] }.encode();
    kinds.map(one).concat().repeat(300)
}

/// A member that puts signed records of files into the node's store.
async fn files(to: Target) {
    let member = member(Transport::Tcp).await;
    let Ok(node) = member.network.dial(None, vec![to.tcp]).await else { return };
    let mut events = member.network.events();
    let me = member.network.local_peer().to_string();
    let put = async {
        for at in 0..5000u32 {
            let hash = format!("{at:064x}");
            let name = format!("{}-{at}.gguf", "n".repeat(200));
            let file = FileInfo { info_hash: hash.clone(), name, size: u64::MAX, plan: None };
            let value = FileAnnouncement { cluster: CLUSTER.into(), peer_id: me.clone(), file };
            let value = signed::seal(&member.keypair, member.network.secrets(), 1, &value).unwrap();
            let key = DhtKey::File(hash).text(CLUSTER);
            let _ = member.network.put_record_to(node, key, value).await;
            if let Ok(NetEvent::Disconnected { .. }) = events.try_recv() {
                return;
            }
        }
    };
    let _ = timeout(2 * FLOOD, put).await;
}
