//! Processes that are one piece of work: started, watched, stopped. One that dies ends the work.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures::future::{join_all, pending, select_all};
use shard_wire::contract as c;
use thiserror::Error;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, timeout_at};

use super::say;
use crate::cli::{Failure, Shutdown};
use crate::config::args::UNTIL_STDIN_CLOSES;

/// A child that is told to end may take so long: a node gives its sessions back first.
const GRACE: Duration = Duration::from_secs(10);
/// What is shown of a dead child's log.
const LAST_LINES: usize = 12;
const LAST_BYTES: u64 = 8 << 10;

/// Why the work stops before it is done.
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

/// The children of this process that work together.
pub(in crate::cli) struct Group {
    logs: PathBuf,
    shutdown: Shutdown,
    running: Vec<Running>,
}

impl Group {
    /// Nothing runs yet.
    pub(in crate::cli) fn new(logs: &Path, shutdown: Shutdown) -> Self {
        Self { logs: logs.to_owned(), shutdown, running: Vec::new() }
    }

    /// Names and ids of the processes, in the order of starting.
    pub(in crate::cli) fn processes(&self) -> impl Iterator<Item = (&str, u32)> {
        self.running.iter().filter_map(|running| Some((running.name.as_str(), running.process.id()?)))
    }

    /// Starts a program, with its output in a log. It is to end when its standard input closes.
    pub(in crate::cli) fn start(&mut self, name: &str, mut command: Command) -> Result<(), ChildError> {
        let failed = |source| ChildError::Start { name: name.to_owned(), source };
        let log = self.logs.join(format!("{name}.log"));
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
    if running.is_empty() {
        return pending().await;
    }
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

/// One of the executable's programs, told all that matters: this process's own variables are not meant for it.
pub(in crate::cli) fn told(mut command: Command, listen: impl Display) -> Command {
    for setting in c::SETTINGS {
        command.env_remove(setting.env);
    }
    flag(&mut command, c::LISTEN_ADDR, listen);
    command.arg(format!("--{UNTIL_STDIN_CLOSES}"));
    command
}

/// A setting's flag and value.
pub(in crate::cli) fn flag(command: &mut Command, setting: c::Setting, value: impl Display) {
    command.arg(format!("--{}", setting.flag)).arg(OsStr::new(&value.to_string()));
}
