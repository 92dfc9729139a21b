//! How fast the engine is on this machine, alone and with several sessions: the data of `shardctl bench engine`.
//!
//! ```text
//! run:  load, one token to touch all weights ─▶ for every number of sessions:  prefill all prompts in chunks ─▶ decode step by step
//!            ─▶ resident memory ─▶ products with sums in another order: what batch invariance costs
//! ```

mod invariance;

use std::path::Path;
use std::time::Instant;

use crate::batch::{ForwardError, Input, MAX_ROWS, Rows};
use crate::memory;
use crate::session::{Session, SessionError};
use crate::shard::{LoadOptions, ShardModel};
use crate::weights::LoadError;

pub use invariance::Invariance;

/// What is measured.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Threads, layout of weights and type of the cache.
    pub load: LoadOptions,
    /// Numbers of sessions that share each forward.
    pub sessions: Vec<usize>,
    /// Tokens of every session's prompt.
    pub prompt: usize,
    /// Rows of one forward while prompts are read.
    pub chunk: usize,
    /// Tokens that every session generates.
    pub generate: usize,
}

/// What was measured with one setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Threads, the caller included.
    pub threads: usize,
    /// Until the weights were ready.
    pub load_seconds: f64,
    /// Of the model's weights in the file.
    pub file_bytes: u64,
    /// What the process took since before the load, weights, caches and scratch; `None` where the system does not tell.
    pub resident_bytes: Option<u64>,
    /// Reserved for keys and values of the sessions at the time of `resident_bytes`.
    pub kv_bytes: u64,
    /// In the order of [`BenchOptions::sessions`].
    pub rates: Vec<Rate>,
    /// What batch invariance costs a step of one session, and a prefill; empty where there is nothing to compare with.
    pub invariance: Vec<Invariance>,
}

/// Tokens per second of all sessions together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Sessions that share each forward.
    pub sessions: usize,
    /// Prompt tokens read.
    pub prefill: f64,
    /// Tokens generated.
    pub decode: f64,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Nothing to do.
    #[error(
        "a benchmark needs at least one session, one token of prompt, one to generate and one row a chunk"
    )]
    Empty,
    /// Only a whole model gives logits from tokens.
    #[error("the file has layers {start}-{end} of {of}: a benchmark needs the whole model")]
    Part {
        /// First layer of the file.
        start: usize,
        /// End of its layers, exclusive.
        end: usize,
        /// Layers of the model.
        of: u32,
    },
    /// The model was not loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The context is shorter than prompt and generated tokens.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A forward failed.
    #[error(transparent)]
    Forward(#[from] ForwardError),
}

/// Measures the whole model at `path` with one setting.
pub fn run(path: &Path, options: &BenchOptions) -> Result<Figures, BenchError> {
    let BenchOptions { load, sessions, prompt, chunk, generate } = options;
    if sessions.is_empty() || [*prompt, *chunk, *generate].contains(&0) || sessions.contains(&0) {
        return Err(BenchError::Empty);
    }
    let resident_before = memory::resident();
    let begin = Instant::now();
    let mut shard = ShardModel::load(path, load, &mut |_, _| {})?;
    let load_seconds = begin.elapsed().as_secs_f64();
    if !(shard.is_first() && shard.is_last()) {
        let layers = shard.layers();
        return Err(BenchError::Part {
            start: layers.start,
            end: layers.end,
            of: shard.config().block_count,
        });
    }
    let mut figures = Figures {
        threads: shard.threads(),
        load_seconds,
        file_bytes: shard.memory().file,
        resident_bytes: None,
        kv_bytes: 0,
        rates: Vec::new(),
        invariance: Vec::new(),
    };
    let mut first = [shard.session(1)?];
    prefill(&mut shard, &mut first, 1, 1)?;
    for &count in sessions {
        let positions = prompt + generate;
        let room = |_| shard.session(positions);
        let mut open: Vec<Session> = (0..count).map(room).collect::<Result<_, _>>()?;
        let prefill = prefill(&mut shard, &mut open, *prompt, *chunk)?;
        let decode = decode(&mut shard, &mut open, *generate)?;
        figures.rates.push(Rate { sessions: count, prefill, decode });
        figures.kv_bytes = (count * positions * shard.kv_bytes_per_token()) as u64;
        figures.resident_bytes =
            memory::resident().zip(resident_before).map(|(now, before)| now.saturating_sub(before));
    }
    for rows in [1, MAX_ROWS] {
        figures.invariance.extend(invariance::measure(&shard, rows).map_err(ForwardError::from)?);
    }
    Ok(figures)
}

/// Reads the prompts of all sessions, one after the other in chunks; tokens per second.
fn prefill(
    shard: &mut ShardModel,
    sessions: &mut [Session],
    prompt: usize,
    chunk: usize,
) -> Result<f64, ForwardError> {
    let tokens = tokens(shard, prompt);
    let begin = Instant::now();
    let count = sessions.len();
    for session in sessions {
        for some in tokens.chunks(chunk) {
            let position = session.position();
            let logits = position + some.len() == prompt;
            let rows = Rows { session: &mut *session, position, input: Input::Tokens(some), logits };
            shard.forward(&mut [rows])?;
        }
    }
    Ok((count * prompt) as f64 / begin.elapsed().as_secs_f64())
}

/// Generates with all sessions in one forward a step; tokens per second of all together.
fn decode(shard: &mut ShardModel, sessions: &mut [Session], generate: usize) -> Result<f64, ForwardError> {
    let tokens = tokens(shard, generate);
    let begin = Instant::now();
    for token in tokens.chunks(1) {
        let row = |session| {
            let session: &mut Session = session;
            let position = session.position();
            Rows { session, position, input: Input::Tokens(token), logits: true }
        };
        let mut batch: Vec<Rows<'_>> = sessions.iter_mut().map(row).collect();
        shard.forward(&mut batch)?;
    }
    Ok((sessions.len() * generate) as f64 / begin.elapsed().as_secs_f64())
}

/// Ids spread over the vocabulary: which they are makes no difference to the work.
fn tokens(shard: &ShardModel, count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| i.wrapping_mul(2_654_435_761) % shard.config().vocab_size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Weights;

    fn options() -> BenchOptions {
        let load = LoadOptions { threads: 1, weights: Weights::Map, ..LoadOptions::default() };
        BenchOptions { load, sessions: vec![1, 3], prompt: 20, chunk: 8, generate: 4 }
    }

    fn model() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-tales-q8_0.gguf")
    }

    #[test]
    fn every_number_of_sessions_has_its_rates() {
        let figures = run(&model(), &options()).unwrap();
        assert_eq!(figures.rates.iter().map(|rate| rate.sessions).collect::<Vec<_>>(), [1, 3]);
        assert!(figures.rates.iter().all(|rate| rate.prefill > 0.0 && rate.decode > 0.0), "{figures:?}");
        assert_eq!((figures.threads, figures.kv_bytes), (1, 3 * 24 * 8 * 2 * 4 * 32 * 2));
        assert!(figures.file_bytes > 6_000_000 && figures.file_bytes < 6_195_808);
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let empty = BenchOptions { sessions: vec![1, 0], ..options() };
        assert!(matches!(run(&model(), &empty), Err(BenchError::Empty)));
        let long = BenchOptions { prompt: 512, ..options() };
        let error = run(&model(), &long).unwrap_err();
        assert_eq!(error.to_string(), "a session of 516 positions exceeds the context of 512");
    }
}
