//! What can happen to a node's sessions, what is to be done about it, and what is counted.

use libp2p::PeerId;
use shard_wire::frame::Frame;

use super::job::{Done, Job};

/// What a node takes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Sessions at once, over all shards.
    pub max_sessions: usize,
    /// Positions of a prefill chunk, at most; the same on every node.
    pub chunk: u32,
}

/// A shard that this node serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The plan that it belongs to.
    pub plan: String,
    /// Values of a hidden state.
    pub width: u32,
    /// Positions of one session.
    pub context: u32,
    /// It has the embedding.
    pub first: bool,
    /// It has the head.
    pub last: bool,
}

/// What can happen to the table.
#[derive(Debug)]
pub enum Event {
    /// A frame came in from a peer (from itself where a route passes a node twice).
    Frame(PeerId, Frame),
    /// A forward ended.
    Done(Done),
    /// A frame could not be sent.
    Unsent(PeerId, Frame),
    /// The last connection to a peer is gone.
    Gone(PeerId),
    /// A peer is connected again.
    Back(PeerId),
    /// A shard was loaded, in place of another of the same id.
    Serve(u32, Served),
    /// A shard is to be given up: it takes no new sessions.
    Drain(u32),
    /// A shard is given up: what sessions it still has end.
    Withdraw(u32),
    /// Look at leases and deadlines.
    Tick,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Send a frame; never blocks.
    Send(PeerId, Frame),
    /// Give the engine a job; never blocks.
    Engine(Job),
}

/// Frames that were dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Drops {
    /// Of a session that is not open here.
    pub unknown: u64,
    /// Of an epoch that is not the slot's.
    pub epoch: u64,
    /// From a peer that OPEN does not name for this kind.
    pub sender: u64,
    /// At another position than the next, or of another shape.
    pub position: u64,
}

/// Sessions that have ended here, each stage of one counted by itself. One that a later stage refused is neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Ended {
    /// Its gateway closed it, and nothing failed here.
    pub successful: u64,
    /// A forward failed, the next stage could not be reached, or its gateway was lost.
    pub failed: u64,
}
