//! Cuts a model into shard files, in little memory and never half.
//!
//! ```text
//!  1. open      Model: headers of all parts, checked                     cut.rs, which views share
//!  2. lay out   Layout: starts ─▶ which bytes go into which file         pure
//!  3. hash      the whole model, since every shard names it
//!  4. look      folder::look: reuse what is there, replace it, or refuse
//!  5. copy      copy::write_file: each file under a temporary name, hashed on the way; a few at once
//!  6. publish   old manifest off, files renamed, new manifest last
//! ```
//! Whoever sees a manifest sees all files that it lists.

mod copy;
pub(in crate::store) mod cut;
mod error;
mod folder;

use std::path::Path;

use shard_wire::manifest::{self, Manifest};

pub use error::SplitError;

use super::hash;
use copy::Partial;
use cut::{Cut, in_parallel};
use folder::Folder;

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
    /// Reading what goes into each shard, where none is written.
    Describe,
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
    split_hashed(request, None, progress)
}

/// As [`split`]; `model_sha256` is the model's hash where the caller has just hashed it.
pub fn split_hashed(
    request: &SplitRequest<'_>,
    model_sha256: Option<&str>,
    progress: OnProgress<'_>,
) -> Result<Split, SplitError> {
    let cut = Cut::open(request.model, &request.shards, model_sha256, progress)?;
    let job = Job { cut: &cut, progress };

    let folder = Folder::open(request.out)?;
    let old = folder.look(&job)?;
    if let Some(manifest) = old.reusable(&job, &folder)? {
        return finished(manifest, true).map(|(split, _)| split);
    }
    old.may_be_replaced(request.force)?;
    folder.sweep()?;
    let (files, partials) = write_all(&job, &folder)?;
    let (split, bytes) = finished(cut.manifest(files)?, false)?;
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
    cut: &'a Cut,
    progress: OnProgress<'a>,
}

/// Writes all files under temporary names; the first failure stops the others.
fn write_all(job: &Job<'_>, folder: &Folder) -> Result<(Vec<manifest::File>, Vec<Partial>), SplitError> {
    let written = in_parallel(job.cut.files().len(), |file| copy::write_file(job, folder, file))?;
    Ok(written.into_iter().unzip())
}
