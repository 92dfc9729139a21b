//! The model files that a node has and gives: what a scan of its folder found, and what it has fetched since.
//!
//! ```text
//! folder ─ scan ─┐
//! downloads ─────┼─▶ Files ─▶ shelf (pieces for peers), Known (SYNC_TORRENTS, LIST_FILES), records in the DHT
//! manifest ──────┘
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use shard_wire::command::{MAX_FILES, TorrentFile, TorrentPlan, Torrents};
use tokio::sync::watch;

use crate::library::Library;
use crate::report::{self, Console};
use crate::store::scan::{self, Found, Scan};
use crate::torrent::serve::{Served, Shelf};
use crate::torrents::Known;

/// The files of one node. Clones share them.
#[derive(Clone)]
pub struct Files {
    shelf: Shelf,
    known: Known,
    has: Arc<Mutex<Has>>,
    listed: watch::Sender<Vec<TorrentFile>>,
}

#[derive(Default)]
struct Has {
    files: BTreeMap<String, TorrentFile>,
    plan: Option<String>,
}

impl Files {
    /// None yet.
    pub fn new(shelf: Shelf, known: Known) -> Self {
        Self { shelf, known, has: Arc::default(), listed: watch::channel(Vec::new()).0 }
    }

    /// Finds, hashes and gives every `.gguf` file of the folder. A folder that is not there has none.
    pub async fn scan(&self, folder: PathBuf, total_shards: Option<u32>, console: Console) {
        let total = total_shards.unwrap_or_default();
        let shown = folder.display().to_string();
        let found = tokio::task::spawn_blocking(move || scan::scan(&folder, total, None, &mut |_| {})).await;
        let scan = match found {
            Ok(Ok(scan)) => scan,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Scan::default(),
            Ok(Err(error)) => return tracing::warn!("{shown}: {error}: nothing is seeded from there"),
            Err(error) => return tracing::warn!("{shown}: {error}"),
        };
        tell(&scan, total, console);
        self.shelf.offer_found(&scan.found);
        let file = |Found { name, size, sha256, .. }| TorrentFile {
            name,
            size,
            info_hash: sha256,
            seeders: Vec::new(),
        };
        // More than one message lists are given all the same, to who knows their hash.
        let listed = scan.found.into_iter().take(MAX_FILES).map(file);
        self.change(|has| has.files = listed.map(|file| (file.name.clone(), file)).collect());
    }

    /// A file of the plan is here, whole; the download has put it on the shelf.
    pub fn add(&self, name: &str, size: u64, sha256: &str) {
        let (name, info_hash) = (name.to_owned(), sha256.to_owned());
        let file = TorrentFile { name: name.clone(), size, info_hash, seeders: Vec::new() };
        let mut replaced = None;
        self.change(|has| replaced = has.files.insert(name, file));
        // Of an earlier plan.
        if let Some(old) = replaced.filter(|old| old.info_hash != sha256) {
            self.shelf.withdraw(&old.info_hash);
        }
    }

    /// A file is gone: it is given and named no longer.
    pub fn remove(&self, name: &str, sha256: &str) {
        self.shelf.withdraw(sha256);
        self.change(|has| has.files.retain(|known, file| known != name || file.info_hash != sha256));
    }

    /// The plan that this node is of: its manifest is given, too.
    pub fn plan(&self, library: &Library) {
        self.shelf.offer_manifest(&library.plan, Arc::new(library.bytes.clone()));
        self.change(|has| has.plan = Some(library.plan.clone()));
    }

    /// What is here, at any moment.
    pub fn listed(&self) -> watch::Receiver<Vec<TorrentFile>> {
        self.listed.subscribe()
    }

    /// Whether a file with this content is here.
    pub fn holds(&self, sha256: &str) -> bool {
        self.listed.borrow().iter().any(|file| file.info_hash == sha256)
    }

    fn change(&self, change: impl FnOnce(&mut Has)) {
        let mut has = self.has.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut has);
        let files: Vec<TorrentFile> = has.files.values().cloned().collect();
        let plans = has.plan.iter().map(|plan| TorrentPlan { plan: plan.clone(), ..TorrentPlan::default() });
        self.known.own(Torrents { files: files.clone(), plans: plans.collect(), origin: None });
        self.listed.send_replace(files);
    }
}

/// What has left this node, for `/status`: bytes of each file, how many pieces were given how often, and how many no peer
/// has confirmed.
pub fn served(shelf: &Shelf) -> Value {
    let served = shelf.served().into_iter().filter(|served| served.bytes > 0);
    let one = |Served { sha256, bytes, pieces, pending }| {
        let pieces: Vec<Value> =
            pieces.iter().map(|(times, count)| json!({ "times": times, "pieces": count })).collect();
        json!({ "sha256": sha256, "bytes": bytes, "pieces": pieces, "pending": pending })
    };
    served.map(one).collect()
}

fn tell(scan: &Scan, total_shards: u32, console: Console) {
    console.say(&report::files_found(scan.found.len()));
    for file in scan.found.iter().filter(|file| file.primary) {
        console.say(&report::seeding_primary(&file.name, &file.sha256));
    }
    for file in scan.found.iter().filter(|file| !file.primary) {
        console.say(&report::found_additional(&file.name));
    }
    for skipped in &scan.skipped {
        console.say(&report::not_seeding(&skipped.name, &skipped.why));
    }
    let primary = scan.found.iter().filter(|file| file.primary).count();
    console.say(&report::seeding_complete(primary, total_shards, scan.found.len() - primary));
}
