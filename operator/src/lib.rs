//! Reconciles `ShardCluster` resources into the pods that serve them.
//!
//! ```text
//!  ShardCluster (crd) ─▶ validate ─▶ Cluster ─▶ desired ─▶ every child
//!                           ▲                     ▲
//!                        Settings               Facts: keys, and what the manifest says
//! ```
//! All of it is pure: values in, values out.
pub mod cli;
pub mod cluster;
pub mod crd;
pub mod desired;
pub mod settings;
pub mod validate;
