//! From nothing to a complete pipeline, told as it happens.

use std::time::Duration;

use serde_json::Value;
use shard_wire::pipeline::{self, PipelineStatus, ShardStatus, WAIT_SECONDS, changed_since};
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use super::say;
use crate::cli::Failure;
use crate::cli::http::{Gateway, HttpError};
use crate::cli::status::layers;

/// Between two looks at a program that is starting.
const LOOK: Duration = Duration::from_millis(25);
/// A program listens within this time, also on a machine that is busy.
const START: Duration = Duration::from_secs(60);
/// A gateway that holds a request longer than it was asked to has stopped answering.
const ANSWER: Duration = Duration::from_secs(WAIT_SECONDS + 20);
/// Loading the largest shard that fits a machine takes less; nothing new for longer is a fault.
const STALLED: Duration = Duration::from_secs(600);

/// Why the pipeline does not get complete.
#[derive(Debug, Error)]
enum ProgressError {
    #[error("{program} did not answer within {START:?}: {last}")]
    NotStarted { program: &'static str, last: HttpError },
    #[error("the gateway did not answer within {ANSWER:?}")]
    Silent,
    #[error("the pipeline is not complete, and nothing has changed for {STALLED:?}: {0}")]
    Stalled(String),
}

/// Waits until the bootstrap answers.
pub(in crate::cli) async fn until_ready(diagnostics: u16) -> Result<(), Failure> {
    started::<Value>("server", &Gateway::local(diagnostics), "/readyz").await?;
    Ok(())
}

/// Waits until the gateway calls the pipeline complete, and tells what happens meanwhile.
pub(super) async fn until_complete(gateway: &Gateway, began: Instant) -> Result<PipelineStatus, Failure> {
    let mut known = PipelineStatus::default();
    let mut now: PipelineStatus = started("web_server", gateway, pipeline::PATH).await?;
    let mut changed = Instant::now();
    loop {
        let news = news(&known, &now);
        for line in &news {
            say(&format!("{:7.2} s  {line}", began.elapsed().as_secs_f64()));
        }
        if now.pipeline_complete {
            return Ok(now);
        }
        if !news.is_empty() {
            changed = Instant::now();
        } else if changed.elapsed() > STALLED {
            return Err(ProgressError::Stalled(now.reason).into());
        }
        known = now;
        let path = changed_since(&known.revision);
        now = timeout(ANSWER, gateway.get(&path)).await.map_err(|_| ProgressError::Silent)??;
    }
}

/// The first answer of a program that is starting.
pub(in crate::cli) async fn started<T: serde::de::DeserializeOwned>(
    program: &'static str,
    at: &Gateway,
    path: &str,
) -> Result<T, Failure> {
    let deadline = Instant::now() + START;
    loop {
        match at.get(path).await {
            Ok(answer) => return Ok(answer),
            // Not listening yet, or not ready.
            Err(last @ (HttpError::Connect { .. } | HttpError::Refused { .. })) => {
                if Instant::now() > deadline {
                    return Err(ProgressError::NotStarted { program, last }.into());
                }
                sleep(LOOK).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a user would want to know of a change.
fn news(before: &PipelineStatus, after: &PipelineStatus) -> Vec<String> {
    let mut lines = Vec::new();
    for shard in &after.shards {
        let old = before.shards.iter().find(|old| old.shard_id == shard.shard_id);
        let (was, is) = (old.map(stage).unwrap_or_default(), stage(shard));
        let happened = match is < was {
            true => ["is gone", "is loading again", "is offline"][is].to_owned(),
            false => ["joined", "loaded", "online"][was..is].join(", "),
        };
        if is != was {
            lines.push(format!("shard {} (layers {}) {happened}", shard.shard_id, layers(shard.layers)));
        }
    }
    if after.pipeline_complete && !before.pipeline_complete {
        let latency = after.probe.latency_ms;
        lines.push(format!("pipeline complete: a token went through every shard in {latency:.1} ms"));
    } else if !after.pipeline_complete && after.reason != before.reason && !after.reason.is_empty() {
        lines.push(format!("waiting: {}", after.reason));
    }
    lines
}

/// How far a shard is: 0 nobody, 1 joined, 2 loaded, 3 online.
fn stage(shard: &ShardStatus) -> usize {
    let loaded = shard.replicas.iter().any(|replica| replica.loaded);
    match (shard.online, loaded, shard.replicas.is_empty()) {
        (true, _, _) => 3,
        (false, true, _) => 2,
        (false, false, false) => 1,
        (false, false, true) => 0,
    }
}

#[cfg(test)]
mod tests {
    use shard_wire::layers::LayerRange;
    use shard_wire::pipeline::{Probe, ReplicaStatus};

    use super::*;

    fn shard(shard_id: u32, replica: Option<bool>, online: bool) -> ShardStatus {
        let replicas = replica.map(|loaded| ReplicaStatus { loaded, ..ReplicaStatus::default() });
        let layers = LayerRange { start: shard_id * 2, end: shard_id * 2 + 2 };
        ShardStatus { shard_id, layers, online, replicas: replicas.into_iter().collect() }
    }

    fn status(reason: &str, shards: Vec<ShardStatus>) -> PipelineStatus {
        PipelineStatus { reason: reason.into(), shards, ..PipelineStatus::default() }
    }

    #[test]
    fn each_step_is_told_once() {
        let nobody = status("no shard has announced itself", Vec::new());
        let joined = status("shard 1 is missing", vec![shard(0, Some(false), false), shard(1, None, false)]);
        let online =
            status("shard 1 is missing", vec![shard(0, Some(true), true), shard(1, Some(true), false)]);
        let complete = PipelineStatus {
            pipeline_complete: true,
            probe: Probe { ok: true, latency_ms: 1.25, at: 1 },
            ..status("", vec![shard(0, Some(true), true), shard(1, Some(true), true)])
        };
        let lost = status("shard 0 is missing", vec![shard(0, None, false), shard(1, Some(true), true)]);
        let table: [(&PipelineStatus, &PipelineStatus, &[&str]); 6] = [
            (&PipelineStatus::default(), &nobody, &["waiting: no shard has announced itself"]),
            (&nobody, &joined, &["shard 0 (layers 0-2) joined", "waiting: shard 1 is missing"]),
            (&joined, &joined, &[]),
            (
                &joined,
                &online,
                &["shard 0 (layers 0-2) loaded, online", "shard 1 (layers 2-4) joined, loaded"],
            ),
            (
                &online,
                &complete,
                &[
                    "shard 1 (layers 2-4) online",
                    "pipeline complete: a token went through every shard in 1.2 ms",
                ],
            ),
            (&complete, &lost, &["shard 0 (layers 0-2) is gone", "waiting: shard 0 is missing"]),
        ];
        for (before, after, lines) in table {
            assert_eq!(news(before, after), lines);
        }
    }
}
