//! `SYNC_TORRENTS`: who has which files and manifests.
//!
//! ```text
//! node: at every bootstrap reached, and when what it has changes ──mine──▶ bootstrap ─┐
//!         ◀──────────────── the union, as the answer ─────────────────────────────────┤
//! every member that has synced ◀── the union, a moment after it changed ──────────────┘
//! ```

mod registry;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libp2p::PeerId;
use shard_wire::command::{FileList, OriginProgress, TorrentFile, Torrents};
use shard_wire::message::{Request, Response, Status};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

pub use registry::{Full, Registry};

use crate::messages;
use crate::net::{NetEvent, Network};
use crate::report::{self, Console};

/// Changes come in bursts, as when a fleet starts: they are one message.
const SETTLE: Duration = Duration::from_millis(500);
/// Bootstraps that wait to be synced with.
pub const REACHED: usize = 16;
/// A bootstrap that did not answer is asked again.
const AGAIN: Duration = Duration::from_secs(5);
const TRIES: usize = 3;

/// What is known of files and manifests. Clones share it.
#[derive(Clone)]
pub struct Known {
    registry: Arc<Mutex<Registry>>,
    /// Counts changes, and those of what this node itself has.
    changed: watch::Sender<u64>,
    own_changed: watch::Sender<u64>,
}

impl Known {
    /// Nothing is known yet.
    pub fn new(local: PeerId) -> Self {
        let registry = Arc::new(Mutex::new(Registry::new(local)));
        Self { registry, changed: watch::channel(0).0, own_changed: watch::channel(0).0 }
    }

    /// What this node itself has.
    pub fn own(&self, own: Torrents) {
        if self.lock().own(own) {
            self.own_changed.send_modify(|changes| *changes += 1);
            self.bump();
        }
    }

    /// How far this node is, the origin of a model.
    pub fn origin(&self, progress: OriginProgress) {
        let own = Torrents { origin: Some(progress), ..self.read(Registry::mine) };
        self.own(own);
    }

    /// A peer says what it knows. True where that is new.
    ///
    /// # Errors
    /// Where that is more than is remembered.
    pub fn on_report(&self, peer: PeerId, report: Torrents) -> Result<bool, Full> {
        let new = self.lock().on_report(peer, report)?;
        if new {
            self.bump();
        }
        Ok(new)
    }

    /// Reads what is known.
    pub fn read<T>(&self, read: impl FnOnce(&Registry) -> T) -> T {
        read(&self.lock())
    }

    /// Wakes at every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Wakes when what this node itself has changes.
    pub fn own_changes(&self) -> watch::Receiver<u64> {
        self.own_changed.subscribe()
    }

    /// Answer to `LIST_FILES`.
    pub fn list(&self, name: &str) -> Option<FileList> {
        self.lock().list(name)
    }

    fn left(&self, peer: &PeerId) {
        if self.lock().left(peer) {
            self.bump();
        }
    }

    fn forget(&self, peer: &PeerId) {
        if self.lock().forget(peer) {
            self.bump();
        }
    }

    fn bump(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A `SYNC_TORRENTS` request.
pub fn request(torrents: &Torrents) -> Request {
    Request {
        command: "SYNC_TORRENTS".into(),
        request_id: format!("req-{}", uuid::Uuid::new_v4()),
        // Plain data of ours; serde_json cannot fail on it.
        params: serde_json::to_value(torrents).unwrap_or_default(),
    }
}

/// Tells a bootstrap what this node has, and remembers what it answers; the console tells of both. False where it does
/// not answer or refuses.
async fn sync(network: &Network, known: &Known, console: Console, bootstrap: PeerId) -> bool {
    console.say(&report::sync_begun(&bootstrap));
    let before = known.read(Registry::union);
    match exchange(network, known, console, bootstrap).await {
        Ok(torrents) => {
            let had = |file: &TorrentFile| before.files.iter().any(|one| one.info_hash == file.info_hash);
            let new = torrents.files.iter().filter(|file| !had(file)).count();
            let seeders: BTreeSet<&String> = torrents.files.iter().flat_map(|file| &file.seeders).collect();
            console.say(&report::sync_done(&bootstrap, torrents.files.len(), seeders.len(), new));
            true
        }
        Err(error) => {
            console.say(&report::sync_failed(&bootstrap, &error));
            false
        }
    }
}

async fn exchange(
    network: &Network,
    known: &Known,
    console: Console,
    bootstrap: PeerId,
) -> Result<Torrents, String> {
    let request = request(&known.read(Registry::mine));
    let answer = messages::ask(network, console, bootstrap, request).await;
    let torrents = answered(answer.map_err(|error| error.to_string())?)?;
    known.on_report(bootstrap, torrents.clone()).map_err(|full| full.to_string())?;
    Ok(torrents)
}

fn answered(response: Response) -> Result<Torrents, String> {
    if response.status != Status::Ok {
        return Err(response.error.map_or_else(String::new, |error| error.message));
    }
    let torrents: Torrents = serde_json::from_value(response.data).map_err(|error| error.to_string())?;
    torrents.check().map_err(|error| error.to_string())?;
    Ok(torrents)
}

/// Syncs with each bootstrap when it is reached, and with all of them when what this node has changes. What one said that
/// is gone is still where to ask; only that it is there is not so.
pub async fn follow(network: Network, known: Known, console: Console, mut reached: mpsc::Receiver<PeerId>) {
    let mut bootstraps: Vec<PeerId> = Vec::new();
    let (mut own, mut events) = (known.own_changes(), network.events());
    loop {
        let now = tokio::select! {
            // Who has come back is not to be taken for gone because both are heard of late.
            biased;
            event = events.recv() => {
                let Some(gone) = gone(event, &network, &known).await else { return };
                gone.iter().for_each(|peer| known.left(peer));
                continue;
            }
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
            tokio::spawn(sync_again(network.clone(), known.clone(), console, peer));
        }
    }
}

async fn sync_again(network: Network, known: Known, console: Console, bootstrap: PeerId) {
    for _ in 0..TRIES {
        if sync(&network, &known, console, bootstrap).await {
            return;
        }
        sleep(AGAIN).await;
    }
}

/// The bootstrap's side: forgets members that are gone and passes changes on, until the network ends.
pub async fn pass_on(network: Network, known: Known) {
    let (mut changes, mut events) = (known.changes(), network.events());
    loop {
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                sleep(SETTLE).await;
                changes.mark_unchanged();
                tell(&network, &known);
            }
            event = events.recv() => {
                let Some(gone) = gone(event, &network, &known).await else { return };
                for peer in gone {
                    known.forget(&peer);
                    network.keep(peer, false).await;
                }
            }
        }
    }
}

/// Who is not connected any more; `None` where the network has ended.
async fn gone(event: Result<NetEvent, RecvError>, network: &Network, known: &Known) -> Option<Vec<PeerId>> {
    match event {
        Ok(NetEvent::Disconnected { peer, .. }) => Some(vec![peer]),
        Ok(_) => Some(Vec::new()),
        Err(RecvError::Lagged(_)) => {
            let snapshot = network.snapshot().await.ok()?;
            let connected: BTreeSet<PeerId> = snapshot.peers.iter().map(|entry| entry.peer).collect();
            let mut members = known.read(Registry::members);
            members.retain(|peer| !connected.contains(peer));
            Some(members)
        }
        Err(RecvError::Closed) => None,
    }
}

/// Sends the union to every member that has synced.
fn tell(network: &Network, known: &Known) {
    let (members, union) = known.read(|registry| (registry.members(), registry.union()));
    for peer in members {
        let (network, request) = (network.clone(), request(&union));
        tokio::spawn(async move {
            if let Err(error) = network.request(peer, request).await {
                tracing::debug!(%peer, %error, "a member was not told of a change");
            }
        });
    }
}

/// The files of a folder as messages name them.
pub fn named(files: impl IntoIterator<Item = (String, u64, String)>) -> Vec<TorrentFile> {
    let file = |(name, size, info_hash)| TorrentFile { name, size, info_hash, seeders: Vec::new() };
    files.into_iter().map(file).collect()
}
