//! `shardctl status`: the pipeline as a gateway sees it.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};

use serde_json::Value;
use shard_wire::layers::LayerRange;
use shard_wire::pipeline::{self, Download, PipelineStatus, ReplicaStatus, changed_since};

use super::http::Gateway;
use super::table::Table;
use super::{Ending, Failure, Shutdown};
use crate::config::Output;
use crate::config::args::StatusArgs;

/// Clears the screen and goes to its first line.
const CLEAR: &str = "\x1b[2J\x1b[H";

pub(super) async fn run(args: StatusArgs, mut shutdown: Shutdown) -> Result<Ending, Failure> {
    let gateway = Gateway::open(&args.gateway)?;
    let mut path = pipeline::PATH.to_owned();
    loop {
        // The object as it came, so that --output json loses no field that this version does not know.
        let object: Value = tokio::select! {
            object = gateway.get(&path) => object?,
            () = shutdown.begun() => return Ok(Ending::Done),
        };
        let status: PipelineStatus = serde_json::from_value(object.clone())?;
        let text = match args.output {
            Output::Json => format!("{object}\n"),
            Output::Text if args.watch && io::stdout().is_terminal() => format!("{CLEAR}{}", table(&status)),
            Output::Text => table(&status),
        };
        io::stdout().write_all(text.as_bytes())?;
        if !args.watch {
            return Ok(Ending::Done);
        }
        path = changed_since(&status.revision);
    }
}

/// For people: one row for each replica, then what the whole is worth.
fn table(status: &PipelineStatus) -> String {
    let mut table = Table::new(&["shard", "layers", "node", "state", "progress", "latency", "requests"]);
    for shard in &status.shards {
        let name = [shard.shard_id.to_string(), layers(shard.layers)];
        if shard.replicas.is_empty() {
            table.row(name.iter().cloned().chain(["-", "missing"].map(str::to_owned)));
        }
        for replica in &shard.replicas {
            table.row(name.iter().cloned().chain([
                replica.peer_id.clone(),
                state(replica).to_owned(),
                progress(replica),
                latency(replica),
                replica.active_requests.to_string(),
            ]));
        }
    }
    let unknown = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
    let short: String = status.model_sha256.chars().take(16).collect();
    let missing: Vec<String> = status.missing_layers.iter().copied().map(layers).collect();
    let mut text = format!(
        "cluster   {}\nmodel     {} ({} layers{}{short})\nplan      {}\nshards    {} of {}\n",
        status.cluster,
        unknown(&status.model),
        status.total_layers,
        if short.is_empty() { "" } else { ", sha256 " },
        unknown(&status.plan),
        status.discovered_shards,
        status.expected_shards,
    );
    // Writing to a string cannot fail.
    let _ = match (status.pipeline_complete, missing.is_empty()) {
        (true, _) => {
            let but =
                if status.reason.is_empty() { String::new() } else { format!(", but {}", status.reason) };
            writeln!(text, "pipeline  complete; a probe token took {:.1} ms{but}", status.probe.latency_ms)
        }
        (false, true) => writeln!(text, "pipeline  not complete: {}", status.reason),
        (false, false) => {
            writeln!(
                text,
                "pipeline  not complete: {}; layers {} are missing",
                status.reason,
                missing.join(", ")
            )
        }
    };
    if let Some(next) = &status.next_plan {
        let _ = writeln!(text, "next plan {}, not yet served: {}", next.plan, next.reason);
    }
    let _ = writeln!(text, "swarm     {}\n", if status.swarm_ready { "ready" } else { "not ready" });
    text + &table.to_string()
}

fn state(replica: &ReplicaStatus) -> &'static str {
    match (replica.loaded, replica.online) {
        (true, true) => "online",
        (_, false) => "offline",
        (false, true) if replica.download.peers > 0 || replica.download.percent > 0.0 => "downloading",
        (false, true) => "loading",
    }
}

/// Of its file, while it has not all of it.
fn progress(replica: &ReplicaStatus) -> String {
    let Download { percent, bytes_per_s, peers } = replica.download;
    if replica.loaded || state(replica) != "downloading" {
        return "-".into();
    }
    format!("{percent:.0} %, {:.1} MB/s from {peers}", bytes_per_s as f64 / 1e6)
}

/// The last ping's round trip, once there was one.
fn latency(replica: &ReplicaStatus) -> String {
    if replica.latency_ms > 0.0 { format!("{:.1} ms", replica.latency_ms) } else { "-".into() }
}

/// A half-open range as the console prints it.
pub(super) fn layers(range: LayerRange) -> String {
    format!("{}-{}", range.start, range.end)
}

#[cfg(test)]
mod tests {
    use shard_wire::pipeline::{NextPlan, ShardStatus};

    use super::*;

    #[test]
    fn the_table_says_who_serves_what_and_what_is_missing() {
        let range = |start, end| LayerRange { start, end };
        let replica = ReplicaStatus {
            peer_id: "12D3KooWLc2gCgHfwhTLciZDnD6TfJ6e8UtwrVyRpvKtPQwtL8wa".into(),
            online: true,
            loaded: true,
            latency_ms: 0.31,
            active_requests: 2,
            ..ReplicaStatus::default()
        };
        let gone = ReplicaStatus { peer_id: "12D3KooWGone".into(), loaded: true, ..ReplicaStatus::default() };
        let fetching = ReplicaStatus {
            peer_id: "12D3KooWNew".into(),
            online: true,
            download: Download { percent: 40.2, bytes_per_s: 8_100_000, peers: 3 },
            ..ReplicaStatus::default()
        };
        let status = PipelineStatus {
            cluster: "llama-cluster".into(),
            model: "tiny-tales".into(),
            model_sha256: "8d7fd68ae1c3c803a1796541eaabfade".into(),
            plan: "1f2e3d4c".into(),
            total_layers: 8,
            expected_shards: 2,
            discovered_shards: 1,
            missing_layers: vec![range(4, 8)],
            reason: "shard 1 has not announced itself".into(),
            shards: vec![
                ShardStatus { shard_id: 0, layers: range(0, 4), online: true, replicas: vec![replica, gone] },
                ShardStatus {
                    shard_id: 1,
                    layers: range(4, 8),
                    replicas: vec![fetching],
                    ..ShardStatus::default()
                },
                ShardStatus { shard_id: 2, layers: range(8, 8), ..ShardStatus::default() },
            ],
            ..PipelineStatus::default()
        };
        assert_eq!(
            table(&status),
            "\
cluster   llama-cluster
model     tiny-tales (8 layers, sha256 8d7fd68ae1c3c803)
plan      1f2e3d4c
shards    1 of 2
pipeline  not complete: shard 1 has not announced itself; layers 4-8 are missing
swarm     not ready

SHARD  LAYERS  NODE                                                  STATE        PROGRESS               LATENCY  REQUESTS
0      0-4     12D3KooWLc2gCgHfwhTLciZDnD6TfJ6e8UtwrVyRpvKtPQwtL8wa  online       -                      0.3 ms   2
0      0-4     12D3KooWGone                                          offline      -                      -        0
1      4-8     12D3KooWNew                                           downloading  40 %, 8.1 MB/s from 3  -        0
2      8-8     -                                                     missing
"
        );
    }

    #[test]
    fn a_complete_pipeline_may_have_a_replica_that_no_token_comes_through() {
        let mut status = PipelineStatus { pipeline_complete: true, ..PipelineStatus::default() };
        assert!(table(&status).contains("pipeline  complete; a probe token took 0.0 ms\n"));
        status.reason = "no token came through shard 1 on x: why".into();
        let line =
            "pipeline  complete; a probe token took 0.0 ms, but no token came through shard 1 on x: why\n";
        assert!(table(&status).contains(line));
    }

    #[test]
    fn the_plan_that_comes_next_is_told() {
        let mut status = PipelineStatus { pipeline_complete: true, ..PipelineStatus::default() };
        assert!(!table(&status).contains("next"));
        let reason = "shard 2 is loading".into();
        status.next_plan = Some(NextPlan { plan: "5a6b".into(), reason, ..NextPlan::default() });
        assert!(table(&status).contains("\nnext plan 5a6b, not yet served: shard 2 is loading\n"));
    }
}
