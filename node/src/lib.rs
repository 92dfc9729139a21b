//! The programs of a ShardCluster fleet.

pub mod ring;
