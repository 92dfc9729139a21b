//! `/torrent/1.0`: manifests and pieces on raw streams, each verified by who asked for it.
//!
//! ```text
//!  seeders (DHT, caller) ─▶ download ── plan (pure) ── link ─▶ peers ─▶ serve ─▶ shelf ─▶ content
//!                              │                                                  │
//!                              ├─ reuse, part, disk: NAME.part ─▶ NAME            └─ ledger (pure), limit
//!                              └─ verified pieces ─▶ shelf
//! ```

mod buffers;
pub mod content;
pub mod disk;
pub mod download;
mod error;
pub mod fetch;
mod ledger;
mod limit;
mod link;
pub(crate) mod part;
mod plan;
pub mod replicate;
mod reuse;
pub mod seeders;
pub mod serve;
mod shelf;

use libp2p::StreamProtocol;

pub use error::DownloadError;

/// The protocol's name.
pub const PROTOCOL: StreamProtocol = StreamProtocol::new(shard_wire::keys::TORRENT);
