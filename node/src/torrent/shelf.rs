//! What this node gives to peers: manifests, whole files, and the verified pieces of files that it is fetching.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use libp2p::PeerId;
use shard_wire::manifest::{self, Manifest};
use shard_wire::torrent::Bits;
use tokio::sync::{Semaphore, watch};

use super::buffers::Buffers;
use super::content::{Content, FileContent};
use super::ledger::{Layout, Ledger};
use super::limit::Limit;
use crate::library::Library;
use crate::net::hex;
use crate::store::scan::{self, Found};

/// Streams that are given pieces at once; each has two pieces in memory.
const SLOTS: usize = 16;
/// Files on the shelf; beyond it they are not seeded.
const MAX_FILES: usize = scan::MAX_FILES;

/// How this node gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShelfOptions {
    /// Streams that are given pieces at once; others are told that it is busy.
    pub slots: usize,
    /// Bytes per second to all of them.
    pub upload_limit: Option<u64>,
    /// No piece leaves a second time before every piece of its file has left once: for the origin of a model.
    pub initial_seeding: bool,
}

impl Default for ShelfOptions {
    fn default() -> Self {
        Self { slots: SLOTS, upload_limit: None, initial_seeding: false }
    }
}

/// What this node gives to peers. Clones share it.
#[derive(Clone)]
pub struct Shelf {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    initial_seeding: bool,
    entries: RwLock<Entries>,
    pub(super) slots: Arc<Semaphore>,
    pub(super) limit: Limit,
    pub(super) buffers: Buffers,
}

#[derive(Default)]
struct Entries {
    manifests: HashMap<[u8; 32], Arc<Vec<u8>>>,
    /// Of files of those manifests.
    layouts: HashMap<[u8; 32], Arc<Layout>>,
    files: HashMap<[u8; 32], Arc<Entry>>,
}

/// A file, whole or in the making.
pub(super) struct Entry {
    pub(super) content: Arc<dyn Content>,
    /// Where its pieces lie, if a manifest says so.
    pub(super) layout: Option<Arc<Layout>>,
    /// Which of them are there; `None`: all.
    pub(super) partial: Option<watch::Receiver<Bits>>,
    ledger: Arc<Mutex<Ledger<PeerId>>>,
}

/// What of one file has left this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Hex SHA-256 of the file.
    pub sha256: String,
    /// Bytes of whole pieces.
    pub bytes: u64,
    /// (times, pieces that were given so often), ascending; empty where no manifest names the file.
    pub pieces: Vec<(u32, usize)>,
    /// Pieces of which no peer has said yet that it got them.
    pub pending: usize,
}

impl Default for Shelf {
    fn default() -> Self {
        Self::new(ShelfOptions::default())
    }
}

impl Shelf {
    /// An empty one.
    pub fn new(options: ShelfOptions) -> Self {
        let inner = Inner {
            initial_seeding: options.initial_seeding,
            entries: RwLock::default(),
            slots: Arc::new(Semaphore::new(options.slots.clamp(1, Semaphore::MAX_PERMITS))),
            limit: Limit::new(options.upload_limit),
            buffers: Buffers::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Gives the manifest and those of its files that are there with their size; a reader finds any other lie.
    pub fn offer(&self, library: &Library) {
        self.offer_parsed(&library.plan, Arc::new(library.bytes.clone()), &library.manifest);
        for file in &library.manifest.files {
            match FileContent::open(library.path(file)) {
                Ok(content) if content.size() == file.size => {
                    self.offer_content(&file.sha256, Arc::new(content));
                }
                _ => {}
            }
        }
    }

    /// Gives the manifest of a plan, and learns from it where pieces lie. Bytes that are no manifest are not given.
    pub fn offer_manifest(&self, plan: &str, bytes: Arc<Vec<u8>>) {
        match Manifest::from_bytes(&bytes) {
            Ok(manifest) => self.offer_parsed(plan, bytes, &manifest),
            Err(error) => tracing::warn!(plan, "a manifest is not seeded: {error}"),
        }
    }

    fn offer_parsed(&self, plan: &str, bytes: Arc<Vec<u8>>, manifest: &Manifest) {
        let mut entries = self.write();
        entries.manifests.insert(plan_key(plan), bytes);
        for file in &manifest.files {
            let Some(key) = file_key(&file.sha256) else { continue };
            let layout = Arc::clone(entries.layouts.entry(key).or_insert_with(|| Arc::new(Layout::of(file))));
            // It was offered before anybody knew its pieces.
            if let Some(known) = entries.files.get(&key).filter(|entry| entry.layout.is_none()) {
                let content = Arc::clone(&known.content);
                let entry = self.entry(content, Some(layout), None);
                entries.files.insert(key, Arc::new(entry));
            }
        }
    }

    /// Gives a whole file.
    pub fn offer_content(&self, sha256: &str, content: Arc<dyn Content>) {
        let Some(key) = file_key(sha256) else { return };
        let mut entries = self.write();
        let layout = entries.layouts.get(&key).cloned();
        let mut entry = self.entry(content, layout, None);
        if let Some(before) = entries.files.get(&key) {
            entry.ledger = Arc::clone(&before.ledger);
        } else if entries.files.len() >= MAX_FILES {
            tracing::warn!(sha256, "not seeded: {MAX_FILES} files are");
            return;
        }
        entries.files.insert(key, Arc::new(entry));
    }

    /// Gives what a scan has found, whether a manifest names it or not.
    pub fn offer_found(&self, found: &[Found]) {
        for file in found {
            match FileContent::open(file.path.clone()) {
                Ok(content) if content.size() == file.size => {
                    self.offer_content(&file.sha256, Arc::new(content));
                }
                _ => tracing::warn!("{} has changed since it was hashed: not seeded", file.path.display()),
            }
        }
    }

    /// Gives those pieces of a file that are there.
    pub(super) fn offer_partial(
        &self,
        file: &manifest::File,
        content: Arc<dyn Content>,
        bits: watch::Receiver<Bits>,
    ) {
        let Some(key) = file_key(&file.sha256) else { return };
        let mut entries = self.write();
        if entries.files.get(&key).is_some_and(|entry| entry.partial.is_none()) {
            return;
        }
        let layout = Arc::clone(entries.layouts.entry(key).or_insert_with(|| Arc::new(Layout::of(file))));
        let entry = self.entry(content, Some(layout), Some(bits));
        entries.files.insert(key, Arc::new(entry));
    }

    /// Gives a file no longer.
    pub fn withdraw(&self, sha256: &str) {
        if let Some(key) = file_key(sha256) {
            self.write().files.remove(&key);
        }
    }

    /// As [`Self::withdraw`], unless it is whole by now.
    pub(super) fn withdraw_partial(&self, sha256: &str) {
        let Some(key) = file_key(sha256) else { return };
        let mut entries = self.write();
        if entries.files.get(&key).is_some_and(|entry| entry.partial.is_some()) {
            entries.files.remove(&key);
        }
    }

    /// What of each file has left this node so far, by hash.
    pub fn served(&self) -> Vec<Served> {
        let files: Vec<_> = self.read().files.iter().map(|(key, entry)| (*key, Arc::clone(entry))).collect();
        let mut served: Vec<Served> = files
            .into_iter()
            .map(|(key, entry)| {
                let ledger = entry.ledger();
                let pieces = if entry.layout.is_some() { ledger.histogram() } else { Vec::new() };
                Served { sha256: hex::encode(&key), bytes: ledger.bytes(), pieces, pending: ledger.pending() }
            })
            .collect();
        served.sort_unstable_by(|a, b| a.sha256.cmp(&b.sha256));
        served
    }

    /// A peer has no streams any more.
    pub(super) fn is_away(&self, peer: PeerId) {
        if self.inner.initial_seeding {
            let now = Instant::now();
            self.read().files.values().for_each(|entry| entry.ledger().is_away(peer, now));
        }
    }

    pub(super) fn manifest(&self, key: &[u8; 32]) -> Option<Arc<Vec<u8>>> {
        self.read().manifests.get(key).cloned()
    }

    pub(super) fn file(&self, key: &[u8; 32]) -> Option<Arc<Entry>> {
        self.read().files.get(key).cloned()
    }

    fn entry(
        &self,
        content: Arc<dyn Content>,
        layout: Option<Arc<Layout>>,
        partial: Option<watch::Receiver<Bits>>,
    ) -> Entry {
        let pieces = layout.as_ref().map_or(0, |layout| layout.len());
        let ledger = Arc::new(Mutex::new(Ledger::new(pieces, self.inner.initial_seeding)));
        Entry { content, layout, partial, ledger }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Entries> {
        self.inner.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Entries> {
        self.inner.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a range of a file may leave now.
pub(super) enum Verdict {
    /// It is counted as given; the piece, where it is one.
    Give(Option<usize>),
    Elsewhere,
    NotHere,
}

impl Entry {
    pub(super) fn may_leave(&self, peer: PeerId, offset: u64, length: u32) -> Verdict {
        let end = offset.checked_add(u64::from(length));
        if end.is_none_or(|end| end > self.content.size()) {
            return Verdict::NotHere;
        }
        let Some(layout) = &self.layout else { return Verdict::Give(None) };
        let Some(piece) = layout.find(offset, length) else { return Verdict::NotHere };
        if self.partial.as_ref().is_some_and(|bits| !bits.borrow().has(piece)) {
            return Verdict::NotHere;
        }
        if self.ledger().may_leave(peer, piece, Instant::now()) {
            Verdict::Give(Some(piece))
        } else {
            Verdict::Elsewhere
        }
    }

    pub(super) fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger<PeerId>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The plan's name as a request has it: its bytes, padded with zeros.
pub(super) fn plan_key(plan: &str) -> [u8; 32] {
    let mut key = [0; 32];
    let bytes = plan.as_bytes();
    let length = bytes.len().min(32);
    key[..length].copy_from_slice(&bytes[..length]);
    key
}

/// A file's hash as a request has it.
pub(super) fn file_key(sha256: &str) -> Option<[u8; 32]> {
    hex::decode(sha256)?.try_into().ok()
}
