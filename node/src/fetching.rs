//! Fetches files of the plan from peers: who may have one, the bar on the console, and the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use shard_wire::manifest;
use shard_wire::pipeline::Download as Announced;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::cluster::ClusterView;
use crate::files::Files;
use crate::library::Library;
use crate::net::Network;
use crate::report::{self, Console};
use crate::store::leftover;
use crate::torrent::DownloadError;
use crate::torrent::download::{Downloads, Phase, Progress};
use crate::torrent::seeders;
use crate::torrents::Known;

/// A file that nobody is known to have by then is not found; it is looked for again later.
const NOBODY: Duration = Duration::from_secs(15);
/// Between two looks at whether anybody has turned up.
const LOOK: Duration = Duration::from_secs(1);

/// Why a file was not fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The disk's fault, or the manifest's.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// Nobody has it.
    #[error("no peer is known to have {name}: start one that seeds it, or a server with --model-source")]
    Nobody {
        /// The file.
        name: String,
    },
}

impl FetchError {
    /// There is no room for it.
    fn is_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::Download(DownloadError::Write { source, .. } | DownloadError::Open { source, .. }) => {
                matches!(source.kind(), StorageFull | QuotaExceeded)
            }
            _ => false,
        }
    }
}

/// Fetches files. Clones share the downloads.
#[derive(Clone)]
pub struct Fetcher {
    /// The network.
    pub network: Network,
    /// The folder's downloads.
    pub downloads: Downloads,
    /// Who says to have what.
    pub known: Known,
    /// Who serves what: a replica has its shard's file.
    pub view: watch::Receiver<Arc<ClusterView>>,
    /// Where a finished file is listed.
    pub files: Files,
    /// Tells the user.
    pub console: Console,
}

impl Fetcher {
    /// Fetches one file of the plan, and tells on `progress` how far it is. Where the disk is full, what earlier plans
    /// have left makes room.
    ///
    /// # Errors
    /// See [`FetchError`]. What has come is kept for the next try.
    pub async fn file(
        &self,
        library: &Library,
        file: &manifest::File,
        mut progress: impl FnMut(Announced),
    ) -> Result<(), FetchError> {
        match self.try_file(library, file, &mut progress).await {
            Err(error) if error.is_full() && self.tidy(library).await > 0 => {
                self.try_file(library, file, &mut progress).await
            }
            result => result,
        }
    }

    /// Removes what earlier plans have left in the folder; how many files that were.
    pub async fn tidy(&self, library: &Library) -> usize {
        let (dir, manifest) = (library.dir().to_owned(), library.manifest.clone());
        let removed = match tokio::task::spawn_blocking(move || leftover::remove(&dir, &manifest)).await {
            Ok(Ok(removed)) => removed,
            Ok(Err(error)) => {
                tracing::warn!("{}: files of an earlier plan stay: {error}", library.dir().display());
                return 0;
            }
            Err(error) => {
                tracing::warn!("{error}");
                return 0;
            }
        };
        for leftover::Removed { name, sha256, size } in &removed {
            self.files.remove(name, sha256);
            self.console.say(&report::leftover_removed(name, *size));
        }
        removed.len()
    }

    async fn try_file(
        &self,
        library: &Library,
        file: &manifest::File,
        mut progress: impl FnMut(Announced),
    ) -> Result<(), FetchError> {
        let begun = Instant::now();
        let seeders =
            seeders::follow(self.network.clone(), file.sha256.clone(), self.hints(&library.plan, file));
        let mut download = self.downloads.fetch(&library.manifest, &file.name, seeders.clone());
        let mut watched = download.progress();
        let mut bar = self.console.bar();
        let (mut begun_said, mut banned, mut most_peers, mut lonely) = (false, None, 0, Instant::now());
        let result = loop {
            let now = *watched.borrow_and_update();
            if now.phase == Phase::Fetching && !begun_said {
                begun_said = true;
                self.console.say(&report::download_begun(&file.name, file.size, now.reused));
            }
            if begun_said {
                bar.download(&shown(&file.name, &now));
            }
            if let Some((peer, piece)) = now.banned.filter(|_| now.banned != banned) {
                banned = now.banned;
                let reason = format!("piece {piece} does not have its hash");
                self.console.say(&report::peer_banned(&file.name, &peer, &reason));
            }
            most_peers = most_peers.max(now.peers);
            progress(announced(&now));
            // One that fetches, or reads what is here, is not waiting for anybody.
            if now.phase != Phase::Fetching || !seeders.borrow().is_empty() {
                lonely = Instant::now();
            } else if lonely.elapsed() > NOBODY {
                return Err(FetchError::Nobody { name: file.name.clone() });
            }
            tokio::select! {
                result = download.finished() => break result,
                // The sender is gone when the result is there.
                changed = watched.changed() => if changed.is_err() { sleep(LOOK).await },
                () = sleep(LOOK) => {}
            }
        };
        drop(bar);
        let end = *watched.borrow();
        match result {
            Ok(_) => {
                if begun_said {
                    let took = begun.elapsed();
                    self.console.say(&report::download_done(
                        &file.name,
                        end.fetched,
                        end.reused,
                        took,
                        most_peers,
                    ));
                }
                self.files.add(&file.name, file.size, &file.sha256);
                Ok(())
            }
            Err(error) => {
                self.console.say(&report::download_failed(&file.name, &error.to_string(), None));
                Err(error.into())
            }
        }
    }

    /// Who is known to have a file, beside the DHT: those that say so, and those that serve the shard.
    fn hints(&self, plan: &str, file: &manifest::File) -> watch::Receiver<Vec<PeerId>> {
        let (known, mut view) = (self.known.clone(), self.view.clone());
        let (plan, file, mut changes) = (plan.to_owned(), file.clone(), known.changes());
        let all = move |known: &Known, view: &ClusterView| {
            let mut peers = known.read(|registry| registry.seeders(&file.sha256));
            let same = |replica: &&crate::cluster::Replica| {
                replica.serves() && replica.shard.plan == plan && replica.shard.layers == file.layers()
            };
            for replica in view.replicas.iter().filter(same) {
                if !peers.contains(&replica.peer) {
                    peers.push(replica.peer);
                }
            }
            peers
        };
        let first = all(&known, &view.borrow_and_update());
        let (publish, hints) = watch::channel(first);
        tokio::spawn(async move {
            loop {
                let open = tokio::select! {
                    () = publish.closed() => false,
                    changed = changes.changed() => changed.is_ok(),
                    changed = view.changed() => changed.is_ok(),
                };
                if !open {
                    return;
                }
                let now = all(&known, &view.borrow_and_update());
                publish.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
            }
        });
        hints
    }
}

fn shown(name: &str, progress: &Progress) -> report::Download {
    report::Download {
        file: name.to_owned(),
        done: progress.done,
        total: progress.total,
        rate: progress.bytes_per_s,
        peers: progress.peers as u32,
    }
}

fn announced(progress: &Progress) -> Announced {
    let percent =
        if progress.total == 0 { 0.0 } else { progress.done as f32 * 100.0 / progress.total as f32 };
    Announced { percent, bytes_per_s: progress.bytes_per_s, peers: progress.peers as u32 }
}
