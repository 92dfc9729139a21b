//! Programs one at a time: diagnostics, commands, and how they end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::{Folder, program, run, text};

const SOON: Duration = Duration::from_secs(20);

/// A `server` that listens.
struct Server {
    process: Child,
    port: u16,
    diagnostics: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    super::process::free_port().parse().unwrap()
}

fn server(transport: &str, more: &[&str]) -> Server {
    let (port, diagnostics) = (free_port(), free_port());
    let mut process = program("server")
        .args(["--listen-addr", "127.0.0.1", "--transport", transport])
        .args(["--port", &port.to_string(), "--diagnostics-port", &diagnostics.to_string()])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("Bootstrap server started!")));
    // The pipe stays open, so that later lines have somewhere to go.
    std::thread::spawn(move || lines.for_each(drop));
    Server { process, port, diagnostics }
}

fn get(port: u16, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn exit_code(process: &mut Child) -> Option<i32> {
    let begun = Instant::now();
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status.code();
        }
        assert!(begun.elapsed() < SOON, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_server_answers_diagnostics() {
    let server = server("dual", &[]);
    assert_eq!(get(server.diagnostics, "/healthz"), (200, r#"{"status":"ok"}"#.into()));
    assert_eq!(get(server.diagnostics, "/readyz").0, 200);
    let (code, metrics) = get(server.diagnostics, "/metrics");
    assert_eq!(code, 200);
    assert!(
        metrics.contains("\nshardcluster_server_connected_peers 0\n") && metrics.ends_with("# EOF\n"),
        "{metrics}"
    );
    let status: serde_json::Value = serde_json::from_str(&get(server.diagnostics, "/status").1).unwrap();
    assert_eq!(status["cluster"], "llama-cluster");
    let addresses = status["listen_addresses"].as_array().unwrap();
    for address in
        [format!("/ip4/127.0.0.1/tcp/{}", server.port), format!("/ip4/127.0.0.1/udp/{}/quic-v1", server.port)]
    {
        assert!(addresses.contains(&address.clone().into()), "{address} in {addresses:?}");
    }
    assert_eq!(get(server.diagnostics, "/nothing").0, 404);
}

#[test]
fn a_server_ends_with_0_when_told_to_and_when_its_parent_is_gone() {
    let mut told = server("tcp", &[]);
    let killed = std::process::Command::new("kill").arg(told.process.id().to_string()).status().unwrap();
    assert!(killed.success());
    assert_eq!(exit_code(&mut told.process), Some(0));

    let mut child = server("tcp", &["--until-stdin-closes"]);
    drop(child.process.stdin.take());
    assert_eq!(exit_code(&mut child.process), Some(0));
}

#[test]
fn a_port_in_use_is_named() {
    let first = server("tcp", &[]);
    let output = run(
        "server",
        &["--listen-addr", "127.0.0.1", "--transport", "tcp", "--port", &first.port.to_string()],
    );
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("/ip4/127.0.0.1/tcp/{}", first.port)) && said.contains("--port"),
        "{said}"
    );

    let taken = first.diagnostics.to_string();
    let output = run("server", &["--listen-addr", "127.0.0.1", "--port", "0", "--diagnostics-port", &taken]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&taken) && said.contains("--diagnostics-port"), "{said}");
}

#[test]
fn a_command_reaches_a_node_over_every_transport() {
    for transport in ["tcp", "quic", "dual"] {
        let server = server(transport, &[]);
        let node = format!("127.0.0.1:{}", server.port);
        let call = |output| {
            run("shardctl", &["call", &node, "GET_METRICS", "--transport", transport, "--output", output])
        };
        let refused = call("text");
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains("this is the bootstrap"), "{}", text(&refused.stderr));
        let response: serde_json::Value = serde_json::from_slice(&call("json").stdout).unwrap();
        assert_eq!(
            (&response["status"], &response["error"]["code"]),
            (&"error".into(), &"unavailable".into())
        );
    }
}

/// Strangers as processes: without the secret, with another one, over both transports.
#[test]
fn a_closed_cluster_answers_who_knows_its_secret() {
    let folder = Folder::new("membership");
    let file = |name: &str, secret: &str| {
        let path = folder.0.join(name);
        std::fs::write(&path, secret).unwrap();
        path.display().to_string()
    };
    let right = "the right secret, which is long enough";
    let (ours, other) = (file("ours", right), file("other", "another secret, which is long enough"));
    for transport in ["tcp", "quic"] {
        let server = server(transport, &["--cluster-secret-file", &ours]);
        let node = format!("127.0.0.1:{}", server.port);
        let call = |more: &[&str], variable: &str| {
            let begun = Instant::now();
            let mut command = program("shardctl");
            command.args(["call", &node, "GET_METRICS", "--transport", transport]).args(more);
            if !variable.is_empty() {
                command.env("LLAMA_CLUSTER_SECRET", variable);
            }
            let output = command.output().unwrap();
            assert!(begun.elapsed() < SOON);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(!said.contains("long enough"), "{said}");
            said
        };
        let answered = "this is the bootstrap";
        assert!(call(&["--cluster-secret-file", &ours], "").contains(answered));
        assert!(call(&[], right).contains(answered));
        assert!(call(&["--cluster-secret-file", &ours], "the file comes first").contains(answered));
        let wrong = call(&["--cluster-secret-file", &other], "");
        assert!(wrong.contains("membership failed") && wrong.contains("another cluster secret"), "{wrong}");
        let stranger = call(&[], "");
        assert!(stranger.contains("--cluster-secret-file") && !stranger.contains(answered), "{stranger}");
    }
    let short = file("short", "too short");
    let empty = run("server", &["--port", "0", "--diagnostics-port", "0", "--cluster-secret-file", &short]);
    let said = text(&empty.stderr);
    assert_eq!(empty.status.code(), Some(1), "{said}");
    assert!(said.contains(&short) && said.contains("9 bytes") && said.contains("openssl rand"), "{said}");

    // Open: said once, loudly.
    let mut open = program("server");
    let open = open.args(["--listen-addr", "127.0.0.1", "--port", "0", "--diagnostics-port", "0"]);
    let open = open.arg("--until-stdin-closes").stdin(Stdio::null()).output().unwrap();
    let said = text(&open.stderr);
    assert_eq!(said.matches("open cluster: whoever reaches these ports can join").count(), 1, "{said}");
}

#[test]
fn a_node_that_does_not_answer_is_given_up_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = silent.local_addr().unwrap().to_string();
    let begun = Instant::now();
    let output = run("shardctl", &["call", &node, "GET_METRICS", "--transport", "tcp", "--timeout", "300ms"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("did not answer within 300ms"), "{}", text(&output.stderr));
    assert!(begun.elapsed() < SOON);
}
