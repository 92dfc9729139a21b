//! The programs of a ShardCluster fleet.

pub mod config;
pub mod library;
pub mod net;
pub mod ring;
pub mod torrent;
