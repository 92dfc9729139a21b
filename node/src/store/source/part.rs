//! A file on its way: `NAME.part` with the bytes so far and `NAME.part.json` with what they are of, until both get
//! their final names, `NAME` and `NAME.source.json`.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Remote, SourceError, shown};
use crate::store::hash;

/// Of a note beside a file; addresses have some kilobytes at most.
const MAX_NOTE: u64 = 64 << 10;

const MAGIC: &[u8] = b"GGUF";
/// Bytes that are shown of what is no model.
const START: usize = 40;

/// What bytes on disk are of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// The address, for people.
    url: String,
    /// Hex SHA-256 of the whole address.
    url_sha256: String,
    /// What tells this version of the file from another: its ETag, else its date.
    validator: Option<String>,
    /// Size of the whole file.
    bytes: Option<u64>,
}

impl Note {
    fn of(url: &Url) -> Self {
        Self { url: shown(url), url_sha256: hash::sha256(url.as_str().as_bytes()), ..Self::default() }
    }

    fn read(path: &Path) -> Option<Self> {
        let mut text = Vec::new();
        File::open(path).ok()?.take(MAX_NOTE).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// A file on its way, and the hash of it and of the model's parts before it.
#[derive(Debug)]
pub(super) struct Part {
    remote: Remote,
    target: PathBuf,
    /// Locked while it is open.
    file: File,
    note: Note,
    bytes: u64,
    before: Sha256,
    hasher: Sha256,
    /// It has its final name already.
    is_published: bool,
}

/// What a writer ended with.
pub(super) enum WriteError {
    Io(io::Error),
    NotGguf(String),
}

impl Part {
    /// Opens what there is of a file, and hashes it; `fresh` begins anew. `on_bytes` hears of bytes that are there.
    pub(super) fn open(
        remote: &Remote,
        dir: &Path,
        before: Sha256,
        fresh: bool,
        on_bytes: impl FnMut(u64),
    ) -> Result<Self, SourceError> {
        let target = dir.join(&remote.name);
        let note = Note::of(&remote.url);
        let same = |found: &Note| found.url_sha256 == note.url_sha256;
        let published = Note::read(&beside(&target, ".source.json"));
        if let Ok(about) = target.metadata() {
            match published {
                // Another file of this name, from anywhere: the user's.
                None => return Err(SourceError::Foreign { path: target }),
                Some(found) if same(&found) && found.bytes == Some(about.len()) && !fresh => {
                    let file = File::open(&target).map_err(|e| write_error(&target, None, e))?;
                    return Self::hashed(remote, target, file, found, before, true, on_bytes);
                }
                Some(_) => {}
            }
        }
        let path = beside(&target, ".part");
        let failed = |source| write_error(&path, None, source);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(SourceError::Busy { path }),
            // Some network file systems have no locks; there the user has to take care.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        let kept = Note::read(&beside(&target, ".part.json")).filter(|found| {
            let length = file.metadata().map_or(0, |about| about.len());
            !fresh && same(found) && found.validator.is_some() && found.bytes.is_none_or(|all| length <= all)
        });
        if kept.is_none() {
            file.set_len(0).map_err(failed)?;
        }
        Self::hashed(remote, target, file, kept.unwrap_or(note), before, false, on_bytes)
    }

    fn hashed(
        remote: &Remote,
        target: PathBuf,
        file: File,
        note: Note,
        before: Sha256,
        is_published: bool,
        on_bytes: impl FnMut(u64),
    ) -> Result<Self, SourceError> {
        let mut hasher = before.clone();
        let bytes = hash::update(&mut hasher, &file, on_bytes)
            .map_err(|source| write_error(&target, note.bytes, source))?;
        Ok(Self { remote: remote.clone(), target, file, note, bytes, before, hasher, is_published })
    }

    pub(super) fn url(&self) -> &Url {
        &self.remote.url
    }

    pub(super) fn name(&self) -> &str {
        &self.remote.name
    }

    /// Bytes that are there.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Size of the whole file, if known.
    pub(super) fn total(&self) -> Option<u64> {
        self.note.bytes
    }

    pub(super) fn is_whole(&self) -> bool {
        self.note.bytes == Some(self.bytes) && self.bytes > 0
    }

    pub(super) fn is_published(&self) -> bool {
        self.is_published
    }

    pub(super) fn hasher(&self) -> &Sha256 {
        &self.hasher
    }

    /// Where the bytes are now.
    pub(super) fn path(&self) -> PathBuf {
        if self.is_published { self.target.clone() } else { beside(&self.target, ".part") }
    }

    /// What to ask a source for: the rest of this version.
    pub(super) fn resume(&self) -> Option<(u64, &str)> {
        self.note.validator.as_deref().filter(|_| self.bytes > 0).map(|validator| (self.bytes, validator))
    }

    /// Begins anew with another version.
    pub(super) fn restart(&mut self, validator: Option<String>, total: Option<u64>) -> io::Result<()> {
        self.file.set_len(0)?;
        self.bytes = 0;
        self.hasher = self.before.clone();
        self.note.validator = validator;
        self.note.bytes = total;
        self.keep_note()
    }

    /// Writes all that comes. It blocks: a thread of its own, which ends when the sender is dropped.
    pub(super) fn write_all(
        &mut self,
        mut chunks: tokio::sync::mpsc::Receiver<impl AsRef<[u8]>>,
    ) -> Result<(), WriteError> {
        self.file.seek(SeekFrom::Start(self.bytes)).map_err(WriteError::Io)?;
        // Pages that ask for a login come with 200 as well.
        let mut start = Vec::new();
        let mut is_seen = self.bytes > 0;
        while let Some(chunk) = chunks.blocking_recv() {
            let chunk = chunk.as_ref();
            if !is_seen {
                start.extend_from_slice(&chunk[..chunk.len().min(START)]);
                is_seen = start.len() >= MAGIC.len();
                if !start.starts_with(&MAGIC[..start.len().min(MAGIC.len())]) {
                    return Err(WriteError::NotGguf(String::from_utf8_lossy(&start).into_owned()));
                }
            }
            self.file.write_all(chunk).map_err(WriteError::Io)?;
            self.hasher.update(chunk);
            self.bytes += chunk.len() as u64;
        }
        Ok(())
    }

    /// All bytes are there.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.note.bytes = Some(self.bytes);
        self.file.sync_all()?;
        self.keep_note()
    }

    /// Gives the file its final name.
    pub(super) fn publish(self) -> Result<PathBuf, SourceError> {
        if !self.is_published {
            let failed = |source| write_error(&self.target, None, source);
            std::fs::rename(beside(&self.target, ".part"), &self.target).map_err(failed)?;
            let notes = (beside(&self.target, ".part.json"), beside(&self.target, ".source.json"));
            std::fs::rename(notes.0, notes.1).map_err(failed)?;
        }
        Ok(self.target)
    }

    /// Removes bytes that are of no use.
    pub(super) fn discard(self) {
        if !self.is_published {
            // What stays is overwritten by the next fetch.
            let _ = std::fs::remove_file(beside(&self.target, ".part.json"));
            let _ = std::fs::remove_file(beside(&self.target, ".part"));
        }
    }

    /// In one step, so that a note is whole.
    fn keep_note(&self) -> io::Result<()> {
        let path = beside(&self.target, ".part.json");
        let new = beside(&self.target, ".part.new");
        std::fs::write(&new, serde_json::to_vec(&self.note)?)?;
        std::fs::rename(new, path)
    }

    pub(super) fn write_error(&self, source: io::Error) -> SourceError {
        let needed = self.note.bytes.map(|all| all.saturating_sub(self.bytes));
        write_error(&self.path(), needed, source)
    }
}

fn write_error(path: &Path, needed: Option<u64>, source: io::Error) -> SourceError {
    SourceError::Write { path: path.to_owned(), needed, source }
}

fn beside(target: &Path, ending: &str) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    target.with_file_name(name)
}
