//! What the session table asks of the engine thread, and what comes back.

use std::time::{Duration, Instant};

use shard_wire::frame::{Dtype, Frame, Header, Kind, SessionId, StageTime};
use shard_wire::session::Sampling;

/// A session at one stage of its route; a node may be several stages of one route.
pub type Key = (SessionId, u16);

/// One order for the engine thread.
#[derive(Debug)]
pub enum Job {
    /// Reserve the key-value cache, in place of an older epoch's.
    Open(Reserve),
    /// One forward.
    Run(Run),
    /// Free the cache.
    Close(Key),
}

/// What a session needs from the engine.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// The session.
    pub key: Key,
    /// The attempt at a route.
    pub epoch: u32,
    /// The shard that serves it here.
    pub shard: u32,
    /// Positions to reserve.
    pub positions: u32,
    /// On the last stage: how to sample, and the tokens so far.
    pub sampler: Option<Sampler>,
}

/// How the last stage of a session samples.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// Parameters and seed.
    pub sampling: Sampling,
    /// The prompt; sampled tokens are appended.
    pub history: Vec<u32>,
}

/// One forward of one session.
#[derive(Debug)]
pub struct Run {
    /// The session.
    pub key: Key,
    /// The attempt at a route.
    pub epoch: u32,
    /// Position of the first row.
    pub position: u32,
    /// The rows.
    pub input: Input,
    /// Sample a token from the last row.
    pub sample: bool,
    /// When the rows arrived.
    pub arrived: Instant,
}

/// The rows of a forward.
#[derive(Clone, Debug)]
pub enum Input {
    /// Token ids, for the first stage.
    Tokens(Vec<u32>),
    /// Hidden states, little-endian.
    Hidden {
        /// Type of the values.
        dtype: Dtype,
        /// Rows.
        count: u32,
        /// `count × hidden size` values.
        bytes: Vec<u8>,
    },
}

impl Input {
    /// The rows of a frame, where they have the shape that the shard takes, and the frame's trace: one token, or at
    /// most `chunk` hidden states of `width` values.
    pub(super) fn read(frame: Frame, width: u32, chunk: u32) -> (Option<Self>, Vec<StageTime>) {
        let Header { kind, dtype, count, .. } = frame.header;
        if kind == Kind::Token {
            return (frame.tokens().filter(|ids| ids.len() == 1).map(Self::Tokens), frame.trace);
        }
        let float = matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16);
        let fits = float && frame.header.width == width && (1..=chunk).contains(&count);
        (fits.then_some(Self::Hidden { dtype, count, bytes: frame.values }), frame.trace)
    }

    /// Rows.
    pub fn count(&self) -> u32 {
        match self {
            Self::Tokens(ids) => ids.len() as u32,
            Self::Hidden { count, .. } => *count,
        }
    }
}

/// The end of a [`Run`].
#[derive(Debug)]
pub struct Done {
    /// The session.
    pub key: Key,
    /// The attempt at a route.
    pub epoch: u32,
    /// Position of the first row.
    pub position: u32,
    /// Rows.
    pub count: u32,
    /// What came out.
    pub output: Output,
    /// From arrival to the begin of the forward.
    pub queued: Duration,
    /// The forward, sampling included.
    pub computed: Duration,
}

/// What a forward gives.
#[derive(Clone, Debug)]
pub enum Output {
    /// Hidden states for the next stage.
    Hidden {
        /// Type of the values.
        dtype: Dtype,
        /// Values a row.
        width: u32,
        /// `count × width` values, little-endian.
        bytes: Vec<u8>,
    },
    /// A token, on the last stage.
    Token {
        /// Its id.
        id: u32,
        /// Natural logarithm of its probability, where asked for.
        logprob: Option<f32>,
        /// The likeliest tokens, where asked for.
        top: Vec<(u32, f32)>,
    },
    /// The chunk is in the cache; nothing was to be sampled yet.
    Cached,
    /// The engine refused or failed.
    Failed(String),
}
