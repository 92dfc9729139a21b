//! Reconciles `ShardCluster` resources into the pods that serve them.
//!
//! ```text
//!  run ─▶ lead ─▶ controller, while this process leads
//!  watch, gateways ─▶ controller                            what the API server has, and what gateways say, as it changes
//!  controller ─▶ reconcile ─┬▶ observe    reads the cluster: the resource, its children, their pods, the gateways
//!                           ├▶ validate   ShardCluster (crd) + Settings ─▶ Cluster
//!                           ├▶ keys       what Secrets hold, and new keys for what has none
//!                           ├▶ facts      the plan that the spec asks for, and what its manifest says
//!                           ├▶ desired    Cluster + Facts ─▶ every child
//!                           ├▶ rollout    which pods may move to their new template now
//!                           ├▶ loss       pods that lost nodes hold on to; evicted
//!                           ├▶ apply      writes what differs, removes what is left over
//!                           ├▶ mismatch   how the model differs from what the spec says of it
//!                           ├▶ status     what users see of it; written where it differs
//!                           └▶ events     what has happened since the last status
//! ```
//! Below them is what they speak of: crd, cluster, nodes, pods. `validate`, `desired`, `loss` and what makes a status or events
//! of it are pure: values in, values out.
pub mod apply;
pub mod cli;
mod clock;
pub mod cluster;
pub mod controller;
pub mod crd;
pub mod desired;
mod digest;
pub mod error_class;
pub mod events;
pub mod facts;
pub mod gateways;
pub mod http;
pub mod keys;
pub mod lead;
pub mod loss;
pub mod mismatch;
mod named;
pub mod nodes;
pub mod observe;
pub mod patience;
pub mod peer_id;
pub mod pods;
mod quantity;
pub mod rollout;
pub mod run;
pub mod settings;
pub mod status;
pub mod telemetry;
pub mod validate;
pub mod watch;
mod words;
