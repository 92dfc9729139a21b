//! Reconciles `ShardCluster` resources into the pods that serve them.
pub mod cli;
pub mod cluster;
pub mod crd;
pub mod desired;
pub mod settings;
pub mod validate;
