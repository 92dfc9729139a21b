//! What goes into one forward, and what comes out: rows of several sessions, checked before anything is computed.

use std::ops::Range;

use crate::config::ModelConfig;
use crate::session::Session;

/// Rows that go through the layers together; more are done one after the other: scratch memory stays small, and
/// activations in the cache. Measured on a 1B model: 64 rows are as fast as 128, and take 6 MB less.
pub(crate) const MAX_ROWS: usize = 64;

/// Consecutive positions of one session.
#[derive(Debug)]
pub struct Rows<'a> {
    /// Where their keys and values go.
    pub session: &'a mut Session,
    /// Of the first row; must be the session's next position.
    pub position: usize,
    /// Tokens on the first shard, hidden states on the others.
    pub input: Input<'a>,
    /// The last shard is to give the logits of the last row; elsewhere without effect.
    pub logits: bool,
}

/// What a shard is fed with.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Token ids, one per row.
    Tokens(&'a [u32]),
    /// Hidden states of the previous shard, `[rows, embedding_length]`.
    Hidden(&'a [f32]),
}

/// What a shard gives for one entry of the batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Of every row, `[rows, embedding_length]`, for the next shard.
    Hidden(Vec<f32>),
    /// Of the last row, one per token of the vocabulary.
    Logits(Vec<f32>),
    /// The last shard's answer where no logits were asked for.
    Nothing,
}

/// Why a forward was refused. All sessions are as they were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// An entry without rows.
    #[error("entry {entry} has no rows")]
    Empty {
        /// Index in the batch.
        entry: usize,
    },
    /// Tokens for a later shard, or hidden states for the first.
    #[error("entry {entry} brings {found}, but this shard takes {expected}")]
    Kind {
        /// Index in the batch.
        entry: usize,
        /// What it brings.
        found: &'static str,
        /// What the shard takes.
        expected: &'static str,
    },
    /// Not a whole number of rows.
    #[error("entry {entry} has {len} hidden values: not a multiple of the width {width}")]
    Width {
        /// Index in the batch.
        entry: usize,
        /// Values it brings.
        len: usize,
        /// Of one row.
        width: usize,
    },
    /// A token id that the model does not have.
    #[error("entry {entry} has token {token} in row {row}, beyond the vocabulary of {vocab}")]
    Token {
        /// Index in the batch.
        entry: usize,
        /// Row in the entry.
        row: usize,
        /// The id.
        token: u32,
        /// Tokens of the vocabulary.
        vocab: u32,
    },
    /// A position other than the session's next.
    #[error("entry {entry} begins at position {position}, but its session is at {expected}")]
    Position {
        /// Index in the batch.
        entry: usize,
        /// The entry's.
        position: usize,
        /// The session's next.
        expected: usize,
    },
    /// More rows than the session has room for.
    #[error("entry {entry} has {rows} rows from position {position}: its session has room for {capacity}")]
    Full {
        /// Index in the batch.
        entry: usize,
        /// Rows of the entry.
        rows: usize,
        /// Its first position.
        position: usize,
        /// Positions of the session.
        capacity: usize,
    },
    /// A session of another model or layer range.
    #[error("entry {entry} has a session of another shard")]
    Foreign {
        /// Index in the batch.
        entry: usize,
    },
    /// A product of matrices that do not fit: a bug of the engine.
    #[error("a product failed: {0}")]
    Product(#[from] shard_kernels::MatmulError),
    /// The device failed, or has no room for what comes between the layers.
    #[cfg(feature = "candle")]
    #[error("the device failed: {reason}")]
    Device {
        /// The device's words.
        reason: String,
    },
}

/// Some rows of one entry, as they lie in a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Index in the batch.
    pub(crate) entry: usize,
    /// First of its rows, counted in the entry.
    pub(crate) first: usize,
    pub(crate) rows: usize,
    /// Of the first of its rows.
    pub(crate) position: usize,
    /// It ends its entry.
    pub(crate) last: bool,
}

/// Checks all entries and cuts them into passes of at most [`MAX_ROWS`] rows, in order.
pub(crate) fn plan(
    config: &ModelConfig,
    shard: &dyn Fn(&Session) -> bool,
    batch: &[Rows<'_>],
) -> Result<Vec<Vec<Span>>, ForwardError> {
    let mut passes: Vec<Vec<Span>> = Vec::new();
    let mut room = 0;
    for (entry, rows) in batch.iter().enumerate() {
        let count = check(config, entry, rows)?;
        if !shard(rows.session) {
            return Err(ForwardError::Foreign { entry });
        }
        let mut left = 0..count;
        while !left.is_empty() {
            if room == 0 {
                passes.push(Vec::new());
                room = MAX_ROWS;
            }
            let Range { start: first, end } = left;
            let rows_now = room.min(end - first);
            let position = rows.position + first;
            let span = Span { entry, first, rows: rows_now, position, last: first + rows_now == end };
            passes.last_mut().into_iter().for_each(|pass| pass.push(span));
            room -= rows_now;
            left = first + rows_now..end;
        }
    }
    Ok(passes)
}

/// The number of rows of one entry, all of them sound.
fn check(config: &ModelConfig, entry: usize, rows: &Rows<'_>) -> Result<usize, ForwardError> {
    let width = config.embedding_length as usize;
    let count = match (rows.input, config.has_first_layer()) {
        (Input::Tokens(tokens), true) => {
            let vocab = config.vocab_size;
            if let Some((row, &token)) = tokens.iter().enumerate().find(|(_, token)| **token >= vocab) {
                return Err(ForwardError::Token { entry, row, token, vocab });
            }
            tokens.len()
        }
        (Input::Hidden(values), false) => {
            if !values.len().is_multiple_of(width) {
                return Err(ForwardError::Width { entry, len: values.len(), width });
            }
            values.len() / width
        }
        (Input::Tokens(_), false) => {
            return Err(ForwardError::Kind { entry, found: "tokens", expected: "hidden states" });
        }
        (Input::Hidden(_), true) => {
            return Err(ForwardError::Kind { entry, found: "hidden states", expected: "tokens" });
        }
    };
    let (position, expected, capacity) = (rows.position, rows.session.position(), rows.session.capacity());
    if count == 0 {
        Err(ForwardError::Empty { entry })
    } else if position != expected {
        Err(ForwardError::Position { entry, position, expected })
    } else if count > capacity - position {
        Err(ForwardError::Full { entry, rows: count, position, capacity })
    } else {
        Ok(count)
    }
}
