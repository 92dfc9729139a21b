//! The ring over real connections and real weights, all nodes in one process: the tokens are llama.cpp's, over TCP
//! and QUIC, for every shard count, alone and four at once; slots are free when a client or its gateway is gone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod answers;
mod ends;
mod harness;
mod held;
mod strangers;
