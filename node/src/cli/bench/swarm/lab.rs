//! Machines that are network namespaces on one bridge, and the origin's link with a limit.
//!
//! ```text
//!  this namespace (namespace.rs)            10.77.0.1
//!    bridge ── v0 ═tbf═ eth0  origin        10.77.0.2
//!           ├─ v1 ───── eth0  node 0        10.77.0.3
//!           └─ …
//! ```
//! A namespace lives as long as a process in it: `cat`, which ends when this process does.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};

use super::tools::{NetTools, ToolError, output};

const BRIDGE: &str = "shard-bench";
/// Of a queue before the limit: an honest router's, and far from what makes TCP stall.
const QUEUE: &str = "50ms";
/// What may pass at once: two of the largest packets that the kernel hands on in one piece.
const MIN_BURST: u64 = 128 << 10;
/// Of the rate, beyond that: timers are late by so much.
const BURST_MS: u64 = 2;

/// Why there is no network to measure in.
#[derive(Debug, Error)]
pub(super) enum LabError {
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("cannot make the namespace of {machine}: {source}")]
    Holder { machine: String, source: io::Error },
    #[error("/proc/net/dev: {0}")]
    Counters(String),
}

/// A machine where programs run.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    /// `nsenter`, and a process in the namespace.
    enter: Option<(PathBuf, u32)>,
}

impl Host {
    /// This machine, by loopback.
    pub(super) fn loopback(name: &str) -> Self {
        Self { name: name.to_owned(), address: Ipv4Addr::LOCALHOST, enter: None }
    }

    /// A program there.
    pub(super) fn command(&self, program: &Path) -> Command {
        match &self.enter {
            None => Command::new(program),
            Some((nsenter, pid)) => {
                let mut command = Command::new(nsenter);
                command.arg(format!("--net=/proc/{pid}/ns/net")).arg("--").arg(program);
                command
            }
        }
    }
}

/// All machines.
pub(super) struct Lab {
    tools: NetTools,
    pub(super) origin: Host,
    pub(super) nodes: Vec<Host>,
    holders: Vec<(Child, ChildStdin)>,
}

impl Lab {
    /// An origin and so many nodes, nothing limited.
    pub(super) async fn build(tools: &NetTools, nodes: usize) -> Result<Self, LabError> {
        let ip = async |line: &str| run(Command::new(&tools.ip), line).await;
        ip("link set lo up").await?;
        ip(&format!("link add {BRIDGE} type bridge")).await?;
        ip(&format!("addr add {}/24 dev {BRIDGE}", address(0))).await?;
        ip(&format!("link set {BRIDGE} up")).await?;
        let origin = Host::loopback("origin");
        let mut lab = Self { tools: tools.clone(), origin, nodes: Vec::new(), holders: Vec::new() };
        lab.origin = lab.machine("origin".into(), 0).await?;
        for node in 0..nodes {
            let machine = lab.machine(format!("node {node}"), node + 1).await?;
            lab.nodes.push(machine);
        }
        Ok(lab)
    }

    async fn machine(&mut self, name: String, at: usize) -> Result<Host, LabError> {
        let pid = self.hold(&name).await?;
        let ip = async |line: &str| run(Command::new(&self.tools.ip), line).await;
        let (outside, address) = (format!("v{at}"), address(at + 1));
        ip(&format!("link add {outside} type veth peer name eth0 netns {pid}")).await?;
        ip(&format!("link set {outside} master {BRIDGE} up")).await?;
        let host = Host { name, address, enter: Some((self.tools.nsenter.clone(), pid)) };
        let inside = async |line: &str| run(host.command(&self.tools.ip), line).await;
        inside(&format!("addr add {address}/24 dev eth0")).await?;
        inside("link set eth0 up").await?;
        inside("link set lo up").await?;
        Ok(host)
    }

    /// A process in a namespace of its own.
    async fn hold(&mut self, machine: &str) -> Result<u32, LabError> {
        let failed = |source| LabError::Holder { machine: machine.to_owned(), source };
        let mut command = Command::new(&self.tools.unshare);
        command.arg("--net").arg(&self.tools.cat);
        // Not in the terminal's group: Ctrl-C is for this process, which still needs the namespace to end in order.
        let spawned =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = spawned.spawn().map_err(failed)?;
        let gone = || failed(io::Error::other("its process has ended"));
        let (Some(mut input), Some(mut answers), Some(pid)) =
            (child.stdin.take(), child.stdout.take(), child.id())
        else {
            return Err(gone());
        };
        // It answers when it is `cat`, and so in its namespace.
        input.write_all(b"?").await.map_err(failed)?;
        answers.read_exact(&mut [0]).await.map_err(failed)?;
        self.holders.push((child, input));
        Ok(pid)
    }

    /// Limits the origin's link, each way.
    pub(super) async fn limit(&self, mbit: u64) -> Result<(), LabError> {
        let burst = (mbit * 1000 / 8 * BURST_MS).max(MIN_BURST);
        let tbf = |device: &str| {
            format!("qdisc replace dev {device} root tbf rate {mbit}mbit burst {burst} latency {QUEUE}")
        };
        run(self.origin.command(&self.tools.tc), &tbf("eth0")).await?;
        run(Command::new(&self.tools.tc), &tbf("v0")).await
    }

    /// Bytes that the origin has sent so far, headers of Ethernet, IP and transport included.
    pub(super) fn sent_by_origin(&self) -> Result<u64, LabError> {
        let text = std::fs::read_to_string("/proc/net/dev");
        let text = text.map_err(|error| LabError::Counters(error.to_string()))?;
        received(&text, "v0").ok_or_else(|| LabError::Counters("there is no v0".into()))
    }
}

/// Of the machine at that place; this one is the first.
fn address(at: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, u8::try_from(at + 1).unwrap_or(u8::MAX))
}

async fn run(mut command: Command, line: &str) -> Result<(), LabError> {
    command.args(line.split(' '));
    output(command).await?;
    Ok(())
}

/// The first counter of an interface.
fn received(table: &str, interface: &str) -> Option<u64> {
    let line = |line: &'_ str| {
        let (name, counters) = line.split_once(':')?;
        (name.trim() == interface).then(|| counters.split_whitespace().next()?.parse().ok())?
    };
    table.lines().find_map(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let table = "Inter-|   Receive\n face |bytes    packets\n    lo:   7 1\n    v0: 537418532    8288 0\n   v01: 3 1\n";
        assert_eq!(received(table, "v0"), Some(537_418_532));
        assert_eq!(received(table, "v1"), None);
    }
}
