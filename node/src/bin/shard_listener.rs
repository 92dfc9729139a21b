//! `shard_listener`.

fn main() {}
