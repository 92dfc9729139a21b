//! One peer of one download: asks it for pieces, several at a time, and hears what it has.
//!
//! ```text
//!  asks ─▶ requests ─────────▶ peer           stream 1: pieces
//!  events ◀─ hash, write ◀─ answers ◀─ peer             (a blocking thread for each piece)
//!  events ◀─ Has ◀──────── news ◀──── peer    stream 2: what else it has, while it is not whole
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{PeerId, Stream};
use shard_wire::torrent::{ANSWER_LEN, Have, Kind, MAX_WAIT, Request, Status, TorrentError, decode_answer};
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use super::buffers::Buffers;
use super::part::{Part, Stored};
use super::plan::{MAX_ASKED, Refusal};
use super::{DownloadError, PROTOCOL};
use crate::net::Network;

/// A dial and a stream take no longer.
const OPEN: Duration = Duration::from_secs(20);
/// A peer that owes something and sends nothing for so long has stalled.
const STALL: Duration = Duration::from_secs(15);
/// A piece takes no longer, from its first byte to its last, for each MiB: a peer that dribbles is as good as none.
const PIECE: Duration = Duration::from_secs(60);
/// Between one answer about pieces and the next question, whatever the peer would answer.
const NEWS_PAUSE: Duration = Duration::from_millis(200);
/// How long a question about pieces may wait.
const NEWS_WAIT: u32 = 25_000;
const _: () = assert!(NEWS_WAIT <= MAX_WAIT);
/// Bytes that a piece's buffer grows by while it arrives: a header may be large, and a peer may say anything.
const STEP: usize = 1 << 20;

/// What the links of all downloads share.
pub(super) struct Shared {
    pub(super) network: Network,
    pub(super) buffers: Buffers,
    /// MiB of pieces that are arriving or being written.
    pub(super) memory: Arc<Semaphore>,
}

/// MiB that [`Shared::memory`] has.
pub(super) const MEMORY: u32 = 32;

/// What a link tells its download.
pub(super) enum LinkEvent {
    Has(Have),
    Stored(u32),
    Bad(u32),
    Refused(u32, Refusal),
    Disk(DownloadError),
}

/// An event, of which peer, and of which of the links to it.
pub(super) type FromLink = (PeerId, u64, LinkEvent);

/// Why a link has ended.
#[derive(Debug, Error)]
pub(super) enum LinkError {
    #[error("opening a stream: {0}")]
    Open(String),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("nothing came within {STALL:?}")]
    Stalled,
    #[error("a piece took longer than {PIECE:?}")]
    Slow,
    #[error("it has none of the file ({0:?})")]
    HasNone(Status),
    #[error("{0}")]
    Protocol(#[from] TorrentError),
    #[error("it sent {found} bytes where {expected} were asked for")]
    Length { found: u32, expected: u64 },
    #[error("the download is over")]
    Over,
}

pub(super) struct Link {
    pub(super) shared: Arc<Shared>,
    pub(super) part: Arc<Part>,
    pub(super) key: [u8; 32],
    pub(super) peer: PeerId,
    pub(super) number: u64,
    pub(super) events: mpsc::Sender<FromLink>,
}

impl Link {
    /// Runs until the peer fails, or `asks` ends.
    pub(super) async fn run(self, asks: mpsc::Receiver<u32>) -> LinkError {
        match self.talk(asks).await {
            Ok(()) => LinkError::Over,
            Err(error) => error,
        }
    }

    async fn talk(&self, asks: mpsc::Receiver<u32>) -> Result<(), LinkError> {
        let mut stream = self.open().await?;
        let have = self.ask_have(&mut stream, 0, 0).await?;
        let known = match &have {
            Have::Whole => None,
            Have::Some { revision, .. } => Some(*revision),
        };
        self.tell(LinkEvent::Has(have)).await?;
        let (reader, writer) = stream.split();
        let (expected, expecting) = mpsc::channel(2 * MAX_ASKED);
        let (stored, confirm) = mpsc::channel(2 * MAX_ASKED);
        tokio::select! {
            result = self.request(writer, asks, confirm, expected) => result,
            result = self.receive(reader, expecting, stored) => result,
            result = self.follow(known) => result,
        }
    }

    async fn open(&self) -> Result<Stream, LinkError> {
        let mut control = self.shared.network.streams();
        let open = async {
            match control.open_stream(self.peer, PROTOCOL).await {
                Ok(stream) => Ok(stream),
                // Only the DHT knows where it is.
                Err(_) => {
                    let dialled = self.shared.network.dial(Some(self.peer), Vec::new()).await;
                    dialled.map_err(|error| LinkError::Open(error.to_string()))?;
                    let stream = control.open_stream(self.peer, PROTOCOL).await;
                    stream.map_err(|error| LinkError::Open(error.to_string()))
                }
            }
        };
        timeout(OPEN, open).await.map_err(|_| LinkError::Open(format!("not within {OPEN:?}")))?
    }

    /// Asks which pieces the peer has beyond a revision.
    async fn ask_have(&self, stream: &mut Stream, known: u64, wait: u32) -> Result<Have, LinkError> {
        let pieces = self.part.about().pieces.len();
        let exchange = async {
            let request = Request { kind: Kind::Have, length: wait, offset: known, what: self.key };
            stream.write_all(&request.encode()).await?;
            stream.flush().await?;
            let mut head = [0; ANSWER_LEN];
            stream.read_exact(&mut head).await?;
            let (status, length) = decode_answer(&head)?;
            if status != Status::Ok {
                return Err(LinkError::HasNone(status));
            }
            let most = Have::max_len(pieces);
            if length as usize > most {
                return Err(LinkError::Length { found: length, expected: most as u64 });
            }
            let mut data = vec![0; length as usize];
            stream.read_exact(&mut data).await?;
            Ok(Have::decode(&data, pieces)?)
        };
        let patience = STALL + Duration::from_millis(wait.into());
        timeout(patience, exchange).await.map_err(|_| LinkError::Stalled)?
    }

    /// Hears of further pieces, while there are any.
    async fn follow(&self, known: Option<u64>) -> Result<(), LinkError> {
        let Some(mut known) = known else { return std::future::pending().await };
        let mut stream = self.open().await?;
        loop {
            sleep(NEWS_PAUSE).await;
            match self.ask_have(&mut stream, known, NEWS_WAIT).await? {
                Have::Some { revision, .. } if revision == known => {}
                have => {
                    if let Have::Some { revision, .. } = &have {
                        known = *revision;
                    }
                    let whole = have == Have::Whole;
                    self.tell(LinkEvent::Has(have)).await?;
                    if whole {
                        drop(stream);
                        return std::future::pending().await;
                    }
                }
            }
        }
    }

    async fn request(
        &self,
        mut writer: impl futures::AsyncWrite + Unpin,
        mut asks: mpsc::Receiver<u32>,
        mut confirm: mpsc::Receiver<u32>,
        expected: mpsc::Sender<u32>,
    ) -> Result<(), LinkError> {
        let mut bytes = Vec::new();
        loop {
            let (kind, first, queue) = tokio::select! {
                biased;
                piece = confirm.recv() => (Kind::Got, piece, &mut confirm),
                piece = asks.recv() => (Kind::Piece, piece, &mut asks),
            };
            let Some(first) = first else { return Ok(writer.close().await?) };
            let rest = std::iter::from_fn(|| queue.try_recv().ok()).take(MAX_ASKED);
            for piece in std::iter::once(first).chain(rest) {
                let Some(place) = self.part.about().pieces.get(piece as usize) else { continue };
                let length = place.size as u32;
                let request = Request { kind, length, offset: place.offset, what: self.key };
                bytes.extend(request.encode());
                if kind == Kind::Piece {
                    expected.send(piece).await.map_err(|_| LinkError::Over)?;
                }
            }
            writer.write_all(&bytes).await?;
            writer.flush().await?;
            bytes.clear();
        }
    }

    async fn receive(
        &self,
        mut reader: impl futures::AsyncRead + Unpin,
        mut expecting: mpsc::Receiver<u32>,
        stored: mpsc::Sender<u32>,
    ) -> Result<(), LinkError> {
        while let Some(piece) = expecting.recv().await {
            let mut head = [0; ANSWER_LEN];
            timeout(STALL, reader.read_exact(&mut head)).await.map_err(|_| LinkError::Stalled)??;
            let (status, length) = decode_answer(&head)?;
            let size = self.part.about().pieces.get(piece as usize).map_or(0, |place| place.size);
            let refusal = match status {
                Status::Ok => None,
                Status::Busy => Some(Refusal::Busy),
                Status::Elsewhere => Some(Refusal::Elsewhere),
                Status::NotFound | Status::Unavailable => Some(Refusal::Lacks),
            };
            let expected = if refusal.is_some() { 0 } else { size };
            if u64::from(length) != expected {
                return Err(LinkError::Length { found: length, expected });
            }
            match refusal {
                Some(why) => self.tell(LinkEvent::Refused(piece, why)).await?,
                None => self.take(&mut reader, piece, length as usize, &stored).await?,
            }
        }
        Ok(())
    }

    /// Reads a piece; it is hashed and written while the next one arrives.
    async fn take(
        &self,
        reader: &mut (impl futures::AsyncRead + Unpin),
        piece: u32,
        length: usize,
        stored: &mpsc::Sender<u32>,
    ) -> Result<(), LinkError> {
        let mib = length.div_ceil(STEP) as u32;
        let permit = Arc::clone(&self.shared.memory).acquire_many_owned(mib.clamp(1, MEMORY)).await;
        let permit = permit.map_err(|_| LinkError::Over)?;
        let mut buffer = self.shared.buffers.take(length.min(STEP));
        let all = async {
            let mut filled = 0;
            loop {
                let read = timeout(STALL, reader.read(&mut buffer[filled..])).await;
                let read = read.map_err(|_| LinkError::Stalled)??;
                if read == 0 {
                    return Err(LinkError::Io(io::ErrorKind::UnexpectedEof.into()));
                }
                filled += read;
                if filled == length {
                    return Ok(());
                }
                if filled == buffer.len() {
                    buffer.resize(length.min(filled + STEP), 0);
                }
            }
        };
        timeout(PIECE * mib.max(1), all).await.map_err(|_| LinkError::Slow)??;
        let (shared, part) = (Arc::clone(&self.shared), Arc::clone(&self.part));
        let (events, peer, number, stored) = (self.events.clone(), self.peer, self.number, stored.clone());
        tokio::task::spawn_blocking(move || {
            let event = match part.store(piece as usize, &buffer) {
                Ok(Stored::Right) => {
                    // There is room for all that is under way; a peer that is gone need not hear it.
                    let _ = stored.try_send(piece);
                    LinkEvent::Stored(piece)
                }
                Ok(Stored::Wrong) => LinkEvent::Bad(piece),
                Err(error) => LinkEvent::Disk(error),
            };
            shared.buffers.give(buffer);
            drop((permit, part));
            // A download that is over wants to hear no more.
            let _ = events.blocking_send((peer, number, event));
        });
        Ok(())
    }

    async fn tell(&self, event: LinkEvent) -> Result<(), LinkError> {
        self.events.send((self.peer, self.number, event)).await.map_err(|_| LinkError::Over)
    }
}
