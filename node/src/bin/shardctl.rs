//! `shardctl`.

fn main() {}
