//! Fetches files of a manifest from peers into a folder.
//!
//! ```text
//!  1 wait       for a place: a few files at a time
//!  2 look       is it there whole? what of a former try, or of other files, is right?       blocking thread
//!  3 offer      verified pieces go out while others come in
//!  4 fetch      plan.rs decides, link.rs asks; beside it the whole is hashed as far as it is gapless
//!  5 publish    SHA-256 of the whole, fsync, final name; seeded as a whole file
//! ```
//! Dropping a [`Download`] ends it wherever it is; another one goes on from what is verified.

mod look;
mod progress;
mod run;
mod whole;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libp2p::PeerId;
use shard_wire::manifest::Manifest;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

pub use progress::{Phase, Progress};

use super::DownloadError;
use super::buffers::Buffers;
use super::disk::{Disk, System};
use super::link::{MEMORY, Shared};
use super::shelf::Shelf;
use crate::net::Network;

/// Files that are fetched at once; others wait. They share links' rates, the disk and the memory for pieces.
const AT_ONCE: usize = 4;

/// Fetches files into one folder. Clones share its places and memory.
#[derive(Clone)]
pub struct Downloads {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    shelf: Shelf,
    disk: Arc<dyn Disk>,
    links: Arc<Shared>,
    places: Semaphore,
}

/// A download under way. Dropped, it ends.
#[derive(Debug)]
pub struct Download {
    name: String,
    progress: watch::Receiver<Progress>,
    /// Absent when its end was told.
    task: Option<JoinHandle<Result<PathBuf, DownloadError>>>,
}

impl Downloads {
    /// Where they go.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Fetches into `folder`, and gives what is fetched through `shelf`.
    pub fn new(network: Network, shelf: Shelf, folder: impl Into<PathBuf>) -> Self {
        Self::with_disk(network, shelf, folder, Arc::new(System))
    }

    /// As [`Self::new`], with another disk.
    pub fn with_disk(
        network: Network,
        shelf: Shelf,
        folder: impl Into<PathBuf>,
        disk: Arc<dyn Disk>,
    ) -> Self {
        let memory = Arc::new(Semaphore::new(MEMORY as usize));
        let links = Arc::new(Shared { network, buffers: Buffers::default(), memory });
        let (folder, places) = (folder.into(), Semaphore::new(AT_ONCE));
        Self { inner: Arc::new(Inner { folder, shelf, disk, links, places }) }
    }

    /// Fetches one file of a manifest from whoever `seeders` names, now and later; [`super::seeders::follow`] knows.
    pub fn fetch(
        &self,
        manifest: &Manifest,
        file_name: &str,
        seeders: watch::Receiver<Vec<PeerId>>,
    ) -> Download {
        let file = manifest.file(file_name).cloned();
        let total = file.as_ref().map_or(0, |file| file.size);
        let (sender, progress) = watch::channel(Progress::new(total));
        let (inner, name) = (Arc::clone(&self.inner), file_name.to_owned());
        let task = tokio::spawn(async move {
            let file = file.ok_or(DownloadError::NoSuchFile { name })?;
            let stop = Stop::default();
            let Ok(_place) = inner.places.acquire().await else {
                return Err(DownloadError::Ended { name: file.name });
            };
            run::run(&inner, file, seeders, &Arc::new(sender), &stop).await
        });
        Download { name: file_name.to_owned(), progress, task: Some(task) }
    }
}

impl Download {
    /// How far it is, now and as it goes on.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Waits for its end: the path of the whole, verified file. It is told once.
    ///
    /// # Errors
    /// See [`DownloadError`]: the disk's, or the manifest's; never a peer's.
    pub async fn finished(&mut self) -> Result<PathBuf, DownloadError> {
        let ended = || DownloadError::Ended { name: self.name.clone() };
        let Some(task) = &mut self.task else { return Err(ended()) };
        let result = task.await;
        self.task = None;
        result.unwrap_or_else(|_| Err(ended()))
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Tells the threads of a download that it is over, when it is dropped.
#[derive(Debug, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
