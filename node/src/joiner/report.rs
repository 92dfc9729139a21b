//! What happens while joining, for people.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use shard_wire::announce::{FileInfo, ReplicaState, ShardInfo};
use shard_wire::keys::Role;

use super::publish::Said;

/// What happens while joining, for people.
#[derive(Clone, Debug, PartialEq)]
pub enum JoinReport {
    /// A bootstrap is dialled.
    Connecting {
        /// Where.
        addresses: Vec<Multiaddr>,
    },
    /// A bootstrap answered.
    Connected {
        /// Who it is.
        peer: PeerId,
        /// The address of the connection.
        address: Multiaddr,
    },
    /// A bootstrap did not answer.
    Unreachable {
        /// Where it was looked for.
        addresses: Vec<Multiaddr>,
        /// Why.
        error: String,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// The connection to a bootstrap is gone.
    Lost {
        /// Who it was.
        peer: PeerId,
        /// Why, for people; `None` where we closed it.
        cause: Option<String>,
    },
    /// The DHT's bootstrap runs.
    DhtStarted {
        /// With whom.
        peer: PeerId,
    },
    /// The DHT knows another peer.
    RoutingUpdated {
        /// Whom.
        peer: PeerId,
    },
    /// The DHT's bootstrap ended.
    DhtBootstrapped {
        /// The query's number.
        query: u64,
    },
    /// The DHT has said nothing in time: what there is to announce is announced all the same.
    FellBack,
    /// A shard was announced.
    Announced {
        /// As it was announced.
        shard: ShardInfo,
    },
    /// A shard was announced as gone.
    Withdrawn {
        /// The shard.
        shard_id: u32,
    },
    /// A gateway or spare was announced.
    MemberAnnounced {
        /// Which of both.
        role: Role,
    },
    /// No peer stored that: tried again soon.
    MemberNotStored {
        /// Which of both.
        role: Role,
        /// Why.
        error: String,
    },
    /// Files are being registered.
    Registering {
        /// How many.
        count: usize,
    },
    /// A file was registered, for the first time or after it could not be.
    FileRegistered {
        /// The file.
        file: FileInfo,
    },
    /// No peer stored a file's record: tried again soon.
    FileNotRegistered {
        /// The file.
        file: FileInfo,
        /// Why.
        error: String,
    },
    /// A file is there no longer, and provided no longer.
    FileWithdrawn {
        /// The file.
        file: FileInfo,
    },
    /// A lookup found nothing: whoever would announce it has not yet.
    NotFound {
        /// The query's number.
        query: u64,
        /// The key.
        key: String,
    },
    /// Fewer peers than wanted stored a record: it is put again.
    QuorumFailed {
        /// The query's number.
        query: u64,
        /// The key.
        key: String,
        /// Peers that stored it.
        stored: usize,
        /// Peers that were to.
        quorum: usize,
    },
    /// No peer stored an announcement: expected while alone, tried again soon.
    NotStored {
        /// The shard.
        shard_id: u32,
        /// Why.
        error: String,
    },
}

/// What is told of an announcement.
pub(super) fn told(said: Said, result: Result<(), String>) -> JoinReport {
    match (said, result) {
        (Said::Shard(shard), Ok(())) if shard.state == ReplicaState::Left => {
            JoinReport::Withdrawn { shard_id: shard.shard_id }
        }
        (Said::Shard(shard), Ok(())) => JoinReport::Announced { shard },
        (Said::Shard(shard), Err(error)) => JoinReport::NotStored { shard_id: shard.shard_id, error },
        (Said::Member { member, .. }, Ok(())) => JoinReport::MemberAnnounced { role: member.role },
        (Said::Member { member, .. }, Err(error)) => JoinReport::MemberNotStored { role: member.role, error },
    }
}
