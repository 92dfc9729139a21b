//! Finds the replicas of a cluster in the DHT, stays connected to them, and shows what it knows on a watch channel.
//!
//! ```text
//! every second (every 5 s once complete; at once when somebody connects or is lost):
//!   for each shard id:  providers of {cluster}/shard/{id} ─▶ each one's {cluster}/shard/{id}/{peer}
//!                       {cluster}/shard/{id}, the last announcement of any replica
//!   each record: signature, bounds, owner ─▶ Cluster ─▶ dial and keep ─▶ ClusterView
//! ```
//! Nothing is told who the shards are. Without a record that names a count, the first ids are looked up, more in each
//! round.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use libp2p::PeerId;
use shard_wire::keys::{MAX_SHARDS, ShardKey};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;

use crate::clock::sleep_until;
use crate::cluster::{Cluster, ClusterView};
use crate::net::signed::{self, Announced};
use crate::net::{NetEvent, Network};

/// Between two rounds while layers are missing, and while none is.
const INCOMPLETE: Duration = Duration::from_secs(1);
const COMPLETE: Duration = Duration::from_secs(5);
/// Between two rounds whatever happens: a burst of events is one round.
const SOONEST: Duration = Duration::from_millis(200);
/// A lookup may wait for peers that are gone; what it has found by then is what there is.
const LOOKUP: Duration = Duration::from_secs(3);
/// Rounds under way, and lookups in each.
const ROUNDS: usize = 4;
const PARALLEL: usize = 32;
/// Ids that a round without any record looks up first, and how many more the next.
const PROBE: u32 = 8;
/// Records found that wait for the task.
const FOUND: usize = 256;
/// Copies of one record that are read.
const MAX_COPIES: usize = 64;

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
        network,
        config,
        view,
        found,
        kept: HashSet::new(),
        dials: JoinSet::new(),
        rounds: JoinSet::new(),
        probe: PROBE,
        last_round: None,
        hurry: false,
    };
    tokio::spawn(task.run(events, records));
    receiver
}

struct Task {
    network: Network,
    config: WatchConfig,
    cluster: Cluster,
    view: watch::Sender<Arc<ClusterView>>,
    found: mpsc::Sender<Announced>,
    kept: HashSet<PeerId>,
    /// One for each replica at most.
    dials: JoinSet<(PeerId, bool)>,
    rounds: JoinSet<()>,
    probe: u32,
    last_round: Option<Instant>,
    /// Something happened since the last round began.
    hurry: bool,
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
            let wake = self.cluster.next_dial().into_iter().chain(self.next_round(Instant::now())).min();
            tokio::select! {
                () = self.view.closed() => return,
                Some(announced) = records.recv() => self.cluster.on_announced(announced, Instant::now()),
                event = events.recv() => match event {
                    Ok(event) => self.on_network(&event),
                    Err(broadcast::error::RecvError::Lagged(_)) => self.resync().await,
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                Some(Ok((peer, reached))) = self.dials.join_next() => {
                    self.cluster.on_dialled(peer, reached, Instant::now());
                }
                Some(_) = self.rounds.join_next() => self.on_round_end(),
                () = sleep_until(wake) => {}
            }
            self.act().await;
        }
    }

    fn on_network(&mut self, event: &NetEvent) {
        match *event {
            NetEvent::Connected { peer, .. } => self.cluster.on_connected(peer),
            NetEvent::Disconnected { peer } => self.cluster.on_disconnected(peer),
            NetEvent::RoutingUpdated { .. } => {}
            NetEvent::Bootstrapped | NetEvent::Listening { .. } | NetEvent::ListeningEnded { .. } => return,
        }
        self.hurry = true;
    }

    async fn resync(&mut self) {
        if let Ok(snapshot) = self.network.snapshot().await {
            self.cluster.reset_connected(snapshot.peers.into_iter().map(|entry| entry.peer));
        }
    }

    /// When the next round is due. It does not wait for the last one, which may wait for peers that are gone.
    fn next_round(&self, now: Instant) -> Option<Instant> {
        let complete = self.view.borrow().complete();
        let pause = match (self.hurry, complete) {
            (true, _) => SOONEST,
            (false, true) => COMPLETE,
            (false, false) => INCOMPLETE,
        };
        (self.rounds.len() < ROUNDS).then(|| self.last_round.map_or(now, |last| last + pause))
    }

    /// Shows what is known, dials who is missing, keeps who is followed, looks up when it is time.
    async fn act(&mut self) {
        let now = Instant::now();
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
        if self.next_round(now).is_some_and(|at| at <= now) {
            self.last_round = Some(now);
            self.hurry = false;
            self.rounds.spawn(round(
                self.network.clone(),
                self.config.cluster.clone(),
                self.cluster.named_shards().unwrap_or(self.probe),
                self.found.clone(),
            ));
        }
    }

    fn on_round_end(&mut self) {
        self.cluster.forget(Instant::now());
        if self.cluster.named_shards().is_none() {
            self.probe = (self.probe + PROBE).min(MAX_SHARDS);
        }
    }
}

/// Looks every shard up once.
async fn round(network: Network, cluster: String, shards: u32, found: mpsc::Sender<Announced>) {
    let reader = Reader { network, cluster, found };
    stream::iter(0..shards).for_each_concurrent(PARALLEL, |id| reader.shard(id)).await;
}

struct Reader {
    network: Network,
    cluster: String,
    found: mpsc::Sender<Announced>,
}

impl Reader {
    /// The replicas of one shard: those that provide its key, and the one that announced last.
    async fn shard(&self, id: u32) {
        let last = self.record(ShardKey::Shard(id));
        let replicas = async {
            let providers = self.network.get_providers(ShardKey::Shard(id).text(&self.cluster)).await;
            let mut seen = HashSet::new();
            let new = stream::unfold(providers, |mut providers| async {
                providers.recv().await.map(|peer| (peer, providers))
            })
            .filter(|peer| std::future::ready(seen.insert(*peer)));
            new.for_each_concurrent(PARALLEL, |peer| self.record(ShardKey::Replica(id, peer.to_string())))
                .await;
        };
        // Dropped after the deadline, the lookups end.
        let _ = tokio::time::timeout(LOOKUP, futures::future::join(last, replicas)).await;
    }

    /// Reads the copies of one record; every one that is believed counts, the newest wins in the end.
    async fn record(&self, key: ShardKey) {
        let mut copies = self.network.get_records(key.text(&self.cluster)).await;
        let mut newest: Option<u64> = None;
        for _ in 0..MAX_COPIES {
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
