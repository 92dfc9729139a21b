//! The swarm: files between peers in one process over real sockets, honest ones and others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]
#![allow(unreachable_pub, reason = "modules of one program")]

#[path = "../common/mod.rs"]
mod common;
mod disk;
mod found;
mod harness;
mod hostile;
mod leftovers;
mod puppet;
mod resume;
mod reuse;
mod swarm;
