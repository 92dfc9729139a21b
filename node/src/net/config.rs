//! What a peer is told before it starts.

use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::identity::Keypair;

use super::{Secrets, Transport};

/// Whether a peer stores records for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DhtMode {
    /// It does: bootstrap and shard nodes.
    Server,
    /// It only asks: gateways, tools, nodes behind NAT.
    Client,
}

/// What a peer is.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Its identity.
    pub keypair: Keypair,
    /// The cluster: names the DHT.
    pub cluster: String,
    /// Its name in identify, see [`shard_wire::keys::identify`].
    pub identify: String,
    /// What its members know: who does not is no peer. `None` is an open cluster.
    pub secrets: Option<Secrets>,
    /// How it dials and listens.
    pub transport: Transport,
    /// Whether it stores records.
    pub dht: DhtMode,
    /// How long a record lives without being announced again.
    pub record_ttl: Duration,
    /// How long a connection that nobody uses or keeps stays open.
    pub idle_timeout: Duration,
    /// Addresses that others reach it at, beside those it listens on.
    pub external_addresses: Vec<Multiaddr>,
}

impl NetConfig {
    /// A peer with the timings of the network contract and a refresh interval of 300 s.
    pub fn new(
        keypair: Keypair,
        cluster: impl Into<String>,
        identify: impl Into<String>,
        dht: DhtMode,
    ) -> Self {
        Self {
            keypair,
            cluster: cluster.into(),
            identify: identify.into(),
            secrets: None,
            transport: Transport::Dual,
            dht,
            record_ttl: Duration::from_secs(3 * 300),
            idle_timeout: Duration::from_secs(60),
            external_addresses: Vec::new(),
        }
    }
}
