//! What a node joins with.

use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use shard_wire::announce::{FileInfo, MemberInfo, ShardInfo};
use tokio::sync::watch;

/// One entry to the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who must answer, where that is known.
    pub peer: Option<PeerId>,
    /// Where, the preferred first.
    pub addresses: Vec<Multiaddr>,
}

/// What a node joins with.
#[derive(Debug)]
pub struct JoinerConfig {
    /// The cluster.
    pub cluster: String,
    /// Signs announcements; the network's own.
    pub keypair: Keypair,
    /// Start of this process, milliseconds since the Unix epoch.
    pub incarnation: u64,
    /// The bootstraps.
    pub entries: Vec<Entry>,
    /// The shards to announce, as they are at any moment; `None` for gateways and tools.
    pub shards: Option<watch::Receiver<Vec<ShardInfo>>>,
    /// What to announce beside shards: a gateway always, a node while it is a spare.
    pub member: Option<watch::Receiver<Option<MemberInfo>>>,
    /// The files to register, whole and verified ones.
    pub files: Option<watch::Receiver<Vec<FileInfo>>>,
    /// Announcements are repeated at this interval.
    pub refresh_interval: Duration,
}
