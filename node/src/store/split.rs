//! Cuts a model into shard files, in little memory and never half.
//!
//! ```text
//!  1. open      Model: headers of all parts, checked
//!  2. lay out   Layout: starts ─▶ which bytes go into which file         pure
//!  3. hash      the whole model, since every shard names it
//!  4. look      folder::look: reuse what is there, replace it, or refuse
//!  5. copy      copy::write_file: each file under a temporary name, hashed on the way; a few at once
//!  6. publish   old manifest off, files renamed, new manifest last
//! ```
//! Whoever sees a manifest sees all files that it lists.

mod copy;
mod error;
mod folder;

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use shard_engine::layout::{FileKind, FileLayout, Layout};
use shard_wire::layers::{LayerRange, even_starts, ranges};
use shard_wire::manifest::{self, Manifest};

pub use error::SplitError;

use super::hash;
use super::model::Model;
use copy::Partial;
use folder::Folder;

/// More would wait for the disk, and each holds a header and a piece.
const MAX_THREADS: usize = 4;

/// How to cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shards {
    /// As many shards, with layers as equal as can be, the larger ones first.
    Count(usize),
    /// Shards that begin with these layers.
    Starts(Vec<u32>),
}

/// What to split, and where to.
#[derive(Clone, Debug)]
pub struct SplitRequest<'a> {
    /// The model file, or its first part.
    pub model: &'a Path,
    /// The folder for the shards; made where it is missing.
    pub out: &'a Path,
    /// How to cut.
    pub shards: Shards,
    /// Replace shards of another model.
    pub force: bool,
}

/// A split model.
#[derive(Clone, Debug)]
pub struct Split {
    /// What `manifest.json` says.
    pub manifest: Manifest,
    /// Hex SHA-256 of `manifest.json`.
    pub manifest_sha256: String,
    /// It was there already, whole.
    pub reused: bool,
}

/// What takes time in a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reading the model.
    Hash,
    /// Reading the shards that are there already.
    Verify,
    /// Writing shards.
    Copy,
}

/// Hears of every few bytes that are done: the step, how many more, and how many the step has in all. It is called
/// from several threads.
pub type OnProgress<'a> = &'a (dyn Fn(Step, u64, u64) + Sync);

/// Splits the model of `request`, or finds that it is split like that already.
pub fn split(request: &SplitRequest<'_>, progress: OnProgress<'_>) -> Result<Split, SplitError> {
    let model = Model::open(request.model)?;
    let starts = match &request.shards {
        Shards::Count(shards) => even_starts(model.config.block_count, *shards)?,
        Shards::Starts(starts) => starts.clone(),
    };
    let layers = ranges(&starts, model.config.block_count)?;
    let layout = Layout::new(&model.parts, &layers.iter().map(|r| r.start..r.end).collect::<Vec<_>>())?;

    let source = Source::open(&model)?;
    let model_sha256 = source.hash(progress)?;
    let job = Job { model: &model, source: &source, layout: &layout, model_sha256: &model_sha256, progress };

    let folder = Folder::open(request.out)?;
    let old = folder.look(&job)?;
    if let Some(manifest) = old.reusable(&starts, &job, &folder)? {
        return finished(manifest, true).map(|(split, _)| split);
    }
    old.may_be_replaced(request.force)?;
    folder.sweep()?;
    let (files, partials) = write_all(&job, &folder)?;
    source.check_unchanged()?;
    let (split, bytes) = finished(
        Manifest {
            version: manifest::VERSION,
            model_sha256: model_sha256.clone(),
            model_bytes: model.bytes(),
            total_layers: model.config.block_count,
            layer_starts: starts,
            piece_size: manifest::PIECE_SIZE,
            files,
        },
        false,
    )?;
    folder.publish(partials, &bytes, &old.stale(&split.manifest))?;
    Ok(split)
}

fn finished(manifest: Manifest, reused: bool) -> Result<(Split, Vec<u8>), SplitError> {
    let bytes = manifest.to_bytes()?;
    let manifest_sha256 = hash::sha256(&bytes);
    Ok((Split { manifest, manifest_sha256, reused }, bytes))
}

/// What all steps after the hash need.
struct Job<'a> {
    model: &'a Model,
    source: &'a Source,
    layout: &'a Layout,
    model_sha256: &'a str,
    progress: OnProgress<'a>,
}

impl Job<'_> {
    fn header(&self, file: &FileLayout) -> Result<Vec<u8>, SplitError> {
        Ok(self.layout.header(&self.model.parts, file, self.model_sha256)?)
    }

    /// Bytes of all files.
    fn bytes(&self) -> u64 {
        self.layout.files.iter().map(|file| file.file_bytes).sum()
    }
}

/// The name of the file in the folder and in the manifest.
fn file_name(kind: &FileKind) -> String {
    match kind {
        FileKind::Shard { id, .. } => manifest::shard_name(*id as usize),
        FileKind::Tokenizer => manifest::TOKENIZER.to_owned(),
    }
}

fn layer_range(kind: &FileKind) -> LayerRange {
    match kind {
        FileKind::Shard { layers: Range { start, end }, .. } => LayerRange { start: *start, end: *end },
        FileKind::Tokenizer => LayerRange::default(),
    }
}

/// Writes all files under temporary names; the first failure stops the others.
fn write_all(job: &Job<'_>, folder: &Folder) -> Result<(Vec<manifest::File>, Vec<Partial>), SplitError> {
    let written = in_parallel(&job.layout.files, |file| copy::write_file(job, folder, file))?;
    Ok(written.into_iter().unzip())
}

/// Runs `work` for every item on some threads; results in order, or the first failure.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, SplitError> + Sync,
) -> Result<Vec<R>, SplitError> {
    let threads =
        std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(items.len());
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        while let Some((i, item)) = {
            let i = next.fetch_add(1, Ordering::Relaxed);
            items.get(i).map(|item| (i, item))
        } {
            match work(item) {
                Ok(result) => done.push((i, result)),
                Err(error) => {
                    // Nobody begins another item.
                    next.store(items.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(done)
    };
    let mut all = Vec::with_capacity(items.len());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for handle in workers {
            match handle.join() {
                Ok(done) => all.extend(done?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok::<(), SplitError>(())
    })?;
    all.sort_by_key(|(i, _)| *i);
    Ok(all.into_iter().map(|(_, result)| result).collect())
}

/// The files of a model, opened once, so that all steps read the same ones.
struct Source {
    parts: Vec<Part>,
    bytes: u64,
}

struct Part {
    path: std::path::PathBuf,
    file: File,
    bytes: u64,
    modified: SystemTime,
}

impl Source {
    fn open(model: &Model) -> Result<Self, SplitError> {
        let part = |(path, header): (&std::path::PathBuf, &shard_engine::gguf::Gguf)| {
            let failed = |source| SplitError::Read { path: path.clone(), source };
            let file = File::open(path).map_err(failed)?;
            let modified = file.metadata().and_then(|about| about.modified()).map_err(failed)?;
            Ok(Part { path: path.clone(), file, bytes: header.file_bytes, modified })
        };
        let parts: Result<Vec<_>, SplitError> = model.paths.iter().zip(&model.parts).map(part).collect();
        Ok(Self { parts: parts?, bytes: model.bytes() })
    }

    /// SHA-256 of all parts, one after the other.
    fn hash(&self, progress: OnProgress<'_>) -> Result<String, SplitError> {
        let mut hasher = Sha256::new();
        for part in &self.parts {
            let read = hash::update(&mut hasher, &part.file, |n| progress(Step::Hash, n, self.bytes))
                .map_err(|source| SplitError::Read { path: part.path.clone(), source })?;
            if read != part.bytes {
                return Err(SplitError::Changed { path: part.path.clone() });
            }
        }
        Ok(hash::finish(hasher))
    }

    /// Nobody has written to the model since it was opened: otherwise the shards are of no one model.
    fn check_unchanged(&self) -> Result<(), SplitError> {
        for part in &self.parts {
            let failed = |source| SplitError::Read { path: part.path.clone(), source };
            let about = part.file.metadata().map_err(failed)?;
            if about.len() != part.bytes || about.modified().map_err(failed)? != part.modified {
                return Err(SplitError::Changed { path: part.path.clone() });
            }
        }
        Ok(())
    }
}
