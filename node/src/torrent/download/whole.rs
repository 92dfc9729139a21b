//! The SHA-256 of the whole file, beside the transfer: as far as the file is gapless, on a blocking thread.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use super::super::DownloadError;
use super::super::part::Part;
use crate::store::hash;

/// Less is not worth a thread's turn.
const LEAST: u64 = 8 << 20;
/// Bytes of one turn: a download that is dropped soon needs no thread any more.
const MOST: u64 = 64 << 20;
/// Bytes after which the disk is told to write, so that the fsync at the end has little to do.
const SYNC_EVERY: u64 = 256 << 20;

type Turn = (Sha256, u64, Vec<u8>);

/// How far the whole is hashed.
pub(super) struct Whole {
    part: Arc<Part>,
    /// Absent while a turn runs.
    idle: Option<Turn>,
    running: Option<JoinHandle<Result<Turn, DownloadError>>>,
    /// Pieces without a gap before them.
    gapless: usize,
    written: u64,
    syncing: Option<JoinHandle<Result<(), DownloadError>>>,
}

impl Whole {
    pub(super) fn new(part: Arc<Part>) -> Self {
        let idle = Some((Sha256::new(), 0, Vec::new()));
        Self { part, idle, running: None, gapless: 0, written: 0, syncing: None }
    }

    /// Begins a turn where enough is there and none runs.
    pub(super) fn advance(&mut self) {
        let about = self.part.about();
        let to = {
            let bits = self.part.bits();
            let bits = bits.borrow();
            while bits.has(self.gapless) {
                self.gapless += 1;
            }
            about.pieces.get(self.gapless).map_or(about.size, |piece| piece.offset)
        };
        let last = to == about.size;
        let Some((mut hasher, at, mut buffer)) =
            self.idle.take_if(|(_, at, _)| to > *at && (last || to - *at >= LEAST))
        else {
            return;
        };
        let (part, to) = (Arc::clone(&self.part), to.min(at + MOST));
        self.running = Some(tokio::task::spawn_blocking(move || {
            part.hash(&mut hasher, at, to, &mut buffer)?;
            Ok((hasher, to, buffer))
        }));
    }

    /// Waits for the end of a turn; for ever while none runs.
    pub(super) async fn turn(&mut self) -> Result<(), DownloadError> {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let result = running.await;
        self.running = None;
        self.idle = Some(result.map_err(|_| self.ended())??);
        Ok(())
    }

    /// So many bytes more were written.
    pub(super) fn wrote(&mut self, bytes: u64) {
        self.written += bytes;
        let syncs = self.syncing.as_ref().is_some_and(|task| !task.is_finished());
        if self.written >= SYNC_EVERY && !syncs {
            self.written = 0;
            let part = Arc::clone(&self.part);
            self.syncing = Some(tokio::task::spawn_blocking(move || part.sync()));
        }
    }

    /// The hash, once all pieces are there.
    pub(super) async fn finish(mut self) -> Result<String, DownloadError> {
        let size = self.part.about().size;
        loop {
            self.advance();
            if self.running.is_some() {
                self.turn().await?;
            }
            match self.idle.take_if(|(_, at, _)| *at == size) {
                Some((hasher, ..)) => return Ok(hash::finish(hasher)),
                // A fault of ours: without it this would turn for ever.
                None if self.idle.is_none() => return Err(self.ended()),
                None => {}
            }
        }
    }

    fn ended(&self) -> DownloadError {
        DownloadError::Ended { name: self.part.about().name.clone() }
    }
}
