//! Answers peers that ask for a manifest, a piece, or what there is of a file.
//!
//! ```text
//!  request ─▶ verdict ─▶ slot ─▶ read (blocking thread)
//!                                   └─▶ write, at the limit's rate      the next piece is read meanwhile
//! ```
//! A stream takes a slot with its first piece and keeps it while it asks for more, so that those which are served are
//! served fast, and the others are told at once that this node is busy.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::io::{ReadHalf, WriteHalf};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, stream};
use libp2p::{PeerId, Stream};
use libp2p_stream::{AlreadyRegistered, Control};
use shard_wire::torrent::{ANSWER_LEN, Have, Kind, REQUEST_LEN, Request, Status, encode_answer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;

pub use super::shelf::{Served, Shelf, ShelfOptions};

use super::PROTOCOL;
use super::plan::MAX_ASKED;
use super::shelf::{Entry, Verdict};

/// Streams in all: most wait for news or for a slot.
const STREAMS: usize = 512;
/// Streams of one peer: two for each of its downloads, and some for manifests.
const STREAMS_PER_PEER: usize = 32;
/// Slots of one peer, which fetches so many files at once: it cannot take them all and then read nothing.
const SLOTS_PER_PEER: usize = 4;
/// A peer sends its next request, and takes a part of an answer, within this.
const PATIENCE: Duration = Duration::from_secs(60);
/// A stream that asks for nothing for so long gives its slot back.
const SLOT_IDLE: Duration = Duration::from_millis(500);
/// Pieces that one stream is given and has not confirmed: four times what an asker has under way.
const UNCONFIRMED: usize = 4 * MAX_ASKED;
/// News of pieces are collected for so long: at a hundred pieces a second each is not worth an answer of its own.
const COLLECT: Duration = Duration::from_millis(200);
/// Bytes that are read at a time. A larger piece is a header, and is read in parts.
const BLOCK: usize = 1 << 20;
/// Bytes that are written at a time under a limit: 20 ms at 20 Mbit/s.
const LIMITED_PART: usize = 64 << 10;

impl Shelf {
    /// Accepts streams of the protocol from now on.
    ///
    /// # Errors
    /// Where the protocol is accepted already.
    pub fn serve(&self, mut control: Control) -> Result<(), AlreadyRegistered> {
        let mut incoming = control.accept(PROTOCOL)?;
        let shelf = self.clone();
        let all = Arc::new(Semaphore::new(STREAMS));
        let (peers, served) = (Counts::default(), Counts::default());
        tokio::spawn(async move {
            while let Some((peer, stream)) = incoming.next().await {
                // One too many is dropped: the asker tries another peer.
                let Ok(permit) = Arc::clone(&all).try_acquire_owned() else { continue };
                let Some(place) = Place::take(&peers, peer, STREAMS_PER_PEER) else { continue };
                let asker = Asker {
                    shelf: shelf.clone(),
                    peer,
                    served: served.clone(),
                    slot: Mutex::new(None),
                    owed: AtomicUsize::new(0),
                    given: Mutex::default(),
                };
                let peers = Arc::clone(&peers);
                tokio::spawn(async move {
                    if let Err(error) = asker.answer_all(stream).await {
                        debug!(%peer, "torrent stream ended: {error}");
                    }
                    // What was not confirmed comes back.
                    let shelf = asker.shelf.clone();
                    drop((asker, permit, place));
                    if !lock(&peers).contains_key(&peer) {
                        shelf.is_away(peer);
                    }
                });
            }
        });
        Ok(())
    }
}

type Counts = Arc<Mutex<HashMap<PeerId, usize>>>;

/// One of a peer's streams, or slots.
struct Place {
    peers: Counts,
    peer: PeerId,
}

impl Place {
    fn take(peers: &Counts, peer: PeerId, most: usize) -> Option<Self> {
        let mut counts = lock(peers);
        let count = counts.entry(peer).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Self { peers: Arc::clone(peers), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = lock(&self.peers);
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

/// The peer at the other end of one stream.
struct Asker {
    shelf: Shelf,
    peer: PeerId,
    /// Slots of every peer.
    served: Counts,
    slot: Mutex<Option<Slot>>,
    /// Requests without an answer.
    owed: AtomicUsize,
    /// Pieces that are on their way or sent, and not confirmed, by file and offset.
    given: Mutex<HashMap<([u8; 32], u64), Given>>,
}

type Slot = (OwnedSemaphorePermit, Place);

/// An answer that is ready to be written.
enum Answer {
    Status(Status),
    Manifest(Arc<Vec<u8>>),
    Have(Have),
    /// The head and the first block of a piece in one buffer, and what it is a piece of.
    Piece {
        buffer: Vec<u8>,
        entry: Arc<Entry>,
        request: Request,
        piece: Given,
    },
}

impl Asker {
    async fn answer_all(&self, stream: Stream) -> io::Result<()> {
        let (reader, writer) = stream.split();
        let (queue, questions) = mpsc::channel(MAX_ASKED);
        let mut answer = std::pin::pin!(self.answer(writer, questions));
        tokio::select! {
            result = answer.as_mut() => result,
            // What was asked before the end is answered.
            read = self.read(reader, queue) => answer.await.and(read),
        }
    }

    /// Takes confirmations at once: behind the answers that wait they would come too late to count.
    async fn read(&self, mut reader: ReadHalf<Stream>, queue: mpsc::Sender<Request>) -> io::Result<()> {
        loop {
            let request = self.next_request(&mut reader).await?;
            if request.kind == Kind::Got {
                let given = lock(&self.given).remove(&(request.what, request.offset));
                given.into_iter().for_each(Given::confirm);
                continue;
            }
            self.owed.fetch_add(1, Ordering::Relaxed);
            if queue.send(request).await.is_err() {
                // Why is what the answers ended with.
                return Ok(());
            }
        }
    }

    async fn answer(
        &self,
        mut writer: WriteHalf<Stream>,
        mut questions: mpsc::Receiver<Request>,
    ) -> io::Result<()> {
        let questions = stream::poll_fn(|cx| questions.poll_recv(cx));
        // The next answer is made ready while this one is written.
        let mut answers = std::pin::pin!(questions.map(|request| self.prepare(request)).buffered(2));
        while let Some(answer) = answers.next().await {
            self.write(&mut writer, answer).await?;
            self.owed.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn next_request(&self, reader: &mut ReadHalf<Stream>) -> io::Result<Request> {
        let mut bytes = [0; REQUEST_LEN];
        {
            let mut read = std::pin::pin!(reader.read_exact(&mut bytes));
            let mut idle = Duration::ZERO;
            loop {
                if let Ok(done) = timeout(SLOT_IDLE, read.as_mut()).await {
                    done?;
                    break;
                }
                if self.owed.load(Ordering::Relaxed) > 0 {
                    idle = Duration::ZERO;
                    continue;
                }
                lock(&self.slot).take();
                idle += SLOT_IDLE;
                if idle >= PATIENCE {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
        Request::decode(&bytes).map_err(io::Error::other)
    }

    async fn prepare(&self, request: Request) -> Answer {
        match request.kind {
            Kind::Manifest => {
                self.shelf.manifest(&request.what).map_or(Answer::Status(Status::NotFound), Answer::Manifest)
            }
            Kind::Have => self.have(request).await,
            Kind::Piece => self.piece(request).await,
            // Taken before it comes to this; who asks all the same is told that there is nothing.
            Kind::Got => Answer::Status(Status::NotFound),
        }
    }

    /// What there is of a file, as soon as it differs from what the peer knows.
    async fn have(&self, request: Request) -> Answer {
        let deadline = Instant::now() + Duration::from_millis(request.length.into());
        let (mut known, mut told) = (request.offset, false);
        loop {
            let Some(entry) = self.shelf.file(&request.what) else { return Answer::Status(Status::NotFound) };
            let Some(mut partial) = entry.partial.clone() else { return Answer::Have(Have::Whole) };
            let bits = partial.borrow_and_update().clone();
            // Pieces are only added.
            let revision = 1 + bits.count() as u64;
            if known == 0 || told || Instant::now() >= deadline {
                return Answer::Have(Have::Some { revision, bits });
            }
            if revision != known {
                sleep(COLLECT).await;
                (known, told) = (revision, true);
                continue;
            }
            told = wait_for_news(&mut partial, deadline).await;
            if told {
                sleep(COLLECT).await;
            }
        }
    }

    async fn piece(&self, request: Request) -> Answer {
        let Some(entry) = self.shelf.file(&request.what) else { return Answer::Status(Status::NotFound) };
        if !self.take_slot() {
            return Answer::Status(Status::Busy);
        }
        let piece = match entry.may_leave(self.peer, request.offset, request.length) {
            Verdict::NotHere => return Answer::Status(Status::NotFound),
            Verdict::Elsewhere => return Answer::Status(Status::Elsewhere),
            Verdict::Give(piece) => Given { entry: Arc::clone(&entry), peer: self.peer, piece },
        };
        let first = (request.length as usize).min(BLOCK);
        let mut buffer = self.shelf.inner.buffers.take(ANSWER_LEN + first);
        buffer[..ANSWER_LEN].copy_from_slice(&encode_answer(Status::Ok, request.length));
        match read(Arc::clone(&entry), request.offset, buffer, ANSWER_LEN).await {
            Ok(buffer) => Answer::Piece { buffer, entry, request, piece },
            Err(error) => {
                debug!(peer = %self.peer, "a piece cannot be read: {error}");
                Answer::Status(Status::Unavailable)
            }
        }
    }

    async fn write(&self, writer: &mut WriteHalf<Stream>, answer: Answer) -> io::Result<()> {
        match answer {
            Answer::Status(status) => self.send(writer, &encode_answer(status, 0)).await?,
            Answer::Manifest(bytes) => {
                self.send(writer, &encode_answer(Status::Ok, bytes.len() as u32)).await?;
                self.send(writer, &bytes).await?;
            }
            Answer::Have(have) => {
                let data = have.encode();
                self.send(writer, &encode_answer(Status::Ok, data.len() as u32)).await?;
                self.send(writer, &data).await?;
            }
            Answer::Piece { mut buffer, entry, request, piece } => {
                // Before the first byte: its confirmation may come before the last flush returns.
                self.hold(request, piece)?;
                self.send(writer, &buffer).await?;
                let mut sent = buffer.len() - ANSWER_LEN;
                while sent < request.length as usize {
                    buffer.resize((request.length as usize - sent).min(BLOCK), 0);
                    let offset = request.offset + sent as u64;
                    buffer = read(Arc::clone(&entry), offset, buffer, 0).await?;
                    self.send(writer, &buffer).await?;
                    sent += buffer.len();
                }
                self.shelf.inner.buffers.give(buffer);
                timeout(PATIENCE, writer.flush()).await??;
                entry.ledger().sent(u64::from(request.length));
                return Ok(());
            }
        }
        timeout(PATIENCE, writer.flush()).await?
    }

    /// Keeps a piece until the peer confirms it, or the stream ends.
    fn hold(&self, request: Request, piece: Given) -> io::Result<()> {
        let mut given = lock(&self.given);
        if given.len() >= UNCONFIRMED {
            return Err(io::Error::other(format!("{UNCONFIRMED} pieces are not confirmed")));
        }
        given.insert((request.what, request.offset), piece);
        Ok(())
    }

    async fn send(&self, writer: &mut WriteHalf<Stream>, bytes: &[u8]) -> io::Result<()> {
        let limit = &self.shelf.inner.limit;
        if !limit.is_limited() {
            return timeout(PATIENCE, writer.write_all(bytes)).await?;
        }
        for part in bytes.chunks(LIMITED_PART) {
            limit.take(part.len()).await;
            timeout(PATIENCE, writer.write_all(part)).await??;
        }
        Ok(())
    }

    fn take_slot(&self) -> bool {
        let mut slot = lock(&self.slot);
        if slot.is_none() {
            let permit = Arc::clone(&self.shelf.inner.slots).try_acquire_owned().ok();
            *slot = permit.zip(Place::take(&self.served, self.peer, SLOTS_PER_PEER));
        }
        slot.is_some()
    }
}

/// A piece on its way: until its peer confirms it, it has not left.
struct Given {
    entry: Arc<Entry>,
    peer: PeerId,
    piece: Option<usize>,
}

impl Given {
    fn confirm(mut self) {
        if let Some(piece) = self.piece.take() {
            self.entry.ledger().left(self.peer, piece, std::time::Instant::now());
        }
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if let Some(piece) = self.piece {
            self.entry.ledger().came_back(self.peer, piece);
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fills `buffer` from `skip` on, on a blocking thread.
async fn read(entry: Arc<Entry>, offset: u64, mut buffer: Vec<u8>, skip: usize) -> io::Result<Vec<u8>> {
    let work = move || entry.content.read_at(offset, &mut buffer[skip..]).map(|()| buffer);
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// True when pieces were added, or the file is whole by now.
async fn wait_for_news(partial: &mut watch::Receiver<shard_wire::torrent::Bits>, deadline: Instant) -> bool {
    timeout_at(deadline, partial.changed()).await.is_ok()
}
