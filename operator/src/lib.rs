//! Reconciles `ShardCluster` resources into the pods that serve them.
//!
//! ```text
//!  controller ─▶ reconcile ─┬▶ observe    reads the cluster: the resource, its children, their pods, the gateways
//!                           ├▶ validate   ShardCluster (crd) + Settings ─▶ Cluster
//!                           ├▶ keys       what Secrets hold, and new keys for what has none
//!                           ├▶ desired    Cluster + Facts (keys, and what the manifest says) ─▶ every child
//!                           ├▶ apply      writes what differs, removes what is left over
//!                           └▶ status     what users see of it; written where it differs
//! ```
//! `validate`, `desired` and what makes a status are pure: values in, values out.
pub mod apply;
pub mod cli;
pub mod cluster;
pub mod controller;
pub mod crd;
pub mod desired;
pub mod facts;
pub mod keys;
pub mod observe;
pub mod peer_id;
mod quantity;
pub mod run;
pub mod settings;
pub mod status;
pub mod validate;
