//! A peer that speaks the protocol by hand, and does with each request what the test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{PeerId, Stream};
use shard_node::config::Transport;
use shard_node::net::DhtMode;
use shard_node::torrent::PROTOCOL;
use shard_wire::torrent::{Bits, Have, Kind, REQUEST_LEN, Request, Status, encode_answer};

use crate::common::Peer;
use crate::harness::Made;

/// What the peer does when it is asked.
pub enum Deed {
    /// The answer, byte for byte.
    Say(Vec<u8>),
    /// Nothing, for ever.
    Stall,
    /// Ends the connection.
    Leave,
    /// These bytes again and again, for ever.
    Flood(Vec<u8>),
}

pub struct Puppet {
    pub peer: Peer,
    /// Pieces that it was asked for.
    pub asked: Arc<AtomicUsize>,
}

impl Puppet {
    pub async fn start(deed: impl Fn(Request) -> Deed + Send + Sync + 'static) -> Self {
        let peer = Peer::start(DhtMode::Server, Transport::Tcp).await;
        let mut incoming = peer.network.streams().accept(PROTOCOL).unwrap();
        let (deed, asked) = (Arc::new(deed), Arc::new(AtomicUsize::new(0)));
        let (count, network) = (Arc::clone(&asked), peer.network.clone());
        tokio::spawn(async move {
            while let Some((from, stream)) = incoming.next().await {
                let (deed, count, network) = (Arc::clone(&deed), Arc::clone(&count), network.clone());
                tokio::spawn(async move {
                    if answer(stream, &*deed, &count).await.is_none() {
                        network.disconnect(from).await;
                    }
                });
            }
        });
        Self { peer, asked }
    }

    pub fn id(&self) -> PeerId {
        self.peer.network.local_peer()
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// `None` when the peer leaves.
async fn answer(
    mut stream: Stream,
    deed: &(dyn Fn(Request) -> Deed + Send + Sync),
    asked: &AtomicUsize,
) -> Option<()> {
    loop {
        let mut bytes = [0; REQUEST_LEN];
        if stream.read_exact(&mut bytes).await.is_err() {
            return Some(());
        }
        let request = Request::decode(&bytes).expect("a node asks rightly");
        if request.kind == Kind::Got {
            continue;
        }
        if request.kind == Kind::Piece {
            asked.fetch_add(1, Ordering::SeqCst);
        }
        match deed(request) {
            Deed::Say(bytes) => {
                if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                    return Some(());
                }
            }
            Deed::Stall => std::future::pending().await,
            Deed::Leave => return None,
            Deed::Flood(bytes) => while stream.write_all(&bytes).await.is_ok() {},
        }
    }
}

pub fn ok(data: &[u8]) -> Deed {
    Deed::Say([&encode_answer(Status::Ok, data.len() as u32)[..], data].concat())
}

pub fn status(status: Status) -> Deed {
    Deed::Say(encode_answer(status, 0).to_vec())
}

/// The answer of one that has everything, or these pieces and never more.
pub fn honest(made: &Made, pieces: Option<&[usize]>, request: Request) -> Deed {
    match request.kind {
        Kind::Manifest => status(Status::NotFound),
        Kind::Have => match pieces {
            None => ok(&Have::Whole.encode()),
            Some(_) if request.offset != 0 => Deed::Stall,
            Some(pieces) => {
                let mut bits = Bits::new(made.file().pieces.len());
                pieces.iter().for_each(|piece| bits.set(*piece));
                ok(&Have::Some { revision: 1, bits }.encode())
            }
        },
        Kind::Got => panic!("a confirmation has no answer"),
        Kind::Piece => {
            let from = request.offset as usize;
            ok(&made.bytes[from..from + request.length as usize])
        }
    }
}
