//! The programs of a ShardCluster fleet.

pub mod clock;
pub mod cluster;
pub mod config;
pub mod join;
pub mod joiner;
pub mod library;
pub mod net;
pub mod ring;
pub mod torrent;
pub mod watch;
