//! What is on disk before anything is fetched.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use shard_wire::manifest;
use tokio::sync::watch;

use super::super::DownloadError;
use super::super::disk::Disk;
use super::super::part::{Part, Stored};
use super::super::reuse;
use super::progress::{Phase, Progress};
use crate::store::hash;

/// What was found.
pub(super) enum Found {
    /// The file is there under its final name, whole.
    Whole(PathBuf),
    /// Some of it, or none.
    Part(Arc<Part>),
}

/// Looks for `about` in `folder`: whole, begun, or in other files.
pub(super) fn look(
    disk: Arc<dyn Disk>,
    folder: &Path,
    about: manifest::File,
    progress: &watch::Sender<Progress>,
    stop: &AtomicBool,
) -> Result<Found, DownloadError> {
    progress.send_modify(|progress| progress.phase = Phase::Looking);
    let target = folder.join(&about.name);
    let before = stamp(&target);
    let size = about.size;
    let whole = |target: PathBuf| {
        progress.send_modify(|progress| (progress.done, progress.reused) = (size, size));
        Ok(Found::Whole(target))
    };
    if is_whole(&target, &about) {
        return whole(target);
    }
    if target.is_dir() {
        // It could not take its name after all the work.
        return Err(DownloadError::Publish { path: target, source: io::ErrorKind::IsADirectory.into() });
    }
    let goes_on = |bytes: u64| {
        progress.send_modify(|progress| {
            progress.done += bytes;
            progress.reused += bytes;
        });
        !stop.load(Ordering::Relaxed)
    };
    let (part, claims) = Part::open(disk, folder, about)?;
    // Another download, of which this one had to wait for the end, may have given it its name.
    if stamp(&target) != before && is_whole(&target, part.about()) {
        part.discard();
        return whole(target);
    }
    let mut buffer = Vec::new();
    for piece in claims.iter() {
        let right = part.check(piece, &mut buffer)? == Stored::Right;
        if !goes_on(if right { buffer.len() as u64 } else { 0 }) {
            return Ok(Found::Part(Arc::new(part)));
        }
    }
    let full = part.bits().borrow().is_full();
    if !full {
        reuse::copy(&part, &reuse::sources(folder, part.about()), goes_on)?;
    }
    Ok(Found::Part(Arc::new(part)))
}

/// Which file has the name now.
fn stamp(path: &Path) -> Option<(u64, SystemTime)> {
    let about = path.metadata().ok()?;
    Some((about.ino(), about.modified().ok()?))
}

/// A file that cannot be read is fetched.
fn is_whole(path: &Path, about: &manifest::File) -> bool {
    let regular = path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == about.size);
    regular && hash::file(path, |_| {}).is_ok_and(|sha256| sha256 == about.sha256)
}
