//! The gateway on a real socket: clients that hang up, that never finish their request, and the end of the server.

use std::net::SocketAddr;
use std::time::Duration;

use shard_node::gateway::{Keys, Limits, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::harness::{Fleet, SOON};

async fn start(fleet: &Fleet) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let gateway = fleet.gateway.clone();
    let server = tokio::spawn(serve(listener, gateway, async { drop(stopped.await) }));
    (address, stop, server)
}

async fn ask(address: SocketAddr, stream: bool) -> TcpStream {
    let body = format!(r#"{{"prompt":"Once","stream":{stream}}}"#);
    let head = "POST /v1/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n";
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
    client
}

#[tokio::test]
async fn hanging_up_cancels() {
    let mut fleet = Fleet::new();
    let (address, stop, server) = start(&fleet).await;
    for stream in [true, false] {
        let mut client = ask(address, stream).await;
        let session = fleet.ring.open().await.accept(8);
        session.send(fleet.saying("fox").remove(0)).await;
        if stream {
            let mut head = [0; 12];
            client.read_exact(&mut head).await.unwrap();
            assert_eq!(&head, b"HTTP/1.1 200");
        }
        drop(client);
        session.cancelled().await;
    }
    drop(stop);
    timeout(SOON, server).await.unwrap().unwrap();
}

#[tokio::test]
async fn half_a_request_is_cut_off() {
    let limits = Limits { body_timeout: Duration::from_millis(100), ..Limits::default() };
    let fleet = Fleet::with(limits, Keys::default());
    let (address, _stop, _server) = start(&fleet).await;
    let mut said = String::new();

    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"POST /v1/comp").await.unwrap();
    timeout(SOON, client.read_to_string(&mut said)).await.unwrap().unwrap();
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");

    let head =
        "POST /v1/completions HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{";
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    timeout(SOON, client.read_to_string(&mut said)).await.unwrap().unwrap();
    assert!(said.contains("HTTP/1.1 408") && said.contains("request_timeout"), "{said}");
}

/// A client that reads nothing fills its window, and then loses its place and its answer.
#[tokio::test]
async fn silent_reader_is_cut_off() {
    let limits = Limits { write_timeout: Duration::from_millis(100), ..Limits::default() };
    let mut fleet = Fleet::with(limits, Keys::default());
    let (address, _stop, _server) = start(&fleet).await;
    let _client = ask(address, true).await;
    let session = fleet.ring.open().await.accept(8);
    let token = fleet.saying("fox").remove(0);
    let fill = async { while session.tokens.send(Ok(token.clone())).await.is_ok() {} };
    timeout(SOON, fill).await.expect("a gateway that gives up");
}

/// A shutdown lets an answer finish, within its limit.
#[tokio::test]
async fn shutdown() {
    let limits = Limits { drain: Duration::from_millis(200), ..Limits::default() };
    let mut fleet = Fleet::with(limits, Keys::default());
    let (address, stop, server) = start(&fleet).await;
    let mut finishing = ask(address, false).await;
    let session = fleet.ring.open().await.accept(8);
    let _hanging = ask(address, true).await;
    let hanging = fleet.ring.open().await.accept(8);
    drop(stop);
    for token in fleet.saying("fox") {
        session.send(token).await;
    }
    let mut said = String::new();
    timeout(SOON, finishing.read_to_string(&mut said)).await.unwrap().unwrap();
    assert!(said.contains("fox"), "{said}");
    timeout(SOON, server).await.unwrap().unwrap();
    hanging.cancelled().await;
}
