//! Why there is no control plane.

use std::fmt;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use kube::config::KubeconfigError;
use thiserror::Error;

use crate::audit::AuditError;
use crate::binaries::BinariesError;

/// Why there is no control plane.
#[derive(Error)]
pub enum ControlPlaneError {
    /// Its programs are not there.
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    /// A file of it cannot be written, or a program not started.
    #[error("cannot set up {what}: {source}")]
    SetUp {
        /// The file or program.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// No key for service accounts.
    #[error("no key for tokens of service accounts: {0}")]
    Key(#[from] rcgen::Error),
    /// The configuration that we wrote is not understood: a fault of ours.
    #[error("the kubeconfig: {0}")]
    Kubeconfig(#[from] KubeconfigError),
    /// No client, or a request of ours failed.
    #[error("the API server: {0}")]
    Client(#[from] kube::Error),
    /// What it has noted down cannot be read.
    #[error("cannot read the API server's audit log: {0}")]
    Audit(#[from] AuditError),
    /// A program ended where it should run.
    #[error("{program} ended ({status}) before the API server was ready\n{logs}")]
    Ended {
        /// Which.
        program: String,
        /// How.
        status: ExitStatus,
        /// The last lines of all programs.
        logs: String,
    },
    /// It does not come up.
    #[error("not ready after {waited:?}: {last}\n{logs}")]
    NotReady {
        /// How long it had.
        waited: Duration,
        /// What it answered last.
        last: String,
        /// The last lines of all programs.
        logs: String,
    },
}

/// Tests unwrap this: the logs in it are lines for a person.
impl fmt::Debug for ControlPlaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
