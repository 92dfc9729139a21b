//! Finds the replicas of a cluster in the DHT, stays connected to them, and shows what it knows on a watch channel.
//!
//! ```text
//! every second the shards that nobody serves, every 5 s all; at once when a replica is lost (see rounds):
//!   for each id:  providers of {cluster}/shard/{id} ─▶ each one's {cluster}/shard/{id}/{peer}
//!                 {cluster}/shard/{id}, the last announcement of any replica
//!   each record: signature, bounds, owner ─▶ Cluster ─▶ dial and keep ─▶ ClusterView
//! ```
//! Nothing is told who the shards are. While no record names their number, the first ids are looked up, more each time.

mod rounds;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use libp2p::PeerId;
use shard_wire::keys::ShardKey;
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio::task::JoinSet;

use crate::clock::sleep_until;
use crate::cluster::{Cluster, ClusterView};
use crate::net::signed::{self, Announced};
use crate::net::{NetEvent, Network};

use rounds::Rounds;

/// A lookup may wait for peers that are gone; what it has found by then is what there is.
const LOOKUP: Duration = Duration::from_secs(3);
/// Rounds under way, shards in each that are looked up at once, and records that are read at once: 20 queries, where
/// Kademlia drops what goes beyond 32 streams to one peer.
const ROUNDS: usize = 2;
const SHARDS: usize = 6;
const RECORDS: usize = 8;
/// Records found that wait for the task.
const FOUND: usize = 256;
/// Copies of one record that are read: one may be old.
const COPIES: usize = 3;

/// What to watch.
#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// The cluster.
    pub cluster: String,
    /// A replica that is offline is forgotten when the DHT has not known it for so long: the life of a record.
    pub forget_after: Duration,
}

/// Starts to watch. Ends with the network, or when nobody holds a receiver any more.
pub fn spawn(network: Network, config: WatchConfig) -> watch::Receiver<Arc<ClusterView>> {
    let (view, receiver) = watch::channel(Arc::new(ClusterView::default()));
    let (found, records) = mpsc::channel(FOUND);
    let events = network.events();
    let task = Task {
        cluster: Cluster::new(network.local_peer(), config.forget_after),
        reader: Reader {
            network: network.clone(),
            cluster: config.cluster,
            found,
            permits: Arc::new(Semaphore::new(RECORDS)),
        },
        network,
        view,
        kept: HashSet::new(),
        dials: JoinSet::new(),
        lookups: JoinSet::new(),
        rounds: Rounds::new(),
        changed: true,
    };
    tokio::spawn(task.run(events, records));
    receiver
}

struct Task {
    network: Network,
    cluster: Cluster,
    view: watch::Sender<Arc<ClusterView>>,
    reader: Reader,
    kept: HashSet<PeerId>,
    /// One for each replica at most.
    dials: JoinSet<(PeerId, bool)>,
    lookups: JoinSet<()>,
    rounds: Rounds,
    /// The view may differ from what is shown.
    changed: bool,
}

impl Task {
    async fn run(
        mut self,
        mut events: broadcast::Receiver<NetEvent>,
        mut records: mpsc::Receiver<Announced>,
    ) {
        // Whoever connected before we listened for events.
        self.resync().await;
        loop {
            let wake = self.cluster.next_dial().into_iter().chain(self.next_round()).min();
            tokio::select! {
                () = self.view.closed() => return,
                Some(announced) = records.recv() => {
                    self.changed |= self.cluster.on_announced(announced, Instant::now());
                }
                event = events.recv() => match event {
                    Ok(event) => self.on_network(&event),
                    Err(broadcast::error::RecvError::Lagged(_)) => self.resync().await,
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                Some(Ok((peer, reached))) = self.dials.join_next() => {
                    self.cluster.on_dialled(peer, reached, Instant::now());
                }
                Some(_) = self.lookups.join_next() => self.changed |= self.cluster.forget(Instant::now()),
                () = sleep_until(wake) => {}
            }
            self.act().await;
        }
    }

    fn on_network(&mut self, event: &NetEvent) {
        match *event {
            NetEvent::Connected { peer, .. } => {
                self.cluster.on_connected(peer);
                self.changed = true;
            }
            NetEvent::Disconnected { peer } => {
                self.cluster.on_disconnected(peer);
                self.changed = true;
                self.rounds.hurry();
            }
            // The first peer of the DHT: now there is somebody to ask.
            NetEvent::RoutingUpdated { .. } if self.cluster.named_shards().is_none() => self.rounds.hurry(),
            _ => {}
        }
    }

    async fn resync(&mut self) {
        if let Ok(snapshot) = self.network.snapshot().await {
            self.cluster.reset_connected(snapshot.peers.into_iter().map(|entry| entry.peer));
            self.changed = true;
        }
    }

    /// When the next round is due. It does not wait for the last one, which may wait for peers that are gone.
    fn next_round(&self) -> Option<Instant> {
        let lacking = self.view.borrow().lacking();
        let next = self.rounds.next(self.cluster.named_shards(), &lacking, Instant::now());
        (self.lookups.len() < ROUNDS).then_some(next)
    }

    /// Shows what is known, dials who is missing, keeps who is followed, looks up when it is time.
    async fn act(&mut self) {
        let now = Instant::now();
        if std::mem::take(&mut self.changed) {
            self.show().await;
        }
        for (peer, addresses) in self.cluster.due_dials(now) {
            let network = self.network.clone();
            self.dials.spawn(async move {
                let result = network.dial(Some(peer), addresses).await;
                if let Err(error) = &result {
                    tracing::debug!(%peer, %error, "a replica cannot be reached");
                }
                (peer, result.is_ok())
            });
        }
        if self.lookups.len() >= ROUNDS {
            return;
        }
        let lacking = self.view.borrow().lacking();
        if let Some(ids) = self.rounds.due(self.cluster.named_shards(), &lacking, now) {
            let online = self.cluster.online_shards();
            let ids: Vec<_> = ids.into_iter().map(|id| (id, online.contains(&id))).collect();
            let reader = self.reader.clone();
            self.lookups.spawn(async move {
                stream::iter(ids).for_each_concurrent(SHARDS, |(id, online)| reader.shard(id, online)).await;
            });
        }
    }

    async fn show(&mut self) {
        let view = self.cluster.view();
        self.view.send_if_modified(|shown| {
            let changed = **shown != view;
            if changed {
                *shown = Arc::new(view);
            }
            changed
        });
        let followed = self.cluster.followed();
        for peer in followed.difference(&self.kept) {
            self.network.keep(*peer, true).await;
        }
        for peer in self.kept.difference(&followed) {
            self.network.keep(*peer, false).await;
        }
        self.kept = followed;
    }
}

#[derive(Clone)]
struct Reader {
    network: Network,
    cluster: String,
    found: mpsc::Sender<Announced>,
    permits: Arc<Semaphore>,
}

impl Reader {
    /// The replicas of one shard: those that provide its key, and, while none is online, the one that announced last:
    /// that record is there sooner.
    async fn shard(&self, id: u32, online: bool) {
        let last = async {
            if !online {
                self.record(ShardKey::Shard(id)).await;
            }
        };
        let replicas = async {
            let providers = self.network.get_providers(ShardKey::Shard(id).text(&self.cluster)).await;
            let mut seen = HashSet::new();
            let new = stream::unfold(providers, |mut providers| async {
                providers.recv().await.map(|peer| (peer, providers))
            })
            .filter(|peer| std::future::ready(seen.insert(*peer)));
            new.for_each_concurrent(RECORDS, |peer| self.record(ShardKey::Replica(id, peer.to_string())))
                .await;
        };
        // Dropped after the deadline, the lookups end.
        let _ = tokio::time::timeout(LOOKUP, futures::future::join(last, replicas)).await;
    }

    /// Reads the copies of one record; every one that is believed counts, the newest wins in the end.
    async fn record(&self, key: ShardKey) {
        let Ok(_permit) = self.permits.acquire().await else { return };
        let mut copies = self.network.get_records(key.text(&self.cluster)).await;
        let mut newest: Option<u64> = None;
        for _ in 0..COPIES {
            let Some(copy) = copies.recv().await else { return };
            match signed::open(&self.cluster, &key, &copy) {
                Ok(announced) if newest.is_none_or(|newest| announced.sequence > newest) => {
                    newest = Some(announced.sequence);
                    if self.found.send(announced).await.is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "a record is not believed"),
            }
        }
    }
}
