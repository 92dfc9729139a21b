//! What the programs of ShardCluster say to one another. Data and its bounds, no behaviour: `serde` only.

pub mod contract;
pub mod frame;
pub mod layers;
pub mod pipeline;
pub mod session;
