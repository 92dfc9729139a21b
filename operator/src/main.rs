//! The operator of ShardCluster.

fn main() {}
