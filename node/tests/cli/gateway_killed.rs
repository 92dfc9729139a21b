//! A gateway that is killed in the middle of an answer: every stage's slot is free again within 5 s, over QUIC too,
//! where nobody says goodbye.

use std::time::{Duration, Instant};

use super::process::{Bootstrap, ask, complete, get, split, until};

#[test]
fn slots_are_free_within_five_seconds_of_a_gateways_death() {
    let shards = split("gateway-killed", "2");
    let bootstrap = Bootstrap::start("quic", &[]);
    let nodes = ["0", "1"].map(|id| bootstrap.node("quic", &shards, &["--shard-id", id]));
    let [first, second] = nodes.each_ref().map(|node| node.diagnostics.clone());
    let (gateway, http) = bootstrap.gateway("quic");
    complete(&http);

    let active = |port: &str, sessions: u32| {
        let line = format!("sessions_active {sessions}\n");
        get(port, "/metrics", &line).contains(&line)
    };
    // Without the tokens that end an answer it lasts until the gateway is stopped.
    let body = r#"{"prompt":"Once upon a time","max_tokens":500,"temperature":1,"stream":true,"logit_bias":{"2":-100,"4":-100}}"#;
    let head =
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length:";
    let request = format!("{head} {}\r\n\r\n{body}", body.len());
    let stopped = (0..20).find_map(|_| {
        let begun = ask(&http, &request, "data: ");
        assert!(begun.contains("200 OK"), "{begun}");
        // Stopped, it closes no session any more, however soon the answer ends; it may have ended already.
        gateway.signal("-STOP");
        let stopped = Instant::now();
        let holds = active(&first, 1) && active(&second, 1);
        if !holds {
            gateway.signal("-CONT");
        }
        holds.then_some(stopped)
    });
    let stopped = stopped.expect("each session was closed before the gateway was stopped");
    gateway.signal("-KILL");
    until("slots are free", || active(&first, 0) && active(&second, 0));
    assert!(stopped.elapsed() < Duration::from_secs(5), "{:?}", stopped.elapsed());
}
