//! A gateway that is killed in the middle of an answer: every stage's slot is free again within 5 s, over QUIC too,
//! where nobody says goodbye.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Folder, default_model, program, run};

const SOON: Duration = Duration::from_secs(60);

/// A process that ends with the test.
struct Running(Child);

impl Running {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = program(name);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// Sends a request and reads until `enough` is in the answer, or it ends; empty where nobody listens.
fn ask(port: &str, request: &str, enough: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(format!("127.0.0.1:{port}")) else { return String::new() };
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let (mut answer, mut buffer) = (String::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        answer += &String::from_utf8_lossy(&buffer[..read]);
        if answer.contains(enough) {
            break;
        }
    }
    answer
}

fn get(port: &str, path: &str, enough: &str) -> String {
    ask(port, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"), enough)
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn slots_are_free_within_five_seconds_of_a_gateways_death() {
    let shards = Folder::new("gateway-killed");
    let dir = shards.0.to_str().unwrap();
    let split =
        ["split", default_model().to_str().unwrap(), "--shards", "2", "--out", dir].map(str::to_owned);
    assert!(run("shardctl", &split.each_ref().map(String::as_str)).status.success());
    let [port, diagnostics, http, first, second] = [(); 5].map(|()| free_port());
    let bootstrap = format!("127.0.0.1:{port}");
    let network = ["--listen-addr", "127.0.0.1", "--transport", "quic"];
    let _server = Running::start(
        "server",
        &[&network[..], &["--port", &port, "--diagnostics-port", &diagnostics]].concat(),
    );
    let shard = |id: &str, diagnostics: &str| {
        let own = ["--bootstrap", &bootstrap, "--shard-id", id, "--shards-dir", dir, "--threads", "1"];
        Running::start("shard_listener", &[&network[..], &own, &["--diagnostics-port", diagnostics]].concat())
    };
    let _shards = [shard("0", &first), shard("1", &second)];
    let gateway = ["--bootstrap", &bootstrap, "--http-port", &http];
    let gateway = Running::start("web_server", &[&network[..], &gateway].concat());
    let complete = "\"pipeline_complete\":true";
    until("the pipeline is complete", || get(&http, "/api/v1/pipeline", complete).contains(complete));

    let active = |port: &str, sessions: u32| {
        let line = format!("sessions_active {sessions}\n");
        get(port, "/metrics", &line).contains(&line)
    };
    let body = r#"{"prompt":"Once upon a time","max_tokens":500,"temperature":1,"stream":true}"#;
    let head =
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length:";
    let begun = ask(&http, &format!("{head} {}\r\n\r\n{body}", body.len()), "data: ");
    assert!(begun.contains("200 OK"), "{begun}");
    // Stopped, it closes no session any more, however soon the answer ends.
    gateway.signal("-STOP");
    let stopped = Instant::now();
    assert!(active(&first, 1) && active(&second, 1), "the session was closed before the gateway was stopped");
    gateway.signal("-KILL");
    until("slots are free", || active(&first, 0) && active(&second, 0));
    assert!(stopped.elapsed() < Duration::from_secs(5), "{:?}", stopped.elapsed());
}
