//! Streams of `/activation/1.0` to and from every peer.
//!
//! ```text
//! send(peer, frame) ─▶ queue per (peer, lane) ─▶ writer ─▶ stream ═══▶ reader ─▶ inbox of the stage or of the gateway
//!         └─ own peer id ─────────────────────────────────────────────────────────▶┘
//! ```
//! Sending never waits: a queue that is full, or a peer that cannot be reached, gives the frame back to its sender
//! as [`Inbound::Unsent`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{PeerId, Stream, StreamProtocol};
use libp2p_stream::{AlreadyRegistered, Control, IncomingStreams};
use shard_wire::frame::{Frame, Header, Kind, Lane, Limits, TO_GATEWAY};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::frame_io::{ReadError, read_frame};

/// The protocol's name.
pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/activation/1.0");
/// Frames that wait for a writer: every session of a node has at most a window of chunks and a few small frames.
const QUEUE: usize = 1024;
/// Frames that wait for a stage or a gateway.
pub const INBOX: usize = 4096;
/// Streams that one peer may have open towards us: two lanes, and twice that while a connection is replaced.
const STREAMS_PER_PEER: usize = 4;
/// A peer answers a new stream, and says its lane, within this.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer takes what was written within this.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Small frames are written together up to this many bytes.
const COALESCE: usize = 64 << 10;

/// What reaches a stage or a gateway from the lanes.
#[derive(Debug)]
pub enum Inbound {
    /// A frame from a peer.
    Frame(PeerId, Frame),
    /// A frame of ours that could not be sent to a peer.
    Unsent(PeerId, Frame),
}

/// Where inbound frames go; `None` where the program has no such side.
#[derive(Clone, Debug)]
pub struct Inboxes {
    /// The stages of this node.
    pub stage: Option<mpsc::Sender<Inbound>>,
    /// The sessions that this node owns.
    pub gateway: Option<mpsc::Sender<Inbound>>,
}

impl Inboxes {
    fn of(&self, for_gateway: bool) -> Option<&mpsc::Sender<Inbound>> {
        if for_gateway { self.gateway.as_ref() } else { self.stage.as_ref() }
    }
}

type Writers = HashMap<(PeerId, Lane), mpsc::Sender<Frame>>;

/// The lanes of one process.
#[derive(Clone)]
pub struct Lanes {
    me: PeerId,
    control: Control,
    inboxes: Inboxes,
    writers: Arc<Mutex<Writers>>,
}

impl Lanes {
    /// Accepts streams of the protocol from now on, and writes to peers on demand.
    ///
    /// # Errors
    /// Where the protocol is accepted already.
    pub fn spawn(me: PeerId, mut control: Control, inboxes: Inboxes) -> Result<Self, AlreadyRegistered> {
        let incoming = control.accept(PROTOCOL)?;
        let lanes = Self { me, control, inboxes, writers: Arc::default() };
        tokio::spawn(lanes.clone().accept(incoming));
        Ok(lanes)
    }

    /// Queues a frame for a peer; never waits.
    pub fn send(&self, to: PeerId, frame: Frame) {
        if to == self.me {
            let inbox = self.inboxes.of(frame.header.flags & TO_GATEWAY != 0);
            if inbox.is_some_and(|inbox| inbox.try_send(Inbound::Frame(to, frame)).is_err()) {
                warn!("a frame to this node itself was dropped: its inbox is full");
            }
            return;
        }
        let lane = frame.lane();
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = writers.entry((to, lane)).or_insert_with(|| self.writer(to, lane));
        let refused = match writer.try_send(frame) {
            Ok(()) => None,
            // The writer has ended with its connection; the next one may have another.
            Err(mpsc::error::TrySendError::Closed(frame)) => {
                *writer = self.writer(to, lane);
                writer.try_send(frame).err().map(mpsc::error::TrySendError::into_inner)
            }
            Err(mpsc::error::TrySendError::Full(frame)) => Some(frame),
        };
        drop(writers);
        if let Some(frame) = refused {
            self.unsent(to, frame);
        }
    }

    /// Forgets the streams to a peer whose connection is gone: the next frame opens new ones.
    pub fn forget(&self, peer: PeerId) {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner).retain(|(to, _), _| *to != peer);
    }

    fn writer(&self, to: PeerId, lane: Lane) -> mpsc::Sender<Frame> {
        let (frames, queue) = mpsc::channel(QUEUE);
        tokio::spawn(self.clone().write(to, lane, queue));
        frames
    }

    async fn write(mut self, to: PeerId, lane: Lane, mut queue: mpsc::Receiver<Frame>) {
        let opened = timeout(OPEN_TIMEOUT, self.control.open_stream(to, PROTOCOL)).await;
        let reason = match opened {
            Err(_) => format!("no stream within {OPEN_TIMEOUT:?}"),
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(mut stream)) => match self.pump(&mut stream, to, lane, &mut queue).await {
                Ok(()) => return drop(stream.close().await),
                Err(reason) => reason,
            },
        };
        debug!(%to, ?lane, reason, "lane ended");
        queue.close();
        while let Some(frame) = queue.recv().await {
            self.unsent(to, frame);
        }
    }

    /// Writes until the queue ends, or an error that is a reason.
    async fn pump(
        &self,
        stream: &mut Stream,
        to: PeerId,
        lane: Lane,
        queue: &mut mpsc::Receiver<Frame>,
    ) -> Result<(), String> {
        let mut bytes = vec![lane as u8];
        while let Some(frame) = queue.recv().await {
            let mut batch = vec![frame];
            bytes.extend(batch[0].encode());
            while bytes.len() < COALESCE
                && let Ok(frame) = queue.try_recv()
            {
                bytes.extend(frame.encode());
                batch.push(frame);
            }
            let written = async {
                stream.write_all(&bytes).await?;
                stream.flush().await
            };
            let error = match timeout(WRITE_TIMEOUT, written).await {
                Ok(Ok(())) => {
                    bytes.clear();
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("the peer took nothing for {WRITE_TIMEOUT:?}"),
            };
            batch.into_iter().for_each(|frame| self.unsent(to, frame));
            return Err(error);
        }
        Ok(())
    }

    /// Gives a frame back to the side that sent it.
    fn unsent(&self, to: PeerId, frame: Frame) {
        let Header { kind, stage, .. } = frame.header;
        let by_gateway = match kind {
            Kind::Open => stage == 0,
            Kind::Start | Kind::Close | Kind::Where => true,
            _ => false,
        };
        if let Some(inbox) = self.inboxes.of(by_gateway) {
            // A full inbox: the owner's own deadlines end the session.
            let _ = inbox.try_send(Inbound::Unsent(to, frame));
        }
    }

    async fn accept(self, mut incoming: IncomingStreams) {
        let open: Arc<Mutex<HashMap<PeerId, usize>>> = Arc::default();
        while let Some((peer, stream)) = incoming.next().await {
            let taken = {
                let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                let streams = open.entry(peer).or_default();
                *streams += 1;
                *streams
            };
            let (lanes, open) = (self.clone(), Arc::clone(&open));
            tokio::spawn(async move {
                if taken > STREAMS_PER_PEER {
                    warn!(%peer, "more than {STREAMS_PER_PEER} activation streams: one is refused");
                } else if let Err(error) = lanes.read(peer, stream).await {
                    debug!(%peer, "activation stream ended: {error}");
                }
                let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(streams) = open.get_mut(&peer) {
                    *streams -= 1;
                    if *streams == 0 {
                        open.remove(&peer);
                    }
                }
            });
        }
    }

    async fn read(&self, peer: PeerId, mut stream: Stream) -> Result<(), ReadError> {
        let mut lane = [0];
        let Ok(said) = timeout(OPEN_TIMEOUT, stream.read_exact(&mut lane)).await else { return Ok(()) };
        said?;
        if Lane::from_byte(lane[0]).is_none() {
            warn!(%peer, "activation stream begins with {}, which is no lane: cut off", lane[0]);
            return Ok(());
        }
        let limits = Limits::default();
        loop {
            let frame = match read_frame(&mut stream, &limits).await {
                Ok(frame) => frame,
                Err(ReadError::End) => return Ok(()),
                Err(error) => {
                    if let ReadError::Frame(lie) = &error {
                        warn!(%peer, "{lie}: cut off");
                    }
                    return Err(error);
                }
            };
            // A full inbox holds this stream back, and with it its peer alone.
            if let Some(inbox) = self.inboxes.of(frame.header.flags & TO_GATEWAY != 0)
                && inbox.send(Inbound::Frame(peer, frame)).await.is_err()
            {
                return Ok(());
            }
        }
    }
}
