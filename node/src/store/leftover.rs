//! Files of plans that a folder was of before. They go when nothing needs them any more, or when the disk is full: what
//! they share with the plan of today is in its files by then, or can be fetched.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use shard_wire::manifest::{self, Manifest};

use super::scan;
use crate::torrent::part;

/// Where the manifest of a plan is kept when another one takes its place.
pub fn manifest_path(dir: &Path, plan: &str) -> PathBuf {
    dir.join(format!("manifest-{plan}.json"))
}

/// A file that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its name.
    pub name: String,
    /// Hex SHA-256 of what it was.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

/// Removes what earlier plans of the folder have left and `current` does not name. A file that is not as one of their
/// manifests says is nobody's leftover, and stays.
///
/// # Errors
/// Where the folder cannot be listed, or a file not be removed.
pub fn remove(dir: &Path, current: &Manifest) -> io::Result<Vec<Removed>> {
    let mut removed = Vec::new();
    for (path, old) in before(dir)? {
        for file in old.files.iter().filter(|file| !is_of(current, file)) {
            let here = dir.join(&file.name);
            let same = here.metadata().is_ok_and(|about| about.is_file() && about.len() == file.size);
            // A name that both plans have may be the new one's by now.
            if same && scan::sha256(dir, &file.name).is_ok_and(|sha256| sha256 == file.sha256) {
                fs::remove_file(&here)?;
                let (name, sha256) = (file.name.clone(), file.sha256.clone());
                removed.push(Removed { name, sha256, size: file.size });
            }
            if current.file(&file.name).is_none() {
                part::names(&file.name).iter().try_for_each(|name| gone(&dir.join(name)))?;
            }
        }
        fs::remove_file(path)?;
    }
    Ok(removed)
}

fn is_of(manifest: &Manifest, file: &manifest::File) -> bool {
    manifest.file(&file.name).is_some_and(|named| named.sha256 == file.sha256)
}

/// The manifests of earlier plans. What cannot be read as one is left alone.
fn before(dir: &Path) -> io::Result<Vec<(PathBuf, Manifest)>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        names.extend(entry?.file_name().into_string());
    }
    let is_ours = |name: &String| {
        let plan = name.strip_prefix("manifest-").and_then(|name| name.strip_suffix(".json"));
        plan.is_some_and(|plan| plan.len() == 16 && plan.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let read = |name: String| {
        let path = dir.join(name);
        let small = path.metadata().is_ok_and(|about| about.len() <= manifest::MAX_BYTES as u64);
        let manifest = Manifest::from_bytes(&fs::read(&path).ok().filter(|_| small)?).ok()?;
        Some((path, manifest))
    };
    Ok(names.into_iter().filter(is_ours).filter_map(read).collect())
}

fn gone(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
