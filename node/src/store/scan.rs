//! Every `.gguf` file of a folder with its SHA-256, so that it can be seeded, named by a manifest or not.
//!
//! ```text
//!  folder ─▶ names (sorted, bounded) ─▶ size and mtime as in the cache? ─yes─▶ its hash from there
//!                                                └─no─▶ hashed, and remembered
//! ```
//! The cache is a file in the folder, or in the state folder where that is read-only. A cache that is missing or of no
//! use costs the hashing, and nothing else. What cannot be seeded is said, with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use shard_wire::announce::is_file_name;
use shard_wire::manifest::{self, PIECE_SIZE};

use super::hash;

/// Files that are hashed and seeded; each is some hundred bytes of memory, and a record in the DHT.
pub const MAX_FILES: usize = 10_000;
/// What could not be seeded is listed so far.
const MAX_SKIPPED: usize = 100;
/// The cache's name; no `.gguf`.
const CACHE: &str = ".scan.json";
/// A hundred bytes for each file, and their names.
const MAX_CACHE: u64 = 8 << 20;

/// A file that can be seeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name in the folder.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Hex SHA-256.
    pub sha256: String,
    /// It has the name of one of the plan's shards.
    pub primary: bool,
}

impl Found {
    /// Pieces of a file that no manifest names: all of the same size.
    pub fn plain_pieces(&self) -> u64 {
        self.size.div_ceil(PIECE_SIZE)
    }
}

/// A file that cannot be seeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its name, or what there is too much of.
    pub name: String,
    /// Why.
    pub why: String,
}

/// What is in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// By name.
    pub found: Vec<Found>,
    /// What is to be told.
    pub skipped: Vec<Skipped>,
}

/// How far the hashing of one file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashing<'a> {
    /// The file.
    pub name: &'a str,
    /// Bytes of it.
    pub done: u64,
    /// Its size.
    pub total: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    size: u64,
    /// Nanoseconds since 1970.
    mtime: u64,
    sha256: String,
}

type Cache = BTreeMap<String, Known>;

/// Finds and hashes the `.gguf` files of `folder`; of a plan with `total_shards` shards. `state` is where the cache
/// goes when the folder is read-only.
///
/// # Errors
/// Where the folder cannot be listed.
pub fn scan(
    folder: &Path,
    total_shards: u32,
    state: Option<&Path>,
    progress: &mut dyn FnMut(Hashing<'_>),
) -> io::Result<Scan> {
    let (names, more) = names(folder)?;
    let places: Vec<PathBuf> =
        [Some(folder), state].into_iter().flatten().map(|dir| dir.join(CACHE)).collect();
    let before: Cache = places.iter().rev().filter_map(|path| read_cache(path)).flatten().collect();
    let (mut scan, mut cache) = (Scan::default(), Cache::new());
    for name in names {
        let path = folder.join(&name);
        match look(&name, &path, before.get(&name), progress) {
            Ok(known) => {
                let (size, sha256) = (known.size, known.sha256.clone());
                cache.insert(name.clone(), known);
                let primary = is_primary(&name, total_shards);
                scan.found.push(Found { name, path, size, sha256, primary });
            }
            Err(why) if scan.skipped.len() < MAX_SKIPPED => scan.skipped.push(Skipped { name, why }),
            Err(_) => {}
        }
    }
    if more > 0 {
        let name = format!("{more} more files");
        scan.skipped.push(Skipped { name, why: format!("{MAX_FILES} are seeded, by name") });
    }
    if cache != before && !places.iter().any(|path| write_cache(path, &cache).is_ok()) {
        let why = "cannot be written: the files are hashed again at the next start".to_owned();
        scan.skipped.push(Skipped { name: CACHE.to_owned(), why });
    }
    Ok(scan)
}

/// The hash of one file, from the cache where it is not older than the file.
///
/// # Errors
/// In words, where it cannot be read.
pub fn sha256(folder: &Path, name: &str) -> Result<String, String> {
    let known = read_cache(&folder.join(CACHE)).and_then(|mut cache| cache.remove(name));
    look(name, &folder.join(name), known.as_ref(), &mut |_| {}).map(|known| known.sha256)
}

/// The first names, and how many there are beyond.
fn names(folder: &Path) -> io::Result<(BTreeSet<String>, usize)> {
    let (mut names, mut more) = (BTreeSet::new(), 0);
    for entry in std::fs::read_dir(folder)? {
        // A name that is not UTF-8 cannot be announced.
        let Ok(name) = entry?.file_name().into_string() else { continue };
        if !name.ends_with(".gguf") {
            continue;
        }
        names.insert(name);
        if names.len() > MAX_FILES {
            names.pop_last();
            more += 1;
        }
    }
    Ok((names, more))
}

fn look(
    name: &str,
    path: &Path,
    known: Option<&Known>,
    progress: &mut dyn FnMut(Hashing<'_>),
) -> Result<Known, String> {
    if !is_file_name(name) {
        return Err("has a name that no peer takes: it is too long, or has control characters".to_owned());
    }
    // Before it is opened: opening a pipe would wait for a writer. A link counts as what it leads to.
    let (size, mtime) = stamp(path)?;
    if let Some(known) = known.filter(|known| (known.size, known.mtime) == (size, mtime)) {
        return Ok(known.clone());
    }
    let mut done = 0;
    let sha256 = hash::file(path, |more| {
        done += more;
        progress(Hashing { name, done, total: size });
    })
    .map_err(|error| error.to_string())?;
    if stamp(path)? != (size, mtime) {
        return Err("was written to while it was hashed".to_owned());
    }
    Ok(Known { size, mtime, sha256 })
}

fn stamp(path: &Path) -> Result<(u64, u64), String> {
    let about = path.metadata().map_err(|error| error.to_string())?;
    if !about.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let modified = about.modified().map_err(|error| error.to_string())?;
    let mtime = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    Ok((about.len(), mtime))
}

fn is_primary(name: &str, total_shards: u32) -> bool {
    (0..total_shards as usize).any(|id| name == manifest::shard_name(id))
}

fn read_cache(path: &Path) -> Option<Cache> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_CACHE).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Written aside, so that a reader finds the old one or the new one.
fn write_cache(path: &Path, cache: &Cache) -> io::Result<()> {
    let new = path.with_extension("json.new");
    std::fs::write(&new, serde_json::to_vec(cache)?)?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn run(folder: &Path, state: Option<&Path>) -> (Scan, Vec<String>) {
        let mut hashed = Vec::new();
        let mut progress = |hashing: Hashing<'_>| {
            if hashing.done == hashing.total {
                hashed.push(hashing.name.to_owned());
            }
        };
        let scan = scan(folder, 2, state, &mut progress).unwrap();
        (scan, hashed)
    }

    #[test]
    fn every_gguf_file_is_found_and_hashed_once() {
        let dir = TempDir::new().unwrap();
        for (name, bytes) in [
            ("shard-0.gguf", &b"a"[..]),
            ("shard-2.gguf", b"b"),
            ("shard-01.gguf", b"c"),
            ("shard-0-new.gguf", b"d"),
            ("empty.gguf", b""),
            ("manifest.json", b"{}"),
            ("shard-1.gguf.part", b"e"),
        ] {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        std::fs::create_dir(dir.path().join("folder.gguf")).unwrap();
        symlink(dir.path().join("shard-0.gguf"), dir.path().join("link.gguf")).unwrap();
        symlink(dir.path().join("nothing"), dir.path().join("lost.gguf")).unwrap();
        symlink(dir.path().join("loop.gguf"), dir.path().join("loop.gguf")).unwrap();
        symlink("/dev/zero", dir.path().join("zeros.gguf")).unwrap();
        std::fs::write(dir.path().join("a\nb.gguf"), "a").unwrap();

        let (first, hashed) = run(dir.path(), None);
        let names: Vec<(&str, bool)> = first.found.iter().map(|f| (&f.name[..], f.primary)).collect();
        let expected = [
            ("empty.gguf", false),
            ("link.gguf", false),
            ("shard-0-new.gguf", false),
            ("shard-0.gguf", true),
            ("shard-01.gguf", false),
            ("shard-2.gguf", false),
        ];
        assert_eq!(names, expected);
        assert_eq!(first.found[3].sha256, hash::sha256(b"a"));
        assert_eq!((first.found[3].plain_pieces(), first.found[0].plain_pieces()), (1, 0));
        let skipped: Vec<&str> = first.skipped.iter().map(|skipped| &skipped.name[..]).collect();
        assert_eq!(skipped, ["a\nb.gguf", "folder.gguf", "loop.gguf", "lost.gguf", "zeros.gguf"]);
        assert!(first.skipped.iter().all(|skipped| !skipped.why.is_empty()));
        assert_eq!(hashed.len(), 5, "of an empty file nothing is read: {hashed:?}");

        let (second, hashed) = run(dir.path(), None);
        assert_eq!((second, hashed), (first, vec![]));
        std::fs::write(dir.path().join("shard-2.gguf"), "longer").unwrap();
        let (third, hashed) = run(dir.path(), None);
        assert_eq!(hashed, ["shard-2.gguf"]);
        assert_eq!(third.found[5].sha256, hash::sha256(b"longer"));
    }

    #[test]
    fn where_the_folder_takes_no_cache_the_state_folder_does() {
        let (dir, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        std::fs::write(dir.path().join("a.gguf"), "a").unwrap();
        // Nobody can replace a folder by a file: as good as read-only, for root, too.
        std::fs::create_dir_all(dir.path().join(CACHE).join("x")).unwrap();
        assert_eq!(run(dir.path(), Some(state.path())).1, ["a.gguf"]);
        assert_eq!(run(dir.path(), Some(state.path())), (run(dir.path(), Some(state.path())).0, vec![]));
        std::fs::write(state.path().join(CACHE), "no JSON").unwrap();
        assert_eq!(run(dir.path(), Some(state.path())).1, ["a.gguf"]);
        let (without, _) = run(dir.path(), None);
        assert_eq!(without.found.len(), 1);
        assert_eq!(without.skipped[0].name, CACHE);
        assert!(scan(&dir.path().join("gone"), 1, None, &mut |_| {}).is_err());
    }

    #[test]
    fn more_files_than_can_be_seeded_are_said() {
        let dir = TempDir::new().unwrap();
        for i in 0..MAX_FILES + 3 {
            File::create(dir.path().join(format!("{i:05}.gguf"))).unwrap();
        }
        let (scan, _) = run(dir.path(), None);
        assert_eq!(scan.found.len(), MAX_FILES);
        assert_eq!(scan.found.last().unwrap().name, "09999.gguf");
        assert_eq!(scan.skipped.len(), 1);
        assert_eq!(scan.skipped[0].name, "3 more files");
    }
}
