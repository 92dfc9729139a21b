//! `operator run` as a process, and what it uses.

use std::io::Read;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Parser;
use shard_e2e::{ControlPlane, until};
use shard_operator::cli::Cli;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WORDS: &str = "SCALE_OPERATOR_WORDS";
/// A unit of time in /proc/PID/stat.
const TICK: Duration = Duration::from_millis(10);
const LOOK: Duration = Duration::from_secs(3);

pub(crate) fn is_asked_for() -> bool {
    std::env::var(WORDS).is_ok()
}

pub(crate) fn run() {
    // Whoever started it is gone when its standard input ends.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(9);
    });
    Cli::parse_from(std::env::var(WORDS).unwrap().split(' ')).run().unwrap();
}

pub(crate) struct Operator {
    child: Child,
    port: u16,
}

/// Bytes.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) now: u64,
    pub(crate) peak: u64,
}

impl std::fmt::Display for Memory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "the operator has {} MiB, and has had {} MiB", self.now >> 20, self.peak >> 20)
    }
}

/// Since it started.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) writes: u64,
    pub(crate) cpu: Duration,
}

impl Sample {
    pub(crate) fn since(self, before: &Self) -> Self {
        Self { writes: self.writes - before.writes, cpu: self.cpu - before.cpu }
    }
}

impl Operator {
    pub(crate) fn start(plane: &ControlPlane) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let words = format!("operator run --listen=127.0.0.1:{port}");
        let child = Command::new(std::env::current_exe().unwrap())
            .env("KUBECONFIG", plane.kubeconfig())
            .env("RUST_LOG", "warn")
            .env(WORDS, words)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, port }
    }

    pub(crate) fn memory(&self) -> Memory {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
        };
        Memory { now: of("VmRSS"), peak: of("VmHWM") }
    }

    pub(crate) async fn sample(&self) -> Sample {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u32 = fields[11..13].iter().map(|field| field.parse::<u32>().unwrap()).sum();
        Sample { writes: self.sum("shardcluster_operator_writes_total").await, cpu: ticks * TICK }
    }

    /// Returns when no write was sent for a while.
    pub(crate) async fn until_quiet(&self) {
        let mut before = u64::MAX;
        loop {
            let now = self.sample().await.writes;
            if now == before {
                return;
            }
            before = now;
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(crate) async fn until_reconciled(&self, clusters: usize) {
        until("all ShardClusters were looked at", || async {
            let known = self.sum("shardcluster_operator_shardclusters{").await;
            (known >= clusters as u64).then_some(())
        })
        .await;
    }

    pub(crate) fn stop(mut self) {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        self.child.wait().unwrap();
    }

    /// Of all metrics whose line begins so; 0 while nobody answers.
    async fn sum(&self, name: &str) -> u64 {
        let text = self.metrics().await.unwrap_or_default();
        let values = text.lines().filter(|line| line.starts_with(name));
        values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    }

    async fn metrics(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
