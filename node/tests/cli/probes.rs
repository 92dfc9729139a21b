//! Probes go through every replica; one that hangs is named, and the pipeline stays complete over the others.

use serde_json::Value;

use super::process::{Bootstrap, Node, get, split, until};

/// The object of this path; null while nobody answers.
fn object(port: &str, path: &str) -> Value {
    // Until the connection is closed: the object is the rest.
    let answer = get(port, path, "\0");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    serde_json::from_str(body).unwrap_or_default()
}

fn pipeline(http: &str) -> Value {
    object(http, "/api/v1/pipeline")
}

fn replicas(pipeline: &Value) -> usize {
    let shards = pipeline["shards"].as_array().into_iter().flatten();
    shards.filter_map(|shard| shard["replicas"].as_array()).map(Vec::len).sum()
}

fn was_probed(node: &Node) -> bool {
    let metrics = get(&node.diagnostics, "/metrics", "# EOF");
    let mut counts =
        metrics.lines().filter_map(|line| line.strip_prefix("shardcluster_node_sessions_admitted "));
    counts.next().is_some_and(|count| count != "0")
}

#[test]
fn a_replica_that_hangs_is_found_by_its_probe_and_named() {
    let shards = split("probes", "2");
    // Over TCP nothing tells that a process is stopped.
    let bootstrap = Bootstrap::start("tcp", &[]);
    let nodes = ["0", "0", "1", "1"].map(|id| bootstrap.node("tcp", &shards, &["--shard-id", id]));
    let (_gateway, http) = bootstrap.gateway("tcp");
    until("the pipeline is complete with four replicas", || {
        let now = pipeline(&http);
        now["pipeline_complete"] == true && now["probe"]["ok"] == true && replicas(&now) == 4
    });
    until("a probe went through every replica", || nodes.iter().all(was_probed));

    let hanging = object(&nodes[3].diagnostics, "/status")["peer_id"].as_str().unwrap().to_owned();
    nodes[3].process.signal("-STOP");
    // A change: all that is left is proved anew.
    nodes[1].process.signal("-KILL");
    let named = format!("no token came through shard 1 on {hanging}: ");
    until("the one that hangs is named, and only it", || {
        let now = pipeline(&http);
        let reason = now["reason"].as_str().unwrap_or_default();
        reason.starts_with(&named)
            && !reason.contains("; ")
            && now["pipeline_complete"] == true
            && now["probe"]["ok"] == false
    });
    nodes[3].process.signal("-CONT");
    until("it is proved again", || {
        let now = pipeline(&http);
        now["reason"] == "" && now["probe"]["ok"] == true && now["pipeline_complete"] == true
    });
}
