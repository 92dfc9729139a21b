//! The programs of a ShardCluster fleet.

pub mod config;
pub mod net;
pub mod ring;
