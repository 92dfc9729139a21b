//! A gateway that is killed in the middle of an answer: every stage's slot is free again within 5 s, over QUIC too,
//! where nobody says goodbye.

use std::time::{Duration, Instant};

use super::Folder;
use super::processes::{Running, ask, free_port, get, split, until};

#[test]
fn slots_are_free_within_five_seconds_of_a_gateways_death() {
    let shards = Folder::new("gateway-killed");
    let dir = split(&shards, "2");
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
