//! When a node has every file: by its folder, then by its own word.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::Value;
use sha2::Sha256;
use shard_wire::manifest::{File, Manifest, shard_name};
use thiserror::Error;
use tokio::time::{Instant, sleep};

use crate::cli::Failure;
use crate::cli::http::Gateway;
use crate::store::hash;

/// Between two looks into the folders: far less than what is measured takes.
const LOOK: Duration = Duration::from_millis(5);
/// Nothing is written for so long: it will not end.
const STALLED: Duration = Duration::from_secs(120);
const MANIFEST: &str = "manifest.json";
/// Where a node tells what it still fetches.
const DOWNLOADS: &str = "/report/local/downloads";

#[derive(Debug, Error)]
enum WatchError {
    #[error("nothing was written into {} for {STALLED:?}; {have} of {all} files are there", folder.display())]
    Stalled { folder: PathBuf, have: usize, all: usize },
    #[error("{name} has all files, and its /status says after {STALLED:?} that it fetches: {downloads}")]
    StillFetching { name: String, downloads: Value },
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not what the manifest says: SHA-256 {found}, not {expected}", path.display())]
    Wrong { path: PathBuf, found: String, expected: String },
}

/// What a node is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// The only shard.
    Shard,
    /// All files of the manifest.
    Everything,
}

impl Want {
    fn of(self, manifest: &Manifest) -> impl Iterator<Item = &File> + Clone {
        let shard = shard_name(0);
        manifest.files.iter().filter(move |file| self == Self::Everything || file.name == shard)
    }
}

/// Seconds since a node's start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Fetched {
    /// It has joined and has the manifest.
    pub(super) begun: f64,
    /// What it wants is whole, verified and under its final name.
    pub(super) whole: f64,
}

impl Fetched {
    pub(super) fn fetching(&self) -> f64 {
        self.whole - self.begun
    }
}

/// One folder, as it fills.
struct Filling {
    folder: PathBuf,
    want: Want,
    manifest: Option<Manifest>,
    begun: Option<f64>,
    whole: Option<f64>,
    written: Option<SystemTime>,
}

/// Waits until every folder has what is wanted.
pub(super) async fn until_whole(
    folders: &[PathBuf],
    want: Want,
    start: Instant,
) -> Result<Vec<Fetched>, Failure> {
    let filling = |folder: &PathBuf| Filling {
        folder: folder.clone(),
        want,
        manifest: None,
        begun: None,
        whole: None,
        written: None,
    };
    let mut all: Vec<Filling> = folders.iter().map(filling).collect();
    let mut moved = Instant::now();
    loop {
        for node in all.iter_mut().filter(|node| node.whole.is_none()) {
            if node.look(start.elapsed().as_secs_f64()) {
                moved = Instant::now();
            }
        }
        let fetched = |node: &Filling| Some(Fetched { begun: node.begun?, whole: node.whole? });
        if let Some(done) = all.iter().map(fetched).collect() {
            return Ok(done);
        }
        if moved.elapsed() > STALLED
            && let Some(node) = all.iter().find(|node| node.whole.is_none())
        {
            let (have, all) = node.counts();
            return Err(WatchError::Stalled { folder: node.folder.clone(), have, all }.into());
        }
        sleep(LOOK).await;
    }
}

impl Filling {
    /// Whether anything has changed.
    fn look(&mut self, now: f64) -> bool {
        let Ok(entries) = fs::read_dir(&self.folder) else { return false };
        let files: HashMap<_, _> =
            entries.flatten().filter_map(|entry| Some((entry.file_name(), entry.metadata().ok()?))).collect();
        if self.manifest.is_none() {
            self.manifest = manifest(&self.folder);
        }
        let is_there = |name: &str, size: u64| {
            files.get(std::ffi::OsStr::new(name)).is_some_and(|metadata| metadata.len() == size)
        };
        if let Some(manifest) = &self.manifest {
            self.begun.get_or_insert(now);
            if self.want.of(manifest).all(|file| is_there(&file.name, file.size)) {
                self.whole = Some(now);
            }
        }
        let written = files.values().filter_map(|metadata| metadata.modified().ok()).max();
        let changed = written > self.written;
        self.written = written.max(self.written);
        changed
    }

    fn counts(&self) -> (usize, usize) {
        let files = self.manifest.iter().flat_map(|manifest| self.want.of(manifest));
        let have = files.clone().filter(|file| self.folder.join(&file.name).exists()).count();
        (have, files.count())
    }
}

/// The manifest of a folder, once it is there.
pub(super) fn manifest(folder: &Path) -> Option<Manifest> {
    Manifest::from_bytes(&fs::read(folder.join(MANIFEST)).ok()?).ok()
}

/// Waits until a node says that it fetches nothing any more.
pub(super) async fn until_said(name: &str, diagnostics: &Gateway) -> Result<(), Failure> {
    let deadline = Instant::now() + STALLED;
    loop {
        let status: Value = diagnostics.get("/status").await?;
        let downloads = status.pointer(DOWNLOADS).cloned().unwrap_or_default();
        let under_way = |download: &Value| download["done"] != download["total"];
        if !downloads.as_array().is_some_and(|downloads| downloads.iter().any(under_way)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(WatchError::StillFetching { name: name.to_owned(), downloads }.into());
        }
        sleep(LOOK * 10).await;
    }
}

/// Reads what was wanted again: a node's word is not taken for it. Bytes of the files.
pub(super) fn verify(folder: &Path, want: Want) -> Result<u64, Failure> {
    let read = |path: PathBuf| move |source| WatchError::Read { path, source };
    let path = folder.join(MANIFEST);
    let manifest = Manifest::from_bytes(&fs::read(&path).map_err(read(path))?)?;
    let mut bytes = 0;
    for file in want.of(&manifest) {
        let path = folder.join(&file.name);
        let mut hasher = Sha256::default();
        let input = fs::File::open(&path).map_err(read(path.clone()))?;
        bytes += hash::update(&mut hasher, input, |_| {}).map_err(read(path.clone()))?;
        let found = hash::finish(hasher);
        if found != file.sha256 {
            return Err(WatchError::Wrong { path, found, expected: file.sha256.clone() }.into());
        }
    }
    Ok(bytes)
}
