//! Frames of `/activation/1.0`: one fixed header, then values, then a trace, then a body.
//!
//! A stream of this protocol carries frames one way, from the peer that opened it. A pair of peers has two such
//! streams a direction: *express* for everything small and *bulk* for prefill chunks, so that a step never waits
//! behind megabytes. The first byte of a stream says which it is ([`Lane`]).
//!
//! ```text
//! offset  size  field
//!      0     1  version, 1
//!      1     1  kind                     (Kind)
//!      2     1  dtype of the values      (Dtype)
//!      3     1  flags                    (LAST, TO_GATEWAY)
//!      4     2  stage: index in the route of the stage that this frame is for or from
//!      6     2  trace length, entries
//!      8    16  session
//!     24     4  epoch: the attempt at a route; a stage drops lower ones
//!     28     4  step: forwards since the epoch began
//!     32     4  position of the first value in the sequence
//!     36     4  count of positions that the values are for
//!     40     4  width: values a position     (1 for tokens, the hidden size for activations)
//!     44     4  remaining milliseconds before the session's deadline
//!     48     4  body length, bytes
//!     52     4  payload length, bytes: values + trace + body
//!     56        values, count × width × size of dtype
//!            8  a trace entry: queue µs, compute µs of one stage since the session's last token
//!               body: JSON of the kind, see `session`
//! ```
//! All integers are little-endian. The four lengths must agree and lie within [`Limits`] before memory is taken.
//! Non-goals: compression (activations do not compress), checksums (Noise and QUIC authenticate every byte).

use thiserror::Error;

/// The version that this crate reads and writes; part of a plan's name.
pub const VERSION: u8 = 1;
/// Bytes of a header.
pub const HEADER_LEN: usize = 56;
/// Bytes of a trace entry.
pub const TRACE_ENTRY_LEN: usize = 8;
/// `flags`, bit 0: the last chunk of a prefill.
pub const LAST: u8 = 1;
/// `flags`, bit 1: for the gateway that owns the session, not for a stage; one process may be both.
pub const TO_GATEWAY: u8 = 2;

/// What a reader accepts. The defaults hold for every peer; a stage knows its hidden size and checks that itself.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of values: a chunk of 512 positions of 16,384 f32, and a prompt of 2²¹ tokens.
    pub values: u32,
    /// Entries of a trace: the most stages of a route.
    pub trace: u16,
    /// Bytes of a body: 256 stages of a route in OPEN take some 30 KiB.
    pub body: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { values: 32 << 20, trace: 256, body: 256 << 10 }
    }
}

/// The first byte of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Steps, tokens, and all that controls a session.
    Express = 1,
    /// Chunks of a prefill.
    Bulk = 2,
}

impl Lane {
    /// The lane that a stream's first byte names.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Express),
            2 => Some(Self::Bulk),
            _ => None,
        }
    }
}

macro_rules! byte_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $value,)* }

        impl $name {
            fn from_byte(byte: u8) -> Option<Self> {
                match byte { $($value => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

byte_enum! {
    /// What a frame means. The arrow is its way.
    Kind {
        /// Gateway → stage 0 → … → last: reserve a slot. Values: prompt ids; body: `session::Open`.
        Open = 1,
        /// Last → gateway: every stage reserved. Body: `session::Opened`.
        Opened = 2,
        /// The stage that cannot → … → stage 0 → gateway: released on the way. Body: `session::Refusal`.
        Refused = 3,
        /// Gateway → stage 0: begin the prefill from the ids of OPEN.
        Start = 4,
        /// Stage → next stage: hidden states of one decode step.
        Step = 5,
        /// Stage → next stage: hidden states of one prefill chunk, on the bulk lane.
        Chunk = 6,
        /// Stage → previous stage: a chunk was consumed, one more may come.
        Credit = 7,
        /// Last → stage 0, where it is the next step's input, and last → gateway. Values: the id; body: `session::Sampled`.
        Token = 8,
        /// Gateway → every stage: free the session.
        Close = 9,
        /// Stage → gateway: the session cannot go on. Body: `session::Failure`.
        Failed = 10,
        /// Gateway → stage: how far are you?
        Where = 11,
        /// Stage → gateway: my next position.
        Here = 12,
        /// Between neighbours and from the gateway: are you alive? Part of the format; no program sends it yet.
        Heartbeat = 13,
        /// The answer to a heartbeat; `position` repeats its `step`.
        Alive = 14,
    }
}

byte_enum! {
    /// The type of a frame's values.
    Dtype {
        /// There are none.
        None = 0,
        /// Token ids, u32.
        U32 = 1,
        /// Activations, f32.
        F32 = 2,
        /// Activations, f16.
        F16 = 3,
        /// Activations, bf16.
        Bf16 = 4,
    }
}

impl Dtype {
    /// Bytes of one value.
    pub fn size(self) -> usize {
        match self {
            Self::None => 0,
            Self::U32 | Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// A session's name, drawn at random by its gateway.
pub type SessionId = u128;

/// The fixed part of a frame; the lengths are those of [`Frame`]'s fields and not repeated here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame means.
    pub kind: Kind,
    /// The type of the values.
    pub dtype: Dtype,
    /// See [`LAST`] and [`TO_GATEWAY`].
    pub flags: u8,
    /// Index in the route of the stage that the frame is for (or from, where it is for the gateway).
    pub stage: u16,
    /// The session.
    pub session: SessionId,
    /// The attempt at a route.
    pub epoch: u32,
    /// Forwards since the epoch began.
    pub step: u32,
    /// Position of the first value in the sequence.
    pub position: u32,
    /// Positions that the values are for.
    pub count: u32,
    /// Values a position.
    pub width: u32,
    /// Milliseconds that remain of the session's deadline.
    pub remaining_ms: u32,
}

impl Header {
    /// A header without values for `session` at `epoch`.
    pub fn control(kind: Kind, session: SessionId, epoch: u32, stage: u16) -> Self {
        Self {
            kind,
            dtype: Dtype::None,
            flags: 0,
            stage,
            session,
            epoch,
            step: 0,
            position: 0,
            count: 0,
            width: 0,
            remaining_ms: 0,
        }
    }
}

/// The time that one stage spent on a token (and, for the first token, on the prefill).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StageTime {
    /// From arrival to the begin of the forward.
    pub queue_us: u32,
    /// The forward, sampling included.
    pub compute_us: u32,
}

/// One frame in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The fixed part.
    pub header: Header,
    /// `count × width` values of `dtype`, little-endian.
    pub values: Vec<u8>,
    /// One entry per stage passed so far.
    pub trace: Vec<StageTime>,
    /// JSON of the kind.
    pub body: Vec<u8>,
}

/// Why bytes are not a frame. The connection that sent them is cut off.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// Another version.
    #[error("frame version {0}, this node speaks {VERSION}")]
    Version(u8),
    /// A byte that names nothing.
    #[error("frame {field} {value} is unknown")]
    Unknown {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u8,
    },
    /// Above a limit.
    #[error("frame {field} of {value} bytes or entries is above the limit of {limit}")]
    TooLarge {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What a reader takes.
        limit: u64,
    },
    /// The lengths do not agree.
    #[error("frame says {said} bytes of payload where its parts need {needed}")]
    Length {
        /// The payload length of the header.
        said: u64,
        /// What count, width, trace and body add up to.
        needed: u64,
    },
}

/// A header and the lengths of what follows it, checked against limits and against one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The fixed part.
    pub header: Header,
    values: usize,
    trace: usize,
    body: usize,
}

impl Envelope {
    /// Reads a header.
    ///
    /// # Errors
    /// See [`FrameError`]; nothing was allocated.
    pub fn decode(bytes: &[u8; HEADER_LEN], limits: &Limits) -> Result<Self, FrameError> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if bytes[0] != VERSION {
            return Err(FrameError::Version(bytes[0]));
        }
        let kind = Kind::from_byte(bytes[1]).ok_or(FrameError::Unknown { field: "kind", value: bytes[1] })?;
        let dtype =
            Dtype::from_byte(bytes[2]).ok_or(FrameError::Unknown { field: "dtype", value: bytes[2] })?;
        let mut session = [0; 16];
        session.copy_from_slice(&bytes[8..24]);
        let header = Header {
            kind,
            dtype,
            flags: bytes[3],
            stage: u16_at(4),
            session: u128::from_le_bytes(session),
            epoch: u32_at(24),
            step: u32_at(28),
            position: u32_at(32),
            count: u32_at(36),
            width: u32_at(40),
            remaining_ms: u32_at(44),
        };
        let (trace, body, payload) = (u16_at(6), u32_at(48), u32_at(52));
        // u32 × u32 × 4 fits u128 only in the worst case; saturate, the limit follows.
        let values = u64::from(header.count)
            .saturating_mul(u64::from(header.width))
            .saturating_mul(dtype.size() as u64);
        let bounded = |field, value: u64, limit: u64| {
            if value > limit { Err(FrameError::TooLarge { field, value, limit }) } else { Ok(()) }
        };
        bounded("values", values, u64::from(limits.values))?;
        bounded("trace", u64::from(trace), u64::from(limits.trace))?;
        bounded("body", u64::from(body), u64::from(limits.body))?;
        let needed = values + u64::from(trace) * TRACE_ENTRY_LEN as u64 + u64::from(body);
        if needed != u64::from(payload) {
            return Err(FrameError::Length { said: u64::from(payload), needed });
        }
        Ok(Self { header, values: values as usize, trace: usize::from(trace), body: body as usize })
    }

    /// Bytes that follow the header.
    pub fn payload_len(&self) -> usize {
        self.values + self.trace * TRACE_ENTRY_LEN + self.body
    }

    /// Joins the header with its payload, of [`Self::payload_len`] bytes.
    pub fn with_payload(self, mut payload: Vec<u8>) -> Frame {
        let body = payload.split_off(self.values + self.trace * TRACE_ENTRY_LEN);
        let trace = payload.split_off(self.values);
        let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let trace = trace
            .chunks_exact(TRACE_ENTRY_LEN)
            .map(|entry| StageTime { queue_us: word(&entry[..4]), compute_us: word(&entry[4..]) })
            .collect();
        Frame { header: self.header, values: payload, trace, body }
    }
}

impl Frame {
    /// A frame without values, trace or body.
    pub fn control(header: Header) -> Self {
        Self { header, values: Vec::new(), trace: Vec::new(), body: Vec::new() }
    }

    /// The bytes on the wire. The writer keeps to [`Limits`]; a longer frame is refused by its reader.
    pub fn encode(&self) -> Vec<u8> {
        let h = &self.header;
        let payload = self.values.len() + self.trace.len() * TRACE_ENTRY_LEN + self.body.len();
        let mut out = Vec::with_capacity(HEADER_LEN + payload);
        out.extend([VERSION, h.kind as u8, h.dtype as u8, h.flags]);
        out.extend(h.stage.to_le_bytes());
        out.extend((self.trace.len() as u16).to_le_bytes());
        out.extend(h.session.to_le_bytes());
        for word in [h.epoch, h.step, h.position, h.count, h.width, h.remaining_ms] {
            out.extend(word.to_le_bytes());
        }
        out.extend((self.body.len() as u32).to_le_bytes());
        out.extend((payload as u32).to_le_bytes());
        out.extend(&self.values);
        for time in &self.trace {
            out.extend(time.queue_us.to_le_bytes());
            out.extend(time.compute_us.to_le_bytes());
        }
        out.extend(&self.body);
        out
    }

    /// The values as token ids, if they are.
    pub fn tokens(&self) -> Option<Vec<u32>> {
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        (self.header.dtype == Dtype::U32).then(|| self.values.chunks_exact(4).map(word).collect())
    }

    /// The lane that this frame travels on.
    pub fn lane(&self) -> Lane {
        if self.header.kind == Kind::Chunk { Lane::Bulk } else { Lane::Express }
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
