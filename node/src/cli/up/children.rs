//! The processes of a fleet: started, watched, stopped.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures::future::{join_all, select_all};
use shard_wire::contract as c;
use thiserror::Error;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, timeout_at};

use super::home::Home;
use super::ports::Ports;
use super::say;
use crate::cli::{Failure, Shutdown};
use crate::config::args::UNTIL_STDIN_CLOSES;
use crate::config::{EngineConfig, Transport, word};

/// A child that is told to end may take so long: a node gives its sessions back first.
const GRACE: Duration = Duration::from_secs(10);
/// What is shown of a dead child's log.
const LAST_LINES: usize = 12;
const LAST_BYTES: u64 = 8 << 10;
/// Every program listens here.
const LOOPBACK: &str = "127.0.0.1";

/// Why the fleet stops before the work is done.
#[derive(Debug)]
pub(in crate::cli) enum Stop {
    /// The user said so.
    Interrupted,
    /// A child died, or the work failed.
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What can go wrong with a child.
#[derive(Debug, Error)]
pub(in crate::cli) enum ChildError {
    /// It does not start.
    #[error("cannot start {name}: {source}")]
    Start {
        /// Which.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It ended by itself.
    #[error("{name} ended with {status}; its log {} ends with:\n{lines}", log.display())]
    Died {
        /// Which.
        name: String,
        /// How.
        status: ExitStatus,
        /// Where the rest is.
        log: PathBuf,
        /// The end of its log.
        lines: String,
    },
}

struct Running {
    name: String,
    process: Child,
    /// Open as long as the child is to live.
    lifeline: Option<ChildStdin>,
    log: PathBuf,
}

/// The children of this process.
pub(in crate::cli) struct Fleet {
    run: PathBuf,
    shards_dir: PathBuf,
    secret: PathBuf,
    transport: Transport,
    ports: Ports,
    engine: EngineConfig,
    shutdown: Shutdown,
    running: Vec<Running>,
}

impl Fleet {
    /// Nothing runs yet.
    pub(in crate::cli) fn new(
        home: &Home,
        transport: Transport,
        engine: EngineConfig,
        ports: &Ports,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            run: home.run.clone(),
            shards_dir: home.shards.clone(),
            secret: home.secret.clone(),
            transport,
            ports: *ports,
            engine,
            shutdown,
            running: Vec::new(),
        }
    }

    /// The file with the cluster secret.
    pub(in crate::cli) fn secret(&self) -> &Path {
        &self.secret
    }

    /// Names and ids of the processes, in the order of starting.
    pub(in crate::cli) fn processes(&self) -> impl Iterator<Item = (&str, u32)> {
        self.running.iter().filter_map(|running| Some((running.name.as_str(), running.process.id()?)))
    }

    /// The bootstrap.
    pub(in crate::cli) fn start_server(&mut self) -> Result<(), ChildError> {
        let mut server = self.command("server");
        flag(&mut server, c::SERVER_PORT, self.ports.port);
        flag(&mut server, c::SERVER_DIAGNOSTICS_PORT, self.ports.diagnostics);
        self.start("server", server)
    }

    /// One node.
    pub(in crate::cli) fn start_shard(&mut self, shard: u32) -> Result<(), ChildError> {
        let engine = self.engine;
        let mut node = self.command("shard_listener");
        self.join(&mut node);
        node.arg(format!("--{}", c::SHARDS_DIR.flag)).arg(&self.shards_dir);
        flag(&mut node, c::SHARD_ID, shard);
        flag(&mut node, c::NODE_PORT, 0);
        if let Some(threads) = engine.threads {
            flag(&mut node, c::THREADS, threads);
        }
        flag(&mut node, c::DEVICE, engine.device);
        flag(&mut node, c::WEIGHTS, word(&engine.weights));
        flag(&mut node, c::KV_DTYPE, word(&engine.kv));
        flag(&mut node, c::ACTIVATION_DTYPE, word(&engine.activations));
        flag(&mut node, c::MAX_SESSIONS, engine.max_sessions);
        if let Some(context) = engine.context {
            flag(&mut node, c::CONTEXT_LENGTH, context);
        }
        self.start(&format!("shard_listener-{shard}"), node)
    }

    /// The gateway.
    pub(in crate::cli) fn start_gateway(&mut self) -> Result<(), ChildError> {
        let mut gateway = self.command("web_server");
        self.join(&mut gateway);
        flag(&mut gateway, c::GATEWAY_HTTP_PORT, self.ports.http);
        self.start("web_server", gateway)
    }

    fn join(&self, command: &mut Command) {
        flag(command, c::BOOTSTRAP, format!("{LOOPBACK}:{}", self.ports.port));
    }

    /// A program by its link, told all that matters: this process's own variables are not meant for it.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.run.join(program));
        for setting in c::SETTINGS {
            command.env_remove(setting.env);
        }
        flag(&mut command, c::LISTEN_ADDR, LOOPBACK);
        flag(&mut command, c::TRANSPORT, word(&self.transport));
        command.arg(format!("--{}", c::CLUSTER_SECRET_FILE.flag)).arg(&self.secret);
        command.arg(format!("--{UNTIL_STDIN_CLOSES}"));
        command
    }

    fn start(&mut self, name: &str, mut command: Command) -> Result<(), ChildError> {
        let failed = |source| ChildError::Start { name: name.to_owned(), source };
        let log = self.run.join(format!("{name}.log"));
        let output = File::create(&log).map_err(failed)?;
        let errors = output.try_clone().map_err(failed)?;
        // A group of its own: the terminal's Ctrl-C is for this process, which then stops its children in order.
        let spawned = command
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut process = spawned.map_err(failed)?;
        let lifeline = process.stdin.take();
        self.running.push(Running { name: name.to_owned(), process, lifeline, log });
        Ok(())
    }

    /// Does the work, unless a child dies or the user interrupts.
    pub(in crate::cli) async fn during<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Stop> {
        tokio::select! {
            biased;
            () = self.shutdown.begun() => Err(Stop::Interrupted),
            (index, status) = first_end(&mut self.running) => Err(self.running[index].died(status?).into()),
            done = work => Ok(done?),
        }
    }

    /// Ends every child: asks, waits, kills.
    pub(in crate::cli) async fn stop(mut self) {
        // `server`, which is started first, ends last: the nodes withdraw their announcements from its records.
        let first = self.running.len().min(1);
        let (server, others) = self.running.split_at_mut(first);
        for group in [others, server] {
            for running in group.iter_mut() {
                running.lifeline.take();
            }
            let deadline = Instant::now() + GRACE;
            join_all(group.iter_mut().map(|running| running.end(deadline))).await;
        }
    }
}

/// Which child is the first to end, and how. It may be asked again.
async fn first_end(running: &mut [Running]) -> (usize, io::Result<ExitStatus>) {
    let (status, index, _) =
        select_all(running.iter_mut().map(|running| Box::pin(running.process.wait()))).await;
    (index, status)
}

impl Running {
    fn died(&self, status: ExitStatus) -> ChildError {
        let lines = last_lines(&self.log).unwrap_or_else(|error| format!("  (it cannot be read: {error})"));
        ChildError::Died { name: self.name.clone(), status, log: self.log.clone(), lines }
    }

    async fn end(&mut self, deadline: Instant) {
        if timeout_at(deadline, self.process.wait()).await.is_err() {
            say(&format!("{} did not end within {GRACE:?} and is killed", self.name));
            if let Err(error) = self.process.kill().await {
                say(&format!("cannot kill {}: {error}", self.name));
            }
        }
    }
}

fn flag(command: &mut Command, setting: c::Setting, value: impl Display) {
    command.arg(format!("--{}", setting.flag)).arg(OsStr::new(&value.to_string()));
}

fn last_lines(log: &Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(LAST_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    Ok(last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))
}
