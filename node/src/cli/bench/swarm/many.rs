//! One limited origin, and several nodes that all want the whole model.

use futures::future::try_join_all;
use tokio::time::Instant;

use super::counts::FirstRound;
use super::fetch::{Machines, Ports, fetch};
use super::lab::Lab;
use super::watch::{Fetched, Want};
use super::web::{Scheme, Web};
use super::{Bench, ORIGIN_MBIT, SEEDING_MBIT, SEEDING_NODES, Sized};
use crate::cli::bench::say;
use crate::cli::up::group::Stop;

/// In a namespace every port is free.
pub(super) const HTTP_PORTS: [u16; 2] = [8080, 8443];
const BOOTSTRAP: u16 = 51820;
const DIAGNOSTICS: u16 = 51821;

pub(super) fn ports(nodes: usize) -> Ports {
    Ports { bootstrap: BOOTSTRAP, origin_diagnostics: DIAGNOSTICS, diagnostics: vec![DIAGNOSTICS; nodes] }
}

/// So many nodes by HTTP, and by swarm.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Compared {
    /// Seconds from the start until the last copy was there and hashed.
    pub(super) http: f64,
    pub(super) swarm: Many,
}

/// So many nodes by swarm.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Many {
    /// Of the files that each node has at the end.
    pub(super) bytes: u64,
    pub(super) nodes: Vec<Fetched>,
    /// Of pieces that left the origin.
    pub(super) origin_bytes: u64,
    /// On the origin's link, in all.
    pub(super) sent_bytes: u64,
    pub(super) first_round: FirstRound,
    /// (times, pieces that the origin gave so often).
    pub(super) pieces: Vec<(u32, usize)>,
}

/// The origin at 200 Mbit/s: how much leaves it, and how long all take.
pub(super) async fn origin(
    bench: &Bench,
    lab: &Lab,
    model: &Sized,
    counts: &[usize],
) -> Result<Vec<Compared>, Stop> {
    bench.during(async { Ok(lab.limit(ORIGIN_MBIT).await?) }).await?;
    let mut measured = Vec::new();
    for &nodes in counts {
        let http = copies(bench, lab, model, nodes).await?;
        say(&format!("origin, {nodes} nodes: all by HTTP in {http:.3} s"));
        measured.push(Compared { http, swarm: swarm(bench, lab, model, nodes).await? });
    }
    Ok(measured)
}

/// The origin at 20 Mbit/s: what leaves it in which order.
pub(super) async fn seeding(bench: &Bench, lab: &Lab, model: &Sized) -> Result<Many, Stop> {
    bench.during(async { Ok(lab.limit(SEEDING_MBIT).await?) }).await?;
    swarm(bench, lab, model, SEEDING_NODES).await
}

/// All at once; seconds until the last one is done.
async fn copies(bench: &Bench, lab: &Lab, model: &Sized, nodes: usize) -> Result<f64, Stop> {
    let folder = bench.run.join("nginx");
    let starting = Web::start(&bench.tools, &lab.origin, HTTP_PORTS, &folder, &model.path, &model.sha256);
    let web = bench.during(async { Ok(starting.await?) }).await?;
    let files: Vec<_> = (0..nodes).map(|node| bench.data.join(format!("copy-{node}"))).collect();
    let copies =
        lab.nodes.iter().zip(&files).map(|(node, to)| web.copy(&bench.tools, Scheme::Plain, node, to));
    let begun = Instant::now();
    let copied = bench.during(async { Ok(try_join_all(copies).await?) }).await;
    let seconds = begun.elapsed().as_secs_f64();
    for file in files {
        // It goes with the run's folder at the latest.
        let _ = std::fs::remove_file(file);
    }
    copied.map(|_| seconds)
}

async fn swarm(bench: &Bench, lab: &Lab, model: &Sized, nodes: usize) -> Result<Many, Stop> {
    let ports = ports(nodes);
    let machines = Machines {
        origin: &lab.origin,
        nodes: lab.nodes.get(..nodes).unwrap_or_default(),
        ports: &ports,
        lab: Some(lab),
    };
    let outcome = fetch(bench, &machines, model, nodes, Want::Everything).await?;
    let many = Many {
        bytes: outcome.bytes,
        origin_bytes: outcome.counts.bytes(),
        pieces: outcome.counts.histogram().into_iter().collect(),
        nodes: outcome.nodes,
        sent_bytes: outcome.sent.unwrap_or_default(),
        first_round: outcome.first_round,
    };
    say(&format!(
        "{nodes} nodes by swarm in {:.3} s, {:.2} times the model left the origin",
        many.last(),
        many.origin_bytes as f64 / many.bytes.max(1) as f64
    ));
    Ok(many)
}

impl Many {
    /// When the last node was done, since its start.
    pub(super) fn last(&self) -> f64 {
        self.nodes.iter().map(|fetched| fetched.whole).fold(0.0, f64::max)
    }

    /// When the first one was.
    pub(super) fn first(&self) -> f64 {
        self.nodes.iter().map(|fetched| fetched.whole).fold(f64::INFINITY, f64::min)
    }
}
