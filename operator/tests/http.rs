//! The HTTP server with clients that mean well, and others.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::net::SocketAddr;
use std::time::Duration;

use shard_operator::http::serve;
use shard_operator::telemetry::Telemetry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// For what takes a moment.
const SOON: Duration = Duration::from_secs(5);
/// For what the server has 10 s for.
const LATE: Duration = Duration::from_secs(20);

struct Server {
    at: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(listener, Telemetry::default(), async { drop(stopped.await) }));
        Self { at, stop, served }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.at).await.unwrap()
    }

    /// What a client gets that sends this and reads to the end.
    async fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        read_all(&mut stream, SOON).await
    }

    async fn healthz(&self) -> String {
        self.exchange(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await
    }
}

async fn read_all(stream: &mut TcpStream, limit: Duration) -> String {
    let mut answer = Vec::new();
    // A connection that is reset has ended, too.
    let _ = timeout(limit, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn health_and_metrics_are_served_and_the_connection_ends() {
    let server = Server::start().await;
    let health = server.healthz().await;
    assert!(health.starts_with("HTTP/1.1 200 OK\r\n") && health.ends_with("\r\n\r\nalive\n"), "{health}");
    let metrics = server.exchange(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    let ready = server.exchange(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("not reached yet"), "{ready}");
    let head = server.exchange(b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let server = Server::start().await;
    let long = [b"GET /".as_slice(), &vec![b'a'; 100_000], b" HTTP/1.1\r\n\r\n"].concat();
    let mut stream = server.connect().await;
    // The server may be gone before it is through.
    let _ = stream.write_all(&long).await;
    let answer = read_all(&mut stream, SOON).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    let answer = server.exchange(b"\x16\x03\x01 hello over TLS\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let answer = server.exchange(b"DELETE /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET, HEAD"), "{answer}");
    assert!(server.healthz().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn who_is_slow_is_cut_off() {
    let server = Server::start().await;
    let mut silent = server.connect().await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let begun = Instant::now();
    let dripped = async {
        // A byte now and then keeps no connection open.
        while slow.write_all(b"a").await.is_ok() {
            assert!(begun.elapsed() < LATE, "it is still listened to");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let (said, ()) = tokio::join!(read_all(&mut silent, LATE), dripped);
    assert_eq!(said, "");
}

#[tokio::test]
async fn a_flood_of_silent_clients_keeps_nobody_out() {
    let server = Server::start().await;
    let mut flood = Vec::new();
    for _ in 0..300 {
        flood.push(server.connect().await);
    }
    for _ in 0..20 {
        assert!(server.healthz().await.starts_with("HTTP/1.1 200 "));
    }
    // Long before their time is up.
    let cut = read_all(&mut flood[0], SOON).await;
    assert_eq!(cut, "");
}

#[tokio::test]
async fn told_to_stop_it_waits_for_nobody_who_is_silent() {
    let server = Server::start().await;
    let mut silent = server.connect().await;
    assert!(server.healthz().await.starts_with("HTTP/1.1 200 "));
    server.stop.send(()).unwrap();
    timeout(SOON, server.served).await.unwrap().unwrap();
    assert_eq!(read_all(&mut silent, SOON).await, "");
    assert!(TcpStream::connect(server.at).await.is_err());
}
