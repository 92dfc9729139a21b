//! One shard of a Llama model from GGUF: load, forward, sample, tokenise. Synchronous; knows no network.

pub mod config;
pub mod gguf;
pub mod sample;
