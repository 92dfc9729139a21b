//! A file in the making: `NAME.part`, and beside it `NAME.part.state`, which says what of it is verified.
//!
//! ```text
//! state   0  [u8; 32]  SHA-256 of the file to be
//!        32  a bit for each piece
//! ```
//! A piece is hashed, written in its place, and then its bit is written. So after a kill at any moment the bits claim
//! nothing that was not written, and at most the pieces under way are fetched again. A power failure may reorder the
//! two, and anybody may write to the file, so a claim is only a hint: a new start hashes every claimed piece before it
//! counts, and keeps the claim until then. That costs a second for each gigabyte or two and needs no fsync per piece. The bytes between tensors were
//! never written, and are zeros.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use shard_wire::manifest;
use shard_wire::torrent::Bits;
use tokio::sync::watch;

use super::DownloadError;
use super::content::Content;
use super::disk::Disk;
use super::shelf::file_key;

/// Of the file that is being fetched.
pub(crate) const PART: &str = ".part";
const STATE: &str = ".part.state";
/// A part of that name was of another file: its tensors may be of use, and it goes when this one is finished.
const OLD: &str = ".part.old";
/// What a download keeps beside a file's final name.
pub(crate) fn names(file: &str) -> [String; 3] {
    [PART, STATE, OLD].map(|suffix| format!("{file}{suffix}"))
}

/// Bytes of the state before the bits.
const STATE_HEAD: usize = 32;
/// A download that was cancelled a moment ago still has a piece to write.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Where a file is gathered.
pub(super) struct Part {
    disk: Arc<dyn Disk>,
    about: manifest::File,
    hashes: Vec<[u8; 32]>,
    file: File,
    state: Mutex<State>,
    paths: Paths,
    bits: watch::Sender<Bits>,
}

/// The state file, and the bits in it: those of pieces that are verified, and of those that it claimed and that were not
/// hashed yet.
struct State {
    file: File,
    bits: Bits,
}

struct Paths {
    target: PathBuf,
    part: PathBuf,
    state: PathBuf,
    old: PathBuf,
}

impl Paths {
    fn new(folder: &Path, name: &str) -> Self {
        let with = |suffix: &str| folder.join(format!("{name}{suffix}"));
        Self { target: with(""), part: with(PART), state: with(STATE), old: with(OLD) }
    }
}

/// What became of a piece that a peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// It is there now, or was already.
    Right,
    /// It is other bytes.
    Wrong,
}

impl Part {
    /// Opens what there is of `about` in `folder`, or begins it. Returns which pieces the state claims.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        about: manifest::File,
    ) -> Result<(Self, Bits), DownloadError> {
        let paths = Paths::new(folder, &about.name);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| DownloadError::Open { path, source }
        };
        let key = file_key(&about.sha256).unwrap_or_default();
        let hashes = about.pieces.iter().filter_map(|piece| file_key(&piece.sha256)).collect();
        let mut file = open_locked(&*disk, &paths.part)?;
        let mut state = disk.open(&paths.state).map_err(failed(&paths.state))?;
        let claims = match read_state(&state, about.pieces.len()) {
            Some((of, bits)) if of == key => bits,
            Some(_) => {
                std::fs::rename(&paths.part, &paths.old).map_err(failed(&paths.old))?;
                std::fs::remove_file(&paths.state).map_err(failed(&paths.state))?;
                file = open_locked(&*disk, &paths.part)?;
                state = disk.open(&paths.state).map_err(failed(&paths.state))?;
                Bits::new(about.pieces.len())
            }
            // Without a state any piece may be there.
            None => {
                let mut bits = Bits::new(about.pieces.len());
                let length = file.metadata().map_err(failed(&paths.part))?.len();
                let inside = about.pieces.iter().filter(|piece| piece.offset + piece.size <= length);
                (0..inside.count()).for_each(|piece| bits.set(piece));
                bits
            }
        };
        let begun = [&key[..], claims.as_bytes()].concat();
        state.set_len(begun.len() as u64).map_err(failed(&paths.state))?;
        disk.write_at(&state, &begun, 0).map_err(failed(&paths.state))?;
        file.set_len(about.size).map_err(failed(&paths.part))?;
        let state = Mutex::new(State { file: state, bits: claims.clone() });
        let bits = watch::Sender::new(Bits::new(about.pieces.len()));
        Ok((Self { disk, about, hashes, file, state, paths, bits }, claims))
    }

    pub(super) fn about(&self) -> &manifest::File {
        &self.about
    }

    /// The verified pieces, now and as they become more.
    pub(super) fn bits(&self) -> watch::Receiver<Bits> {
        self.bits.subscribe()
    }

    pub(super) fn has(&self, piece: usize) -> bool {
        self.bits.borrow().has(piece)
    }

    /// Hashes a piece that the state claims; it counts if it is right.
    pub(super) fn check(&self, piece: usize, buffer: &mut Vec<u8>) -> Result<Stored, DownloadError> {
        let Some(place) = self.about.pieces.get(piece) else { return Ok(Stored::Wrong) };
        buffer.resize(place.size as usize, 0);
        let failed = |source| DownloadError::Read { path: self.paths.part.clone(), source };
        self.file.read_exact_at(buffer, place.offset).map_err(failed)?;
        let right = self.is_right(piece, buffer);
        self.record(piece, right)?;
        Ok(if right { Stored::Right } else { Stored::Wrong })
    }

    /// Verifies a piece and writes it to its place.
    pub(super) fn store(&self, piece: usize, bytes: &[u8]) -> Result<Stored, DownloadError> {
        let Some(place) = self.about.pieces.get(piece) else { return Ok(Stored::Wrong) };
        if self.has(piece) {
            return Ok(Stored::Right);
        }
        if bytes.len() as u64 != place.size || !self.is_right(piece, bytes) {
            return Ok(Stored::Wrong);
        }
        self.disk.write_at(&self.file, bytes, place.offset).map_err(|source| self.unwritten(source))?;
        self.record(piece, true)?;
        Ok(Stored::Right)
    }

    fn is_right(&self, piece: usize, bytes: &[u8]) -> bool {
        self.hashes.get(piece).is_some_and(|hash| Sha256::digest(bytes)[..] == hash[..])
    }

    fn record(&self, piece: usize, is_there: bool) -> Result<(), DownloadError> {
        // Two pieces of one byte would overwrite one another.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if is_there {
            state.bits.set(piece);
        } else {
            state.bits.clear(piece);
        }
        let byte = piece / 8;
        let bits = state.bits.as_bytes().get(byte).copied().unwrap_or_default();
        let offset = (STATE_HEAD + byte) as u64;
        self.disk.write_at(&state.file, &[bits], offset).map_err(|source| self.unwritten(source))?;
        if is_there {
            self.bits.send_modify(|bits| bits.set(piece));
        }
        Ok(())
    }

    fn unwritten(&self, source: io::Error) -> DownloadError {
        let bits = self.bits.borrow();
        let missing = self.about.pieces.iter().enumerate().filter(|(piece, _)| !bits.has(*piece));
        let missing = missing.map(|(_, place)| place.size).sum();
        DownloadError::Write { path: self.paths.part.clone(), missing, source }
    }

    /// What was written is on the medium, so that little is left to do at the end.
    pub(super) fn sync(&self) -> Result<(), DownloadError> {
        self.disk.sync(&self.file).map_err(|source| self.unwritten(source))
    }

    /// Feeds the bytes from `from` to `to` to `hasher`.
    pub(super) fn hash(
        &self,
        hasher: &mut Sha256,
        from: u64,
        to: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<(), DownloadError> {
        let mut at = from;
        while at < to {
            buffer.resize((to - at).min(manifest::PIECE_SIZE) as usize, 0);
            let failed = |source| DownloadError::Read { path: self.paths.part.clone(), source };
            self.file.read_exact_at(buffer, at).map_err(failed)?;
            hasher.update(&buffer);
            at += buffer.len() as u64;
        }
        Ok(())
    }

    /// Removes what there is of it.
    pub(super) fn discard(&self) {
        // What is left over harms nobody, and a later download clears it.
        let _ = (std::fs::remove_file(&self.paths.part), std::fs::remove_file(&self.paths.state));
    }

    /// Gives the file its final name, if `found` is its hash.
    pub(super) fn publish(&self, found: String) -> Result<PathBuf, DownloadError> {
        let Paths { target, part, state, old } = &self.paths;
        if found != self.about.sha256 {
            // Nothing in it can be trusted to be of the right file.
            self.discard();
            let expected = self.about.sha256.clone();
            return Err(DownloadError::Inconsistent { path: target.clone(), found, expected });
        }
        self.sync()?;
        self.disk.publish(part, target).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => DownloadError::Vanished { path: part.clone() },
            _ => DownloadError::Publish { path: target.clone(), source },
        })?;
        // As in `discard`.
        let _ = (std::fs::remove_file(state), std::fs::remove_file(old));
        Ok(target.clone())
    }
}

impl Content for Part {
    fn size(&self) -> u64 {
        self.about.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

fn read_state(state: &File, pieces: usize) -> Option<([u8; 32], Bits)> {
    let mut head = [0; STATE_HEAD];
    state.read_exact_at(&mut head, 0).ok()?;
    // Of another file there may be another number of bits.
    let mut bits = vec![0; pieces.div_ceil(8)];
    let whole = state.metadata().is_ok_and(|about| about.len() == (STATE_HEAD + bits.len()) as u64);
    let read = whole && state.read_exact_at(&mut bits, STATE_HEAD as u64).is_ok();
    let bits = if read { Bits::from_bytes(&bits, pieces).ok() } else { None };
    Some((head, bits.unwrap_or_else(|| Bits::new(pieces))))
}

/// Opens a file that nobody else has open, under this name: while one waits, another download may have finished it.
fn open_locked(disk: &dyn Disk, path: &Path) -> Result<File, DownloadError> {
    let failed = |source| DownloadError::Open { path: path.to_owned(), source };
    for _ in 0..LOCK_TRIES {
        let file = disk.open(path).map_err(failed)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            // Some network file systems cannot lock; there the user has to take care.
            Err(TryLockError::Error(_)) | Ok(()) => {
                let (here, there) = (file.metadata().map_err(failed)?, path.metadata());
                if there.is_ok_and(|there| (there.dev(), there.ino()) == (here.dev(), here.ino())) {
                    return Ok(file);
                }
            }
        }
    }
    Err(DownloadError::Busy { path: path.to_owned() })
}
