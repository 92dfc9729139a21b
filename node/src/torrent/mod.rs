//! `/torrent/1.0`: manifests and pieces on raw streams, each verified by who asked for it.

pub mod content;
pub mod fetch;
pub mod serve;

use libp2p::StreamProtocol;

/// The protocol's name.
pub const PROTOCOL: StreamProtocol = StreamProtocol::new(shard_wire::keys::TORRENT);
