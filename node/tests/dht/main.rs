//! Joining, announcing and discovering through a bootstrap, over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, outside a test function"
)]

#[path = "../common/mod.rs"]
mod common;
mod harness;
mod joining;
mod members;
mod records;
