//! How the operator bears many ShardClusters: `cargo bench -p shard-e2e --bench scale`.
//!
//! ```text
//!  one control plane ─▶ ShardClusters, nobody looks at them
//!   1. an operator starts        ─▶ until every status is written: all that it makes exists
//!   2. gateways are there        ─▶ until every plan is known
//!   3. nothing happens           ─▶ writes and CPU time, with all long polls open
//!   4. specs change              ─▶ until the child has changed
//!   5. the operator starts anew  ─▶ until it has looked at all
//!  another one, as new           ─▶ the same objects, written by a plain loop
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what fails here is the benchmark

mod fleet;
mod gateway;
mod operator;
mod owned;
mod plain;
mod report;

use std::time::{Duration, Instant};

use clap::Parser;
use shard_e2e::{ControlPlane, Parts};

use fleet::Fleet;
use operator::Operator;
use report::{Figure, report};

/// Measures the operator on an API server of its own.
#[derive(Debug, Parser)]
struct Args {
    /// ShardClusters, of 4 shards each
    #[arg(long, default_value_t = 1000)]
    clusters: usize,
    /// Let kube-controller-manager run, too: it makes pods, which stay pending
    #[arg(long)]
    controller_manager: bool,
    /// Changes of specs that are timed
    #[arg(long, default_value_t = 200)]
    changes: usize,
    /// Seconds in which nothing happens
    #[arg(long, default_value_t = 60)]
    quiet: u64,
    /// What `cargo bench` says
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    // The operator is this program, started anew: the same code, in a process of its own.
    if operator::is_asked_for() {
        return operator::run();
    }
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(&args));
}

async fn measure(args: &Args) {
    let parts = Parts { controller_manager: args.controller_manager, scheduler: false };
    let plane = ControlPlane::start(parts).await.unwrap();
    let fleet = Fleet::new(&plane, args.clusters).await;
    fleet.create().await;
    eprintln!("{} ShardClusters are there", args.clusters);

    let began = Instant::now();
    let operator = Operator::start(&plane);
    fleet.until_all(|status| status.observed_generation.is_some()).await;
    let made = began.elapsed();
    let objects = fleet.children_of_first().await;
    let created = operator.memory();
    eprintln!("{created}");
    let cpu = operator.sample().await.cpu;
    eprintln!("all is there after {made:.1?}, of which the operator computed {cpu:.1?}");

    gateway::serve().await;
    fleet.add_gateways().await;
    fleet.until_all(|status| status.plan.is_some()).await;
    operator.until_quiet().await;
    eprintln!("all plans are known");

    let before = operator.sample().await;
    tokio::time::sleep(Duration::from_secs(args.quiet)).await;
    let quiet = operator.sample().await.since(&before);
    let steady = operator.memory();
    eprintln!("{steady}");
    eprintln!("nothing happened for {} s", args.quiet);

    let mut changes = fleet.change(args.changes).await;
    changes.sort();
    operator.until_quiet().await;
    let changed = operator.memory();
    eprintln!("{changed}");
    eprintln!("{} specs were changed", args.changes);
    operator.stop();
    let began = Instant::now();
    let again = Operator::start(&plane);
    again.until_reconciled(args.clusters).await;
    let restarted = began.elapsed();
    again.until_quiet().await;
    let (rewritten, started) = (again.sample().await.writes, again.memory());
    eprintln!("{started}");
    again.stop();
    eprintln!("it has started anew");
    drop(plane);

    let plane = ControlPlane::start(parts).await.unwrap();
    let plain = plain::write(&plane, &objects, args.clusters).await;

    let p99 = changes[(changes.len() * 99 / 100).min(changes.len() - 1)];
    let peak = [created.peak, steady.peak, changed.peak, started.peak].into_iter().max().unwrap();
    report(&[
        Figure::ratio("all that the operator writes exists, against a plain loop", made, plain, 1.5),
        Figure::time("the same, by the clock", made, Duration::from_secs(60)),
        Figure::mib("memory, the most", peak, 100),
        Figure::mib("memory, with all polls open", steady.now, 100),
        Figure::mib("memory, after the new start", started.now, 100),
        Figure::count("writes while nothing happens", quiet.writes, 0),
        Figure::share("cores while nothing happens", quiet.cpu, Duration::from_secs(args.quiet), 0.05),
        Figure::time("spec change to child's change, p99", p99, Duration::from_secs(1)),
        Figure::time("new start to the end of the first pass", restarted, Duration::from_secs(30)),
        Figure::count("writes of the first pass", rewritten, 0),
    ]);
}
