//! Peers in one process over real sockets: connections, commands, limits.

mod common;

use std::time::{Duration, Instant};

use common::{Peer, deadline, multiaddr};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::StreamProtocol;
use serde_json::json;
use shard_node::config::Transport;
use shard_node::net::{DhtMode, Inbound, NetError, NetEvent};
use shard_wire::keys;
use shard_wire::message::{ErrorCode, MAX_REQUEST_BYTES, Request, Response};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Answers every request with its own parameters.
fn echo(mut requests: mpsc::Receiver<Inbound>) {
    tokio::spawn(async move {
        while let Some(inbound) = requests.recv().await {
            inbound.responder.send(Response::ok(inbound.request.request_id, inbound.request.params)).await;
        }
    });
}

fn request(id: &str) -> Request {
    Request { command: "ECHO".into(), request_id: id.into(), params: json!({"id": id}) }
}

#[tokio::test]
async fn peers_talk_over_every_transport() {
    for transport in [Transport::Tcp, Transport::Quic, Transport::Dual] {
        let mut server = Peer::start(DhtMode::Server, transport).await;
        let client = Peer::start(DhtMode::Client, transport).await;
        echo(server.requests.take().unwrap());

        let connected = deadline(client.network.dial(None, server.addresses().await)).await.unwrap();
        assert_eq!(connected, server.network.local_peer());
        let used = client.network.snapshot().await.unwrap().peers[0].address.to_string();
        assert_eq!(used.contains("quic-v1"), transport != Transport::Tcp, "{transport:?} used {used}");

        let answer = deadline(client.network.request(connected, request("a"))).await.unwrap();
        assert_eq!(answer, Response::ok("a", json!({"id": "a"})));
    }
}

/// Whoever dials, a peer that is known by name and has both is reached over QUIC.
#[tokio::test]
async fn quic_comes_first_when_all_addresses_are_dialled_at_once() {
    let server = Peer::start(DhtMode::Server, Transport::Dual).await;
    let client = Peer::start(DhtMode::Client, Transport::Dual).await;
    deadline(client.network.dial(Some(server.network.local_peer()), server.addresses().await)).await.unwrap();
    let used = client.network.snapshot().await.unwrap().peers[0].address.to_string();
    assert!(used.contains("quic-v1"), "{used}");
}

#[tokio::test]
async fn a_stranger_behind_an_address_is_not_the_peer() {
    let server = Peer::start(DhtMode::Server, Transport::Tcp).await;
    let client = Peer::start(DhtMode::Client, Transport::Tcp).await;
    let nobody = Peer::start(DhtMode::Client, Transport::Tcp).await.network.local_peer();
    let error = deadline(client.network.dial(Some(nobody), server.addresses().await)).await.unwrap_err();
    assert!(matches!(error, NetError::Dial(_)), "{error}");
    let error = deadline(client.network.dial(Some(nobody), vec![])).await.unwrap_err();
    assert!(matches!(error, NetError::Dial(_)), "{error}");
    let error = deadline(client.network.dial(None, vec![])).await.unwrap_err();
    assert!(matches!(error, NetError::NoAddress), "{error}");
}

#[tokio::test]
async fn names_and_ipv6_are_addresses_too() {
    let server = Peer::start(DhtMode::Server, Transport::Dual).await;
    deadline(server.network.listen(multiaddr("/ip6/::1/tcp/0"))).await.unwrap();
    let addresses = server.addresses().await;
    let tcp = addresses
        .iter()
        .map(ToString::to_string)
        .find(|text| text.starts_with("/ip4/127.0.0.1/tcp"))
        .unwrap();
    let v6 = addresses.iter().map(ToString::to_string).find(|text| text.starts_with("/ip6/::1/tcp")).unwrap();
    for address in [
        tcp.replace("/ip4/127.0.0.1", "/dns4/localhost"),
        tcp.replace("/ip4/127.0.0.1", "/dns/localhost"),
        v6,
    ] {
        let client = Peer::start(DhtMode::Client, Transport::Dual).await;
        let peer = deadline(client.network.dial(None, vec![multiaddr(&address)])).await;
        assert_eq!(peer.unwrap(), server.network.local_peer(), "{address}");
    }
}

/// Nothing answers QUIC at the address, as where UDP is blocked: the same dial gets there over TCP.
#[tokio::test]
async fn tcp_takes_over_where_quic_does_not_pass() {
    let server = Peer::start(DhtMode::Server, Transport::Tcp).await;
    let tcp = server.addresses().await.remove(0);
    let port = tcp.to_string().rsplit('/').next().unwrap().to_owned();
    // Bound, so that nobody else takes it, and deaf.
    let silent = std::net::UdpSocket::bind(format!("127.0.0.1:{port}")).unwrap();
    let quic = multiaddr(&format!("/ip4/127.0.0.1/udp/{port}/quic-v1"));

    for peer in [None, Some(server.network.local_peer())] {
        let began = Instant::now();
        let client = Peer::start(DhtMode::Client, Transport::Dual).await;
        let connected = deadline(client.network.dial(peer, vec![tcp.clone(), quic.clone()])).await.unwrap();
        assert_eq!(connected, server.network.local_peer());
        let used = client.network.snapshot().await.unwrap().peers[0].address.to_string();
        assert!(used.starts_with(&tcp.to_string()), "{used}");
        // Long before the handshake over QUIC is given up.
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    drop(silent);
}

#[tokio::test]
async fn bad_requests_are_answered_and_the_connection_lives() {
    for transport in [Transport::Tcp, Transport::Quic] {
        let mut server = Peer::start(DhtMode::Server, transport).await;
        let client = Peer::start(DhtMode::Client, transport).await;
        echo(server.requests.take().unwrap());
        let peer = deadline(client.network.dial(None, server.addresses().await)).await.unwrap();
        let mut events = client.network.events();

        let oversized = vec![b' '; MAX_REQUEST_BYTES + 1];
        for (bytes, code) in
            [(&b"{"[..], ErrorCode::BadJson), (b"", ErrorCode::BadJson), (&oversized, ErrorCode::TooLarge)]
        {
            let protocol = StreamProtocol::new(keys::JSON_MESSAGE);
            let mut stream = deadline(client.network.streams().open_stream(peer, protocol)).await.unwrap();
            deadline(stream.write_all(bytes)).await.unwrap();
            deadline(stream.close()).await.unwrap();
            let mut answer = Vec::new();
            deadline(stream.read_to_end(&mut answer)).await.unwrap();
            let answer: Response = serde_json::from_slice(&answer).unwrap();
            assert_eq!(answer.error.unwrap().code, code);
        }
        // We do not send what is too large.
        let large = Request { params: json!("x".repeat(MAX_REQUEST_BYTES)), ..request("large") };
        assert!(matches!(deadline(client.network.request(peer, large)).await, Err(NetError::Request { .. })));

        let answer = deadline(client.network.request(peer, request("after"))).await.unwrap();
        assert_eq!(answer, Response::ok("after", json!({"id": "after"})));
        while let Ok(event) = events.try_recv() {
            assert!(!matches!(event, NetEvent::Disconnected { .. }), "{event:?}");
        }
    }
}

/// The program does not read its queue: what fits waits, the rest hears "busy", and the loop goes on.
#[tokio::test]
async fn a_full_queue_is_busy_and_not_a_hang() {
    let mut server = Peer::start(DhtMode::Server, Transport::Tcp).await;
    let mut clients = Vec::new();
    let mut waiting = JoinSet::new();
    // Each connection may have 32 requests under way; the queue takes 64.
    for client in 0..4 {
        clients.push(Peer::start(DhtMode::Client, Transport::Tcp).await);
        let network = &clients[client].network;
        let peer = deadline(network.dial(None, server.addresses().await)).await.unwrap();
        for number in 0..20 {
            let network = network.clone();
            waiting.spawn(async move { network.request(peer, request(&format!("{client}.{number}"))).await });
        }
    }
    let refused = deadline(waiting.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(refused.error.unwrap().code, ErrorCode::Busy);
    deadline(server.network.snapshot()).await.unwrap();
    echo(server.requests.take().unwrap());
    while let Some(answer) = deadline(waiting.join_next()).await {
        let answer = answer.unwrap().unwrap();
        assert!(answer.error.is_none_or(|error| error.code == ErrorCode::Busy));
    }
}

#[tokio::test]
async fn idle_connections_end_and_kept_ones_do_not() {
    let server = Peer::start(DhtMode::Server, Transport::Tcp).await;
    let peer = server.network.local_peer();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let client = Peer::with(DhtMode::Client, Transport::Tcp, |config| {
            config.idle_timeout = Duration::from_millis(100);
        })
        .await;
        client.network.keep(peer, true).await;
        deadline(client.network.dial(None, server.addresses().await)).await.unwrap();
        clients.push(client);
    }
    // From now on only one of two alike keeps its connection, and three times the timeout passes.
    for round in 0..3 {
        let mut events = clients[1].network.events();
        clients[1].network.keep(peer, false).await;
        let idle = Some("nobody needed it any more".to_owned());
        let gone = NetEvent::Disconnected { peer, cause: idle };
        while deadline(events.recv()).await.unwrap() != gone {}
        assert_eq!(clients[0].network.snapshot().await.unwrap().peers.len(), 1, "round {round}");
        clients[1].network.keep(peer, true).await;
        deadline(clients[1].network.dial(None, server.addresses().await)).await.unwrap();
    }
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    let first = Peer::start(DhtMode::Server, Transport::Tcp).await;
    let second = Peer::start(DhtMode::Server, Transport::Dual).await;
    let address = first.addresses().await.remove(0);
    let error = deadline(second.network.listen(address.clone())).await.unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    let NetError::Listen { source, .. } = &error else { panic!("{error}") };
    assert!(source.to_string().contains("in use"), "{source}");
    let error = deadline(second.network.listen(multiaddr("/memory/1"))).await.unwrap_err();
    assert!(matches!(error, NetError::Listen { .. }), "{error}");
}

#[tokio::test]
async fn shutdown_fails_what_is_under_way() {
    let server = Peer::start(DhtMode::Server, Transport::Tcp).await;
    let client = Peer::start(DhtMode::Client, Transport::Tcp).await;
    let peer = deadline(client.network.dial(None, server.addresses().await)).await.unwrap();
    let mut server_events = server.network.events();
    let mut events = client.network.events();
    let waiting = tokio::spawn({
        let network = client.network.clone();
        async move { network.request(peer, request("unanswered")).await }
    });
    // The server has it: so it is under way.
    let mut requests = server.requests;
    let held = deadline(requests.as_mut().unwrap().recv()).await.unwrap();
    deadline(client.network.shutdown()).await;
    assert!(matches!(deadline(waiting).await.unwrap(), Err(NetError::Closed)));
    assert!(matches!(client.network.snapshot().await, Err(NetError::Closed)));
    assert!(matches!(client.network.dial(None, vec![]).await, Err(NetError::Closed)));
    while deadline(events.recv()).await.is_ok() {}
    // The other side sees it at once, and answering a peer that has gone is no error.
    let (peer, cause) = (client.network.local_peer(), Some("the peer closed it".to_owned()));
    let gone = NetEvent::Disconnected { peer, cause };
    while deadline(server_events.recv()).await.unwrap() != gone {}
    held.responder.send(Response::ok("", json!(null))).await;
    deadline(server.network.snapshot()).await.unwrap();
}

#[tokio::test]
async fn a_dial_that_failed_says_why_for_every_address() {
    let client = Peer::start(DhtMode::Client, Transport::Dual).await;
    // The listener is dropped again: nobody is there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let addresses = [format!("/ip4/127.0.0.1/tcp/{closed}"), format!("/ip4/127.0.0.1/udp/{closed}/quic-v1")];
    let dial = client.network.dial(None, addresses.iter().map(|address| multiaddr(address)).collect());
    let text = deadline(dial).await.unwrap_err().to_string();
    assert!(addresses.iter().all(|address| text.contains(address)), "{text}");
    assert!(
        text.contains("Connection refused") && text.contains("timed out") && text.lines().count() == 1,
        "{text}"
    );
}
