//! A real Kubernetes API server for tests, and the tests and benchmarks that need one.
//!
//! ```text
//!  e2e/binaries (script) ─▶ binaries ─▶ control_plane ─▶ etcd ◀─ kube-apiserver ◀─ controller-manager, scheduler
//!                           arguments ─▶    │            (each a `process` under watch)        │
//!                                           ├─▶ shared: one for all tests of a program,        ▼
//!                                           │           namespaces, waiting                  audit: who asked for what
//!                                           └─▶ (tests)                   what roles grant ─▶ rights ◀┘
//! ```
//! Where the programs can neither be found, downloaded nor built the tests fail, unless `E2E_OFFLINE=1` is set.

use std::io::Write;

mod arguments;
pub mod audit;
pub mod binaries;
pub mod control_plane;
pub mod error;
mod options;
mod process;
pub mod rights;
pub mod shared;

pub use control_plane::ControlPlane;
pub use error::ControlPlaneError;
pub use options::{Options, Parts};
pub use shared::{namespace, shared, skipped, until};

/// A line for the person who runs the tests: `eprintln!` is shown for tests that fail, this always.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "e2e: {line}");
}
