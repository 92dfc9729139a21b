//! Tells the console what happens while joining, and syncs torrents with every bootstrap that is reached.

use std::time::Duration;

use libp2p::PeerId;
use tokio::sync::mpsc;

use crate::joiner::JoinReport;
use crate::net::Network;
use crate::report::{self, Console};
use crate::torrents::{self, Known};

/// Bootstraps that wait to be synced with.
const REACHED: usize = 16;
/// A bootstrap that did not answer is asked again.
const AGAIN: Duration = Duration::from_secs(5);
const TRIES: usize = 3;

pub(super) struct Narrator {
    console: Console,
    cluster: String,
    me: PeerId,
    reached: mpsc::Sender<PeerId>,
}

impl Narrator {
    pub(super) fn new(console: Console, cluster: &str, network: &Network, known: &Known) -> Self {
        let (reached, bootstraps) = mpsc::channel(REACHED);
        tokio::spawn(sync_each(network.clone(), known.clone(), bootstraps));
        Self { console, cluster: cluster.to_owned(), me: network.local_peer(), reached }
    }

    pub(super) fn listen(self) -> impl FnMut(JoinReport) + Send + 'static {
        let Self { console, cluster, me, reached } = self;
        let mut routed = false;
        // Files that are being registered: all of them, and those that are not yet.
        let (mut registering, mut left) = (0, 0);
        move |event| match event {
            JoinReport::Connecting { .. } => console.say(&report::connecting()),
            JoinReport::Connected { peer, address } => {
                console.say(&report::connected(&peer, &address));
                // Full: as many are being synced with already.
                let _ = reached.try_send(peer);
            }
            JoinReport::Unreachable { error, retry_in, .. } => {
                console.say(&report::connect_failed(&error, retry_in));
            }
            JoinReport::Lost { peer } => console.say(&report::peer_disconnected(&peer, None)),
            JoinReport::DhtStarted { peer } => {
                console.say(&report::dht_started(&peer, crate::join::FALLBACK));
            }
            JoinReport::RoutingUpdated { peer } => {
                console.say(&report::routing_updated(&peer, !std::mem::replace(&mut routed, true)));
            }
            JoinReport::DhtBootstrapped => console.say(&report::dht_bootstrapped(0)),
            JoinReport::Announced { shard } => {
                let loaded = shard.capabilities.shard_loaded;
                console.say(&report::announced(&cluster, shard.shard_id, &me, shard.layers, loaded));
            }
            JoinReport::Registering { count } => {
                (registering, left) = (count, count);
                console.say(&report::registering_files(count));
            }
            JoinReport::FileRegistered { file } => {
                console.say(&report::file_registered(&file.name, &file.info_hash));
                left = usize::saturating_sub(left, 1);
                if left == 0 {
                    console.say(&report::files_registered(registering));
                }
            }
            JoinReport::FileNotRegistered { file, error } => {
                console.say(&report::file_not_registered(&file.name, &error));
            }
            JoinReport::FileWithdrawn { file } => tracing::info!(name = file.name, "no longer registered"),
            JoinReport::MemberAnnounced { role } => tracing::info!(?role, "announced"),
            JoinReport::MemberNotStored { role, error } => tracing::warn!(?role, error, "not announced"),
            JoinReport::NotFound { query, key } => console.say(&report::record_not_found(query, &key)),
            JoinReport::NotStored { shard_id, error } => {
                console.say(&report::announce_failed(shard_id, &error));
            }
        }
    }
}

/// Syncs with each bootstrap when it is reached, and with all of them when what this node has changes.
async fn sync_each(network: Network, known: Known, mut reached: mpsc::Receiver<PeerId>) {
    let mut bootstraps: Vec<PeerId> = Vec::new();
    let mut own = known.own_changes();
    loop {
        let now = tokio::select! {
            peer = reached.recv() => match peer {
                Some(peer) => {
                    bootstraps.retain(|known| *known != peer);
                    bootstraps.push(peer);
                    vec![peer]
                }
                None => return,
            },
            changed = own.changed() => match changed {
                Ok(()) => bootstraps.clone(),
                Err(_) => return,
            },
        };
        for peer in now {
            tokio::spawn(sync(network.clone(), known.clone(), peer));
        }
    }
}

async fn sync(network: Network, known: Known, bootstrap: PeerId) {
    for _ in 0..TRIES {
        match torrents::sync(&network, &known, bootstrap).await {
            Ok(_) => return,
            Err(error) => tracing::warn!(%bootstrap, "SYNC_TORRENTS: {error}"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}
