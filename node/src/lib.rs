//! The programs of a ShardCluster fleet.

pub mod bootstrap;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod diagnostics;
pub mod front;
pub mod gateway;
pub mod http;
pub mod join;
pub mod joiner;
pub mod library;
pub mod listener;
pub mod model;
pub mod net;
pub mod report;
pub mod ring;
pub mod serving;
pub mod shutdown;
pub mod start;
pub mod store;
pub mod telemetry;
pub mod torrent;
pub mod watch;
pub mod web;
