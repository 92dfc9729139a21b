//! Peers for tests: loopback, free ports, deadlines instead of sleeps.

#![allow(dead_code, unreachable_pub, reason = "each test program is a crate and uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests, outside a test function")]

use std::future::Future;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use shard_node::config::Transport;
use shard_node::net::{self, DhtMode, Inbound, NetConfig, Network, Secrets};
use tokio::sync::mpsc;

/// The cluster of all tests.
pub const CLUSTER: &str = "test-cluster";

/// Waits, but not for ever.
pub async fn deadline<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("nothing happened within 20 s")
}

/// What the members of a closed cluster know; the current secret first.
pub fn secrets(names: &[&str]) -> Option<Secrets> {
    let lines: Vec<String> =
        names.iter().map(|name| format!("{name}: a secret of these tests, long enough")).collect();
    Some(Secrets::parse(lines.join("\n").as_bytes(), "a test").unwrap())
}

/// Reads an address.
pub fn multiaddr(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

/// A peer that listens on loopback.
pub struct Peer {
    pub network: Network,
    pub keypair: Keypair,
    pub requests: Option<mpsc::Receiver<Inbound>>,
}

impl Peer {
    pub async fn start(dht: DhtMode, transport: Transport) -> Self {
        Self::with(dht, transport, |_| {}).await
    }

    pub async fn with(dht: DhtMode, transport: Transport, change: impl FnOnce(&mut NetConfig)) -> Self {
        let keypair = Keypair::generate_ed25519();
        let mut config =
            NetConfig::new(keypair.clone(), CLUSTER, shard_wire::keys::identify(CLUSTER, None), dht);
        config.transport = transport;
        change(&mut config);
        let (network, requests) = net::spawn(config).unwrap();
        if transport != Transport::Quic {
            deadline(network.listen(multiaddr("/ip4/127.0.0.1/tcp/0"))).await.unwrap();
        }
        if transport != Transport::Tcp {
            deadline(network.listen(multiaddr("/ip4/127.0.0.1/udp/0/quic-v1"))).await.unwrap();
        }
        Self { network, keypair, requests: Some(requests) }
    }

    /// A member of the cluster with these secrets.
    pub async fn member(dht: DhtMode, transport: Transport, names: &[&str]) -> Self {
        Self::with(dht, transport, |config| config.secrets = secrets(names)).await
    }

    pub async fn addresses(&self) -> Vec<Multiaddr> {
        self.network.listen_addresses().await
    }
}
