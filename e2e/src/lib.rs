//! A real Kubernetes API server for tests, and the tests and benchmarks that need one.
//!
//! ```text
//!  e2e/binaries (script) ─▶ binaries ─▶ control_plane ─▶ etcd ◀─ kube-apiserver ◀─ controller-manager, scheduler
//!                                            └─▶ shared: one for all tests of a program, clients, namespaces
//! ```
//! Where the programs can neither be found, downloaded nor built the tests fail, unless `E2E_OFFLINE=1` is set.

pub mod binaries;
pub mod control_plane;
mod process;
pub mod shared;

pub use control_plane::{ControlPlane, Parts};
pub use shared::{namespace, shared, until};
