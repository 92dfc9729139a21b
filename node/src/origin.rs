//! The origin: a bootstrap that has the whole model, and gives nodes their shards of it.
//!
//! ```text
//!  1. obtain    store::source: a file here, or fetched; what has arrived is kept over restarts
//!  2. hash      store::view: the manifest, and a view of the model for every file of it
//!  3. offer     torrent::serve::Shelf: manifest and views, for /torrent/1.0
//!  or           after a pause, again: sooner where the error passes, seldom where somebody has to act
//! ```
//! The program is up meanwhile; [`OriginStatus`] says how far it is.

mod meter;
mod progress;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use shard_wire::command::{MAX_ERROR, OriginProgress, TorrentFile, TorrentPlan, Torrents};
use shard_wire::{frame, manifest};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, interval, sleep};

use self::meter::Meter;
use self::progress::Progress;
use crate::config::{OriginConfig, SourceConfig};
use crate::library::{Library, LibraryError, plan_name};
use crate::report::{self, Console};
use crate::store::source::{Class, Event, Obtained, SourceError, obtain};
use crate::store::split::{Shards, SplitError};
use crate::store::view::{View, Views};
use crate::torrent::serve::Shelf;
use crate::torrents::{Known, Registry};

/// Before the second attempt where an error passes, after the many that a fetch makes itself; doubled each time.
const SOON: Duration = Duration::from_secs(5);
/// Between attempts at most where an error passes.
const MOST: Duration = Duration::from_secs(300);
/// Where only a person can help: a source that refuses is not to be asked all the time.
const SELDOM: Duration = Duration::from_secs(600);
/// Between looks at how far the hash is.
const LOOK: Duration = Duration::from_millis(200);

/// What an origin does, in the order of an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The model is on its way.
    #[default]
    Fetching,
    /// It is here and is read.
    Hashing,
    /// Nodes get their shards.
    Ready,
    /// It waits before it tries again; `error` says why.
    Failed,
}

/// How far an origin is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OriginStatus {
    /// What it does.
    pub state: State,
    /// Of what it does, 0 to 100.
    pub percent: f64,
    /// Bytes that are done.
    pub bytes: u64,
    /// Of so many, where that is known.
    pub total: Option<u64>,
    /// How fast.
    pub bytes_per_s: f64,
    /// When it will be done, where that can be said.
    pub eta_s: Option<u64>,
    /// What went wrong last, until something comes of it.
    pub error: Option<String>,
    /// Where the model comes from.
    pub source: String,
    /// Short name of the plan that is served.
    pub plan: Option<String>,
    /// Hex SHA-256 of its manifest.
    pub manifest_sha256: Option<String>,
    /// How far the attempt had come that failed: one that comes no further has the same error to tell.
    #[serde(skip)]
    pub(crate) failed_at: (State, u64),
}

/// What an origin gives.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The manifest's bytes.
    pub manifest: Arc<Vec<u8>>,
    /// Their hex SHA-256.
    pub manifest_sha256: String,
    /// Short name of the plan.
    pub plan: String,
    /// Size of the model.
    pub model_bytes: u64,
    /// Every file's entry, and the file.
    pub views: Vec<(TorrentFile, Arc<View>)>,
}

/// Why an origin has no model.
#[derive(Debug, Error)]
enum OriginError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Split(#[from] SplitError),
    #[error(transparent)]
    Library(#[from] LibraryError),
    #[error("the program is ending")]
    Ending,
}

impl OriginError {
    fn class(&self) -> Class {
        match self {
            Self::Source(error) => error.class(),
            Self::Split(SplitError::Layers(_) | SplitError::Layout(_) | SplitError::Manifest(_)) => {
                Class::Lasting
            }
            Self::Split(_) | Self::Library(_) | Self::Ending => Class::Here,
        }
    }
}

impl OriginStatus {
    fn fail(&mut self, error: String) {
        self.error = Some(error);
        (self.bytes_per_s, self.eta_s) = (0.0, None);
        // What a hash finds wrong is in the file, however much of it is read again: until all of it is right.
        let bytes = if self.state == State::Fetching { self.bytes } else { u64::MAX };
        self.failed_at = (self.state, bytes);
    }

    /// Something comes of it: the error is of the past.
    fn get_on(&mut self, state: State, bytes: u64) {
        if (state, bytes) > self.failed_at {
            self.error = None;
        }
    }
}

/// Gets the model in the background, puts it on the shelf and says so to members: at once that it is here, and what its
/// `incarnation` is. The status is whole from the beginning.
pub fn spawn(
    config: OriginConfig,
    incarnation: String,
    shelf: Shelf,
    known: Known,
    console: Console,
) -> watch::Receiver<OriginStatus> {
    let source = match &config {
        OriginConfig::Split(dir) => dir.display().to_string(),
        OriginConfig::Model { source, .. } => source.source.to_string(),
    };
    known.origin(OriginProgress { wire_version: frame::VERSION, incarnation, ..OriginProgress::default() });
    let (status, watched) = watch::channel(OriginStatus { source, ..OriginStatus::default() });
    tokio::spawn(async move { Task { shelf, known, console, status }.run(config).await });
    watched
}

/// How long to wait after `failed` attempts in a row.
fn pause(failed: u32, class: Class) -> Duration {
    match class {
        Class::Lasting => SELDOM,
        Class::Passing | Class::Here => SOON.saturating_mul(1 << failed.saturating_sub(1).min(16)).min(MOST),
    }
}

struct Task {
    shelf: Shelf,
    known: Known,
    console: Console,
    status: watch::Sender<OriginStatus>,
}

impl Task {
    async fn run(self, config: OriginConfig) {
        let mut failed = 0;
        loop {
            let done = match &config {
                OriginConfig::Split(dir) => self.offer_split(dir.clone()).await,
                OriginConfig::Model { source, shards, dir } => self.offer_model(source, shards, dir).await,
            };
            let Err(error) = done else { return };
            failed += 1;
            let again = pause(failed, error.class());
            let error = error.to_string();
            self.console.say(&report::origin_failed(&error, again));
            self.failed(error);
            self.status.send_modify(|status| status.state = State::Failed);
            sleep(again).await;
        }
    }

    /// Files that a split has written.
    async fn offer_split(&self, dir: PathBuf) -> Result<(), OriginError> {
        let library = in_thread(move || Library::open(&dir).map_err(OriginError::from)).await?;
        self.shelf.offer(&library);
        let there = |file: &&manifest::File| {
            library.path(file).metadata().is_ok_and(|meta| meta.is_file() && meta.len() == file.size)
        };
        let files: Vec<TorrentFile> = library.manifest.files.iter().filter(there).map(torrent_file).collect();
        self.ready(&library.plan, &library.sha256, library.manifest.model_bytes, files);
        Ok(())
    }

    /// Views of the model file.
    async fn offer_model(
        &self,
        source: &SourceConfig,
        shards: &Shards,
        dir: &std::path::Path,
    ) -> Result<(), OriginError> {
        self.console.say(&report::origin_begun(&source.source));
        let obtained = self.obtain(source, dir).await?;
        let origin = self.hash(obtained, shards.clone()).await?;
        let Origin { manifest, manifest_sha256, plan, model_bytes, views } = origin;
        self.shelf.offer_manifest(&plan, manifest);
        let mut files = Vec::new();
        for (file, view) in views {
            self.shelf.offer_content(&file.info_hash, view);
            files.push(file);
        }
        self.ready(&plan, &manifest_sha256, model_bytes, files);
        Ok(())
    }

    async fn obtain(&self, source: &SourceConfig, dir: &std::path::Path) -> Result<Obtained, OriginError> {
        let mut progress = self.progress(State::Fetching);
        let mut on_event = |event: Event<'_>| match event {
            Event::Bytes { done, total } => progress.at(done, total),
            Event::Resumed { name, bytes } => {
                self.console.say(&report::origin_resumed(name, bytes));
                // It was read, not fetched.
                progress.meter = Meter::new(Instant::now());
            }
            Event::Restarted { name, why } => self.console.say(&report::origin_restarted(name, why)),
            Event::Retry { error, after } => {
                let error = error.to_string();
                self.console.say(&report::origin_retry(&error, after));
                self.failed(error);
            }
        };
        let obtained = obtain(source, dir, &mut on_event).await?;
        self.console.say(&report::origin_obtained(&obtained.path, obtained.received));
        Ok(obtained)
    }

    async fn hash(&self, obtained: Obtained, shards: Shards) -> Result<Origin, OriginError> {
        let (done, all) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counters = (Arc::clone(&done), Arc::clone(&all));
        let work = in_thread(move || {
            let step = std::sync::Mutex::new(None);
            let listen = |now, more, total| {
                let mut step = step.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if step.replace(now) != Some(now) {
                    counters.0.store(0, Ordering::Relaxed);
                    counters.1.store(total, Ordering::Relaxed);
                }
                counters.0.fetch_add(more, Ordering::Relaxed);
            };
            let views = Views::open(&obtained.path, &shards, obtained.sha256.as_deref(), &listen)?;
            let plan = plan_name(&views.manifest, &views.manifest_sha256, frame::VERSION);
            let names: Vec<TorrentFile> = views.manifest.files.iter().map(torrent_file).collect();
            Ok(Origin {
                plan,
                manifest: Arc::new(views.bytes),
                manifest_sha256: views.manifest_sha256,
                model_bytes: views.manifest.model_bytes,
                views: names.into_iter().zip(views.files.into_iter().map(Arc::new)).collect(),
            })
        });
        tokio::pin!(work);
        let mut look = interval(LOOK);
        let mut progress = self.progress(State::Hashing);
        loop {
            tokio::select! {
                origin = &mut work => return origin,
                _ = look.tick() => {
                    let total = all.load(Ordering::Relaxed);
                    progress.at(done.load(Ordering::Relaxed), Some(total).filter(|total| *total > 0));
                }
            }
        }
    }

    /// Whoever waits for the model, here or elsewhere, learns why it does not come.
    fn failed(&self, mut error: String) {
        let known = self.known.read(Registry::own_origin).unwrap_or_default();
        self.status.send_modify(|status| status.fail(error.clone()));
        error.truncate(error.floor_char_boundary(MAX_ERROR));
        self.known.origin(OriginProgress { error, ..known });
    }

    fn ready(&self, plan: &str, manifest_sha256: &str, bytes: u64, files: Vec<TorrentFile>) {
        self.console.say(&report::origin_ready(plan, manifest_sha256, bytes, files.len()));
        let named = TorrentPlan { plan: plan.to_owned(), origin: true, seeders: Vec::new() };
        let known = self.known.read(Registry::own_origin).unwrap_or_default();
        let origin = Some(OriginProgress { percent: 100, bytes, error: String::new(), ..known });
        self.known.own(Torrents { files, plans: vec![named], origin });
        self.status.send_modify(|status| {
            *status = OriginStatus {
                state: State::Ready,
                percent: 100.0,
                bytes,
                total: Some(bytes),
                source: std::mem::take(&mut status.source),
                plan: Some(plan.to_owned()),
                manifest_sha256: Some(manifest_sha256.to_owned()),
                ..OriginStatus::default()
            };
        });
    }

    fn progress(&self, state: State) -> Progress<'_> {
        self.status.send_modify(|status| {
            (status.state, status.percent, status.bytes, status.total) = (state, 0.0, 0, None);
            (status.bytes_per_s, status.eta_s) = (0.0, None);
        });
        Progress::new(self, state)
    }
}

fn torrent_file(file: &manifest::File) -> TorrentFile {
    TorrentFile {
        name: file.name.clone(),
        size: file.size,
        info_hash: file.sha256.clone(),
        seeders: Vec::new(),
    }
}

/// Work for the disk, off the event loop.
async fn in_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OriginError> + Send + 'static,
) -> Result<T, OriginError> {
    match spawn_blocking(work).await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => Err(OriginError::Ending),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_stays_until_an_attempt_comes_further_than_the_one_that_failed() {
        let (fetching, hashing) = (State::Fetching, State::Hashing);
        let table = [
            ("a fetch that goes on", (fetching, 500), (fetching, 501), false),
            ("one that begins anew", (fetching, 500), (fetching, 400), true),
            ("all is here", (fetching, 500), (hashing, 1), false),
            (
                "it is fetched again, because it was not what it should be",
                (hashing, 900),
                (fetching, 950),
                true,
            ),
            ("it is read again", (hashing, 900), (hashing, 950), true),
        ];
        for (case, (failed, bytes), (state, more), stays) in table {
            let mut status = OriginStatus { state: failed, bytes, ..OriginStatus::default() };
            status.fail("no".into());
            status.get_on(state, more);
            assert_eq!(status.error.is_some(), stays, "{case}");
        }
    }

    #[test]
    fn what_passes_is_tried_soon_and_what_lasts_seldom() {
        for (failed, class, seconds) in [
            (1, Class::Passing, 5),
            (2, Class::Here, 10),
            (4, Class::Passing, 40),
            (40, Class::Passing, 300),
            (1, Class::Lasting, 600),
            (9, Class::Lasting, 600),
        ] {
            assert_eq!(pause(failed, class).as_secs(), seconds, "{failed} {class:?}");
        }
    }
}
