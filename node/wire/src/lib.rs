//! What the programs of ShardCluster say to one another. Data and its bounds, no behaviour: `serde` only.
