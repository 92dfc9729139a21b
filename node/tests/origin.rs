//! `server` as the origin of a model: real processes, a source on loopback, and a peer that reads pieces.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod common;
mod models;
mod source;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::PeerId;
use serde_json::Value;
use shard_node::config::Transport;
use shard_node::net::{DhtMode, hex};
use shard_node::store::hash::sha256;
use shard_node::store::split::{Shards, SplitRequest, split};
use shard_node::torrent::{PROTOCOL, fetch};
use shard_wire::frame;
use shard_wire::manifest::Manifest;
use shard_wire::torrent::{ANSWER_LEN, Kind, Request, Status, decode_answer};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, mpsc};

use common::{CLUSTER, Peer, deadline, multiaddr};
use source::{Answer, File, Source, status};

/// A `server` that has said that it is up.
struct Server {
    process: Child,
    port: u16,
    diagnostics: u16,
    lines: mpsc::Receiver<String>,
    said: Vec<String>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    async fn start(arguments: &[&str]) -> Self {
        let (port, diagnostics) = (free_port(), free_port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
        for setting in shard_wire::contract::SETTINGS {
            command.env_remove(setting.env);
        }
        for proxy in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(proxy);
        }
        let mut process = command
            .args(["--listen-addr", "127.0.0.1", "--transport", "tcp", "--cluster", CLUSTER])
            .args(["--port", &port.to_string(), "--diagnostics-port", &diagnostics.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let (told, lines) = mpsc::channel(1000);
        tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                let _ = told.send(line).await;
            }
        });
        let mut server = Self { process, port, diagnostics, lines, said: Vec::new() };
        server.says("Bootstrap server started!").await;
        server
    }

    /// The first line with these words, now or later.
    async fn says(&mut self, words: &str) -> String {
        let mut next = 0;
        deadline(async {
            loop {
                if let Some(line) = self.said[next..].iter().find(|line| line.contains(words)) {
                    return line.clone();
                }
                next = self.said.len();
                self.said.push(self.lines.recv().await.expect("it has ended"));
            }
        })
        .await
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.diagnostics)).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    async fn origin(&self) -> Value {
        let status: Value = serde_json::from_str(&self.get("/status").await.1).unwrap();
        status["origin"].clone()
    }

    /// The status of the origin, when it is as wanted.
    async fn origin_when(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        deadline(async {
            loop {
                let origin = self.origin().await;
                if wanted(&origin) {
                    return origin;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }
}

fn in_state<'a>(state: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |origin| origin["state"] == state
}

/// Asks for every piece of every file, as any peer may.
async fn pieces(peer: &Peer, origin: PeerId, manifest: &Manifest) -> Vec<Vec<u8>> {
    let mut stream = peer.network.streams().open_stream(origin, PROTOCOL).await.unwrap();
    let mut files = Vec::new();
    for file in &manifest.files {
        let mut bytes = vec![0; file.size as usize];
        for piece in &file.pieces {
            let what = hex::decode(&file.sha256).unwrap().try_into().unwrap();
            let request =
                Request { kind: Kind::Piece, length: piece.size as u32, offset: piece.offset, what };
            stream.write_all(&request.encode()).await.unwrap();
            stream.flush().await.unwrap();
            let mut head = [0; ANSWER_LEN];
            stream.read_exact(&mut head).await.unwrap();
            assert_eq!(decode_answer(&head).unwrap(), (Status::Ok, piece.size as u32));
            let place = piece.offset as usize..(piece.offset + piece.size) as usize;
            stream.read_exact(&mut bytes[place]).await.unwrap();
        }
        files.push(bytes);
    }
    files
}

/// What nodes get from an origin is what a split of the model writes.
async fn check_served(server: &Server, model: &Path, shards: Shards) {
    let out = TempDir::new().unwrap();
    split(&SplitRequest { model, out: out.path(), shards, force: false }, &|_, _, _| {}).unwrap();
    let origin = server.origin().await;
    let bytes = fs::read(out.path().join("manifest.json")).unwrap();
    assert_eq!(origin["manifest_sha256"], sha256(&bytes));

    let peer = Peer::start(DhtMode::Client, Transport::Tcp).await;
    let address = multiaddr(&format!("/ip4/127.0.0.1/tcp/{}", server.port));
    let id = deadline(peer.network.dial(None, vec![address])).await.unwrap();
    let plan = origin["plan"].as_str().unwrap();
    let manifest =
        deadline(fetch::manifest(&mut peer.network.streams(), id, plan, frame::VERSION)).await.unwrap();
    assert!(manifest.to_bytes().unwrap() == bytes);
    let served = deadline(pieces(&peer, id, &manifest)).await;
    for (file, served) in manifest.files.iter().zip(served) {
        assert!(fs::read(out.path().join(&file.name)).unwrap() == served, "{} differs", file.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_up_while_it_fetches_and_a_killed_one_fetches_nothing_twice() {
    let model = fs::read(models::tiny()).unwrap();
    let pace = Arc::new(Semaphore::new(0));
    let source = Source::start({
        let (model, pace) = (model.clone(), Arc::clone(&pace));
        move |_, before| match before {
            0 => status("503 Service Unavailable"),
            before => {
                let pace = (before == 1).then(|| Arc::clone(&pace));
                Answer::File(File { pace, ..File::new(model.clone()) })
            }
        }
    })
    .await;
    let dir = TempDir::new().unwrap();
    let (url, dir) = (source.url("/m.gguf"), dir.path().to_str().unwrap().to_owned());
    let arguments = ["--model-source", &url, "--shards", "3", "--shards-dir", &dir];
    let mut server = Server::start(&arguments).await;
    assert_eq!(server.get("/readyz").await.0, 200);
    server.says(&format!("[ORIGIN] ⚠  {url}: the source answers 503")).await;

    let begun = server.origin_when(|origin| !origin["total"].is_null()).await;
    assert_eq!((&begun["state"], &begun["total"]), (&"fetching".into(), &model.len().into()));
    assert_eq!(begun["source"], url.as_str());
    let there = 64 * (64 << 10);
    pace.add_permits(64);
    let half = server.origin_when(|origin| origin["bytes"] == there).await;
    assert_eq!((&half["state"], &half["error"]), (&"fetching".into(), &Value::Null));
    let percent = half["percent"].as_f64().unwrap();
    assert!((percent - 36.1).abs() < 0.2, "{half}");
    assert!(
        server.get("/metrics").await.1.contains(&format!("shardcluster_server_origin_done_bytes {there}\n"))
    );
    // The disk is behind the network by some chunks.
    let part = Path::new(&dir).join("m.gguf.part");
    deadline(async {
        while fs::metadata(&part).unwrap().len() < there {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    server.process.kill().await.unwrap();
    drop(server);

    let mut server = Server::start(&arguments).await;
    server.says("m.gguf: 0.00 GB (4.00 MB) are there, going on behind them").await;
    server.says("MODEL READY FOR NODES").await;
    let ready = server.origin_when(in_state("ready")).await;
    assert_eq!(
        (&ready["percent"], &ready["bytes"], &ready["error"]),
        (&100.0.into(), &model.len().into(), &Value::Null)
    );
    assert_eq!(source.requests().len(), 3);
    assert_eq!(source.requests()[2].offset(), there);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "the model and its note, and no shard");
    check_served(&server, &models::tiny(), Shards::Count(3)).await;

    // The third time nothing is asked of the source, which may be gone.
    drop(server);
    drop(source);
    let server = Server::start(&arguments).await;
    server.origin_when(in_state("ready")).await;
    check_served(&server, &models::tiny(), Shards::Count(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_here_and_a_split_folder_are_origins_too() {
    let folder = TempDir::new().unwrap();
    let parts = models::write_parts(folder.path());
    let first = parts[0].to_str().unwrap();
    let server = Server::start(&["--model-source", first, "--layers", "0,1,7"]).await;
    server.origin_when(in_state("ready")).await;
    check_served(&server, &parts[0], Shards::Starts(vec![0, 1, 7])).await;

    let dir = TempDir::new().unwrap();
    let model = models::quantised("q8_0");
    let request = SplitRequest { model: &model, out: dir.path(), shards: Shards::Count(2), force: false };
    split(&request, &|_, _, _| {}).unwrap();
    let server = Server::start(&["--shards-dir", dir.path().to_str().unwrap()]).await;
    server.origin_when(in_state("ready")).await;
    check_served(&server, &model, Shards::Count(2)).await;

    let server = Server::start(&[]).await;
    assert!(server.origin().await.is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_is_named_and_the_server_goes_on() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().to_str().unwrap();
    let file = dir.path().join("late.gguf");
    let model = File::new(fs::read(models::quantised("q4_0")).unwrap());
    let source = Source::start(move |request, _| match request.target.as_str() {
        "/none.gguf" => status("404 Not Found"),
        _ => Answer::File(model.clone()),
    })
    .await;
    let (none, some) = (source.url("/none.gguf"), source.url("/m.gguf"));
    let wrong = "0".repeat(64);
    for (arguments, words, again) in [
        (&["--model-source", &none][..], "404 Not Found: there is no such file", "10 min"),
        (&["--model-source", &some, "--sha256", &wrong], "expected 0000", "10 min"),
        (&["--model-source", &some, "--shards", "9"], "9 shards of 8 layers", "10 min"),
        (&["--model-source", file.to_str().unwrap()], "late.gguf: cannot be opened: No such file", "5 s"),
    ] {
        let mut server = Server::start(&[arguments, &["--shards-dir", folder]].concat()).await;
        let failed = server.origin_when(in_state("failed")).await;
        assert!(failed["error"].as_str().unwrap().contains(words), "{failed}");
        let line = server.says("[ORIGIN] ✗ No model: ").await;
        assert!(line.contains(words) && line.ends_with(&format!("trying again in {again}")), "{line}");
        assert_eq!((server.get("/healthz").await.0, server.get("/readyz").await.0), (200, 200));
        if again == "5 s" {
            fs::copy(models::quantised("q4_0"), &file).unwrap();
            server.origin_when(in_state("ready")).await;
            check_served(&server, &file, Shards::Count(4)).await;
        }
    }
    let empty = TempDir::new().unwrap();
    let server = Server::start(&["--shards-dir", empty.path().to_str().unwrap()]).await;
    let failed = server.origin_when(in_state("failed")).await;
    assert!(failed["error"].as_str().unwrap().contains("shardctl split"), "{failed}");
}
