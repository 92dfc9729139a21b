//! The rules of the two state machines, one by one: what a stage takes, from whom, and what a gateway makes of a
//! refusal, a loss, a deadline.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod gateway;
mod stage;
