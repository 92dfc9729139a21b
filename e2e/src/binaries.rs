//! Where the programs of a control plane are: `e2e/binaries` finds, gets or builds them.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use thiserror::Error;
use tokio::process::Command;

/// Set to `1`, it leaves out tests whose programs cannot be had.
pub const OFFLINE: &str = "E2E_OFFLINE";

/// Why there are no programs.
#[derive(Debug, Error)]
pub enum BinariesError {
    /// The script does not run.
    #[error("cannot run {}: {source}", script.display())]
    Run {
        /// The script.
        script: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has said why on standard error.
    #[error("{} found, downloaded or built not all of {tools:?}: it says why above; {OFFLINE}=1 leaves these tests out", script.display())]
    Missing {
        /// The script.
        script: PathBuf,
        /// What was asked for.
        tools: Vec<String>,
    },
}

/// Programs by their names.
#[derive(Clone, Debug)]
pub struct Binaries {
    paths: HashMap<String, PathBuf>,
}

impl Binaries {
    /// Gets these programs; the first time on a machine that takes minutes, and progress goes to standard error.
    ///
    /// # Errors
    /// Where one can be had in no way.
    pub async fn get(tools: &[&str]) -> Result<Self, BinariesError> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("binaries");
        let run = |source| BinariesError::Run { script: script.clone(), source };
        let mut command = Command::new(&script);
        // Not `output()`, which would keep what it says on standard error.
        command.args(tools).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let output = command.spawn().map_err(run)?.wait_with_output().await.map_err(run)?;
        let said = String::from_utf8_lossy(&output.stdout);
        let paths: HashMap<String, PathBuf> = said
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(tool, path)| (tool.to_owned(), path.into()))
            .collect();
        if output.status.success() && tools.iter().all(|tool| paths.contains_key(*tool)) {
            Ok(Self { paths })
        } else {
            Err(BinariesError::Missing { script, tools: tools.iter().map(ToString::to_string).collect() })
        }
    }

    /// Where a program is; one that was not asked for is looked up in PATH.
    #[must_use]
    pub fn path(&self, tool: &str) -> PathBuf {
        self.paths.get(tool).cloned().unwrap_or_else(|| tool.into())
    }
}

/// Whether tests may be left out.
#[must_use]
pub fn may_skip() -> bool {
    std::env::var_os(OFFLINE).is_some_and(|value| value == "1")
}
