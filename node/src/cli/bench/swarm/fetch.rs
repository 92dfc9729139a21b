//! One measurement of the swarm: an origin and its nodes as processes, from the nodes' start until each has what it wants.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use shard_wire::contract as c;
use thiserror::Error;
use tokio::process::Command;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::counts::{Counts, FirstRound};
use super::lab::{Host, Lab};
use super::watch::{self, Fetched, Want};
use super::{Bench, Sized};
use crate::cli::Failure;
use crate::cli::http::Gateway;
use crate::cli::up::group::{Group, Stop, flag, told};
use crate::cli::up::progress::started;
use crate::config::word;

/// An origin hashes the model before it gives anything.
const READY: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(50);
/// Between two looks at the origin: half of what a piece takes at 20 Mbit/s, and some kilobytes each.
const COUNT: Duration = Duration::from_millis(200);

#[derive(Debug, Error)]
enum FetchError {
    #[error("the origin is not ready to give {}: {origin}", model.display())]
    NotReady { model: PathBuf, origin: Value },
    #[error("cannot make the folder {}: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
}

/// Where an origin and its nodes listen.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    pub(super) bootstrap: u16,
    pub(super) origin_diagnostics: u16,
    /// One for each node.
    pub(super) diagnostics: Vec<u16>,
}

/// What happened.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) nodes: Vec<Fetched>,
    /// Bytes of the files that each node has.
    pub(super) bytes: u64,
    /// What had left the origin when the last node was done.
    pub(super) counts: Counts,
    pub(super) first_round: FirstRound,
    /// Bytes on the origin's link.
    pub(super) sent: Option<u64>,
}

/// The machines of one measurement.
pub(super) struct Machines<'a> {
    pub(super) origin: &'a Host,
    pub(super) nodes: &'a [Host],
    pub(super) ports: &'a Ports,
    /// Where what the origin sends is counted.
    pub(super) lab: Option<&'a Lab>,
}

/// Starts everything, measures, stops everything. The nodes share out `shards` shards.
pub(super) async fn fetch(
    bench: &Bench,
    machines: &Machines<'_>,
    model: &Sized,
    shards: usize,
    want: Want,
) -> Result<Outcome, Stop> {
    let mut group = Group::new(&bench.run, bench.shutdown.clone());
    let measured = measure(bench, machines, model, shards, want, &mut group).await;
    group.stop().await;
    let folders = folders(bench, machines.nodes.len());
    let outcome = match measured {
        Ok(mut outcome) => {
            let folders = folders.clone();
            let verified = tokio::task::spawn_blocking(move || {
                folders.iter().try_fold(0, |_, folder| watch::verify(folder, want))
            });
            outcome.bytes = verified.await??;
            Ok(outcome)
        }
        Err(stop) => Err(stop),
    };
    for folder in folders {
        // It goes with the run's folder at the latest.
        let _ = fs::remove_dir_all(folder);
    }
    outcome
}

async fn measure(
    bench: &Bench,
    machines: &Machines<'_>,
    model: &Sized,
    shards: usize,
    want: Want,
    group: &mut Group,
) -> Result<Outcome, Stop> {
    let Machines { origin, nodes, ports, lab } = machines;
    group.start("server", server(bench, origin, ports, model, shards))?;
    let diagnostics = Gateway::at(origin.address.to_string(), ports.origin_diagnostics);
    group.during(ready(&diagnostics, model)).await?;
    let sent_before = lab.map(Lab::sent_by_origin).transpose()?;
    let folders = folders(bench, nodes.len());
    for folder in &folders {
        let failed = |source| FetchError::Folder { path: folder.clone(), source };
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let start = Instant::now();
    for (at, (node, folder)) in nodes.iter().zip(&folders).enumerate() {
        let mut command = program(bench, node, "shard_listener");
        flag(&mut command, c::BOOTSTRAP, format!("{}:{}", origin.address, ports.bootstrap));
        command.arg(format!("--{}", c::SHARDS_DIR.flag)).arg(folder);
        flag(&mut command, c::SHARD_ID, at % shards);
        flag(&mut command, c::REPLICATE, if want == Want::Everything { "all" } else { "own" });
        flag(&mut command, c::NODE_DIAGNOSTICS_PORT, ports.diagnostics.get(at).copied().unwrap_or_default());
        group.start(&format!("shard_listener-{at}"), command)?;
    }
    let mut first_round = FirstRound::default();
    let counting = want == Want::Everything;
    let whole = async {
        let mut manifest = None;
        let whole = watch::until_whole(&folders, want, start);
        tokio::pin!(whole);
        let mut count = interval(COUNT);
        count.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                fetched = &mut whole => return fetched,
                _ = count.tick(), if counting => {
                    let counts = look(&diagnostics).await?;
                    manifest = manifest.or_else(|| folders.iter().find_map(|folder| watch::manifest(folder)));
                    // Before a node has it nothing has left.
                    if let Some(manifest) = &manifest {
                        first_round.look(start.elapsed().as_secs_f64(), &counts, manifest);
                    }
                }
            }
        }
    };
    let fetched = group.during(whole).await?;
    let sent = lab.map(Lab::sent_by_origin).transpose()?.zip(sent_before).map(|(now, before)| now - before);
    let counts = group.during(look(&diagnostics)).await?;
    if let Some(manifest) = folders.iter().find_map(|folder| watch::manifest(folder)) {
        first_round.look(start.elapsed().as_secs_f64(), &counts, &manifest);
    }
    for (node, port) in nodes.iter().zip(&ports.diagnostics) {
        let diagnostics = Gateway::at(node.address.to_string(), *port);
        group.during(watch::until_said(&node.name, &diagnostics)).await?;
    }
    Ok(Outcome { nodes: fetched, bytes: 0, counts, first_round, sent })
}

fn server(bench: &Bench, origin: &Host, ports: &Ports, model: &Sized, shards: usize) -> Command {
    let mut server = program(bench, origin, "server");
    flag(&mut server, c::SERVER_PORT, ports.bootstrap);
    flag(&mut server, c::SERVER_DIAGNOSTICS_PORT, ports.origin_diagnostics);
    server.arg(format!("--{}", c::MODEL_SOURCE.flag)).arg(&model.path);
    flag(&mut server, c::ORIGIN_SHARDS, shards);
    server
}

fn program(bench: &Bench, host: &Host, name: &str) -> Command {
    let mut command = told(host.command(&bench.run.join(name)), host.address);
    flag(&mut command, c::TRANSPORT, word(&bench.transport));
    command
}

async fn ready(diagnostics: &Gateway, model: &Sized) -> Result<(), Failure> {
    let mut status: Value = started("server", diagnostics, "/status").await?;
    let deadline = Instant::now() + READY;
    while status.pointer("/origin/state") != Some(&"ready".into()) {
        let failed = status.pointer("/origin/state").is_none_or(|state| state == "failed");
        if failed || Instant::now() > deadline {
            let origin = status.get("origin").cloned().unwrap_or_default();
            return Err(FetchError::NotReady { model: model.path.clone(), origin }.into());
        }
        sleep(LOOK).await;
        status = diagnostics.get("/status").await?;
    }
    Ok(())
}

async fn look(diagnostics: &Gateway) -> Result<Counts, Failure> {
    Ok(Counts::read(&diagnostics.get("/status").await?)?)
}

fn folders(bench: &Bench, nodes: usize) -> Vec<PathBuf> {
    (0..nodes).map(|node| bench.data.join(format!("node-{node}"))).collect()
}
