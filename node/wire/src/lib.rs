//! What the programs of ShardCluster say to one another. Data and its bounds, no behaviour: `serde` only.

pub mod announce;
pub mod command;
pub mod contract;
pub mod frame;
mod json;
pub mod keys;
pub mod layers;
pub mod manifest;
pub mod message;
pub mod pipeline;
pub mod session;
pub mod torrent;
