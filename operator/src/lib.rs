//! Reconciles `ShardCluster` resources into the pods that serve them.
pub mod cli;
pub mod crd;
