//! Probes go through every replica; one that hangs is named, and the pipeline stays complete over the others.

use serde_json::Value;

use super::Folder;
use super::processes::{Running, free_port, get, split, until};

/// The pipeline as the gateway shows it; null while it does not answer.
fn pipeline(http: &str) -> Value {
    let answer = get(http, "/api/v1/pipeline", "\r\n\r\n");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    serde_json::from_str(body).unwrap_or_default()
}

#[test]
fn a_replica_that_hangs_is_found_by_its_probe_and_named() {
    let shards = Folder::new("probes");
    let dir = split(&shards, "2");
    let [port, diagnostics, http] = [(); 3].map(|()| free_port());
    let bootstrap = format!("127.0.0.1:{port}");
    // Over TCP nothing tells that a process is stopped.
    let network = ["--listen-addr", "127.0.0.1", "--transport", "tcp"];
    let _server = Running::start(
        "server",
        &[&network[..], &["--port", &port, "--diagnostics-port", &diagnostics]].concat(),
    );
    let shard = |id: &str, diagnostics: &str| {
        let own = ["--bootstrap", &bootstrap, "--shard-id", id, "--shards-dir", dir, "--threads", "1"];
        Running::start("shard_listener", &[&network[..], &own, &["--diagnostics-port", diagnostics]].concat())
    };
    let ports = [(); 4].map(|()| free_port());
    let [_first, second, _third, fourth] =
        [("0", 0), ("0", 1), ("1", 2), ("1", 3)].map(|(id, at)| shard(id, &ports[at]));
    let gateway = ["--bootstrap", &bootstrap, "--http-port", &http];
    let _gateway = Running::start("web_server", &[&network[..], &gateway].concat());
    let replicas = |now: &Value| -> usize {
        let shards = now["shards"].as_array().into_iter().flatten();
        shards.filter_map(|shard| shard["replicas"].as_array()).map(Vec::len).sum()
    };
    until("the pipeline is complete with four replicas", || {
        let now = pipeline(&http);
        now["pipeline_complete"] == true && now["probe"]["ok"] == true && replicas(&now) == 4
    });
    for port in &ports {
        until("a probe went through every replica", || {
            let metrics = get(port, "/metrics", "# EOF");
            let admitted =
                metrics.lines().find_map(|line| line.strip_prefix("shardcluster_node_sessions_admitted "));
            admitted.is_some_and(|count| count != "0")
        });
    }

    let status: Value = serde_json::from_str(
        get(&ports[3], "/status", "\n\n").split_once("\r\n\r\n").map(|(_, body)| body).unwrap(),
    )
    .unwrap();
    let hanging = status["peer_id"].as_str().unwrap().to_owned();
    fourth.signal("-STOP");
    // A change: all that is left is proved anew.
    second.signal("-KILL");
    let expected = format!("no token came through shard 1 on {hanging}: ");
    until("the one that hangs is named, and only it", || {
        let now = pipeline(&http);
        let reason = now["reason"].as_str().unwrap_or_default();
        reason.starts_with(&expected)
            && !reason.contains("; ")
            && now["pipeline_complete"] == true
            && now["probe"]["ok"] == false
    });
    fourth.signal("-CONT");
    until("it is proved again", || {
        let now = pipeline(&http);
        now["reason"] == "" && now["probe"]["ok"] == true && now["pipeline_complete"] == true
    });
}
