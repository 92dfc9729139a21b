//! The programs of a ShardCluster fleet.
