//! Tells the console what happens while joining, and syncs torrents with every bootstrap that is reached.

use libp2p::PeerId;
use tokio::sync::mpsc;

use crate::joiner::JoinReport;
use crate::net::Network;
use crate::report::{self, Console};
use crate::torrents::{self, Known};

pub(super) struct Narrator {
    console: Console,
    cluster: String,
    me: PeerId,
    reached: mpsc::Sender<PeerId>,
}

impl Narrator {
    pub(super) fn new(console: Console, cluster: &str, network: &Network, known: &Known) -> Self {
        let (reached, bootstraps) = mpsc::channel(torrents::REACHED);
        tokio::spawn(torrents::follow(network.clone(), known.clone(), console, bootstraps));
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
            JoinReport::Lost { peer, cause } => {
                console.say(&report::peer_disconnected(&peer, cause.as_deref()));
            }
            JoinReport::DhtStarted { peer } => {
                console.say(&report::dht_started(&peer, crate::join::FALLBACK));
            }
            JoinReport::RoutingUpdated { peer } => {
                console.say(&report::routing_updated(&peer, !std::mem::replace(&mut routed, true)));
            }
            JoinReport::DhtBootstrapped { query } => console.say(&report::dht_bootstrapped(query)),
            JoinReport::FellBack => console.say(&report::fallback_announcement(crate::join::FALLBACK)),
            JoinReport::Withdrawn { shard_id } => console.say(&report::withdrawn(shard_id)),
            JoinReport::QuorumFailed { query, key, stored, quorum } => {
                console.say(&report::quorum_failed(query, &key, stored, quorum));
            }
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
