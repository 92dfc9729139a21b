//! A contiguous range of a model's layers, ready to compute.
//!
//! ```text
//! load:     map file ─▶ config ─▶ embedding? layers norm and head? ─▶ pack, tensor by tensor
//! forward:  check the batch ─▶ passes of at most 64 rows:
//!             tokens ─▶ embedding rows ┐
//!             hidden states ───────────┴▶ layers in order ─▶ hidden states, or
//!                                                            wanted rows ─▶ norm ─▶ head ─▶ logits
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use shard_kernels::kv::{KvCache, KvDtype};
use shard_kernels::{Matrix, Pool, matmul};

use crate::batch::{self, ForwardError, Input, Output, Rows, Span};
use crate::block::{Block, Dims, Pass, Scratch, normalise};
use crate::config::{self, ModelConfig};
use crate::rope::Frequencies;
use crate::session::{Session, SessionError};
use crate::weights::{LoadError, ModelFile, Weight, Weights};

/// How a shard is loaded and run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Threads of a forward, the caller included; see [`Pool::default_threads`].
    pub threads: usize,
    /// How weights are held.
    pub weights: Weights,
    /// How keys and values are stored.
    pub kv_dtype: KvDtype,
    /// Longest session; at most the model's context, which is the default.
    pub context_length: Option<usize>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            threads: Pool::default_threads(),
            weights: Weights::Auto,
            kv_dtype: KvDtype::F16,
            context_length: None,
        }
    }
}

impl LoadOptions {
    /// Longest session of a model.
    pub(crate) fn context_of(&self, config: &ModelConfig) -> usize {
        let model = config.context_length as usize;
        self.context_length.map_or(model, |limit| limit.min(model))
    }

    /// Refuses sessions of no positions, and of more than the context.
    pub(crate) fn admit(&self, config: &ModelConfig, positions: usize) -> Result<(), SessionError> {
        let context = self.context_of(config);
        match positions {
            0 => Err(SessionError::Empty),
            asked if asked > context => Err(SessionError::BeyondContext { asked, context }),
            _ => Ok(()),
        }
    }
}

/// Where a shard's weights are, in bytes. Resident are `packed` and what was read of `mapped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Of the shard's tensors in the file.
    pub file: u64,
    /// Of weights with memory of their own.
    pub packed: u64,
    /// Of weights that are read from the map.
    pub mapped: u64,
}

/// The weights of one shard, and the threads and scratch memory to run them.
#[derive(Debug)]
pub struct ShardModel {
    config: ModelConfig,
    options: LoadOptions,
    dims: Dims,
    embedding: Option<Weight>,
    blocks: Vec<Block>,
    head: Option<Head>,
    rope: Frequencies,
    memory: Memory,
    pool: Pool,
    scratch: Scratch,
}

#[derive(Debug)]
struct Head {
    norm: Vec<f32>,
    output: Weight,
}

impl ShardModel {
    /// Loads the file at `path`: a shard, or a whole model as the one shard of it. `progress` is told how many of how
    /// many bytes of weights are ready.
    pub fn load(
        path: &Path,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, LoadError> {
        let file = ModelFile::open(path)?;
        let config = file.config()?;
        Self::from_file(&file, config, options, progress)
    }

    /// Loads some layers of the file at `path`, which may have more.
    pub fn load_range(
        path: &Path,
        layers: Range<usize>,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, LoadError> {
        let file = ModelFile::open(path)?;
        let mut config = file.config()?;
        take_layers(&mut config, layers)?;
        Self::from_file(&file, config, options, progress)
    }

    fn from_file(
        file: &ModelFile,
        config: ModelConfig,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, LoadError> {
        let layers = config.layers.start as usize..config.layers.end as usize;
        let blocks = layers.map(|layer| Block::load(file, layer)).collect::<Result<_, _>>()?;
        let embedding = config.has_first_layer().then(|| file.matrix(config::TOKEN_EMBD)).transpose()?;
        let head = config
            .head_tensor()
            .map(|output| Ok(Head { norm: file.vector(config::OUTPUT_NORM)?, output: file.matrix(output)? }));
        let mut shard = Self {
            dims: Dims::new(&config),
            rope: rope(file, &config)?,
            embedding,
            blocks,
            head: head.transpose()?,
            memory: Memory::default(),
            pool: Pool::new(options.threads),
            scratch: Scratch::default(),
            options: options.clone(),
            config,
        };
        shard.pack(progress);
        Ok(shard)
    }

    /// Packs what is multiplied; the embedding stays in the map, for a token reads one row of it.
    fn pack(&mut self, progress: &mut dyn FnMut(u64, u64)) {
        let mut weights: Vec<&mut Weight> = self.blocks.iter_mut().flat_map(Block::matrices_mut).collect();
        weights.extend(self.head.as_mut().map(|head| &mut head.output));
        let total = weights.iter().map(|weight| weight.bytes()).sum();
        let pack = self.options.weights.pack(total);
        let mut memory = Memory::default();
        // A few at a time: what is packed is dropped from the map before more is read.
        for some in weights.chunks_mut(self.pool.threads()) {
            if pack {
                self.pool.for_each_mut(some, |_, weight| weight.pack());
            }
            for weight in some {
                let bytes = weight.bytes();
                memory.file += bytes;
                *(if weight.is_packed() { &mut memory.packed } else { &mut memory.mapped }) += bytes;
            }
            progress(memory.file, total);
        }
        if let Some(embedding) = self.embedding.as_ref().filter(|_| !self.config.tied_head) {
            memory.file += embedding.bytes();
            memory.mapped += embedding.bytes();
        }
        self.memory = memory;
    }

    /// The model's hyperparameters; `layers` are this shard's.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// This shard's layers, end exclusive.
    pub fn layers(&self) -> Range<usize> {
        self.config.layers.start as usize..self.config.layers.end as usize
    }

    /// It takes tokens.
    pub fn is_first(&self) -> bool {
        self.config.has_first_layer()
    }

    /// It gives logits.
    pub fn is_last(&self) -> bool {
        self.config.has_last_layer()
    }

    /// Threads of a forward, the caller included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Longest session.
    pub fn context_length(&self) -> usize {
        self.options.context_of(&self.config)
    }

    /// Bytes of keys and values that one position takes on this shard.
    pub fn kv_bytes_per_token(&self) -> usize {
        // Blocks are 16 positions, so 16 positions are exact.
        self.blocks.len() * self.dims.kv.bytes(self.options.kv_dtype, 16) / 16
    }

    /// Where the weights are.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// What a user should know about the file, one sentence each: weights of types that take several times as long.
    pub fn warnings(&self) -> Vec<String> {
        let mut slow: BTreeMap<&str, usize> = BTreeMap::new();
        for weight in self.weights().filter(|weight| !weight.is_fast()) {
            *slow.entry(weight.ty().name()).or_default() += 1;
        }
        let warn = |(ty, count)| {
            format!(
                "{count} tensors are of type {ty}, which has no vector kernels: they take several times as long"
            )
        };
        slow.into_iter().map(warn).collect()
    }

    fn weights(&self) -> impl Iterator<Item = &Weight> {
        self.blocks.iter().flat_map(Block::matrices).chain(self.head.iter().map(|head| &head.output))
    }

    /// Everything that a row is multiplied with.
    pub(crate) fn matrices(&self) -> impl Iterator<Item = &Matrix<'_>> {
        self.weights().map(Weight::matrix)
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// A session of up to `positions` positions. Their memory is reserved now and taken as they are computed.
    pub fn session(&self, positions: usize) -> Result<Session, SessionError> {
        self.options.admit(&self.config, positions)?;
        Session::new(self.layers(), self.dims.kv, self.options.kv_dtype, positions)
    }

    /// Computes the rows of all entries and advances their sessions; one output for each entry.
    ///
    /// The bits of an entry's output do not depend on the other entries, nor on how its rows are spread over forwards.
    pub fn forward(&mut self, batch: &mut [Rows<'_>]) -> Result<Vec<Output>, ForwardError> {
        let ours = |session: &Session| session.is_of(self.layers(), self.dims.kv);
        let passes = batch::plan(&self.config, &ours, batch)?;
        let empty = if self.is_last() { Output::Nothing } else { Output::Hidden(Vec::new()) };
        let mut outputs = vec![empty; batch.len()];
        for spans in &passes {
            self.read_input(batch, spans);
            self.run_layers(batch, spans)?;
            self.write_output(batch, spans, &mut outputs)?;
        }
        for span in passes.iter().flatten() {
            batch[span.entry].session.advance(span.rows);
        }
        Ok(outputs)
    }

    /// Fills `scratch.x` and `scratch.turns`.
    fn read_input(&mut self, batch: &[Rows<'_>], spans: &[Span]) {
        let (width, turn_width) = (self.dims.width, self.rope.dims());
        let rows: usize = spans.iter().map(|span| span.rows).sum();
        let Scratch { x, turns, .. } = &mut self.scratch;
        x.resize(rows * width, 0.0);
        turns.resize(rows * turn_width, 0.0);
        let mut rows = x.chunks_exact_mut(width).zip(turns.chunks_exact_mut(turn_width));
        for span in spans {
            let of_span = span.first..span.first + span.rows;
            for (row, (x, turns)) in of_span.zip(rows.by_ref()) {
                match (batch[span.entry].input, &self.embedding) {
                    (Input::Hidden(hidden), _) => x.copy_from_slice(&hidden[row * width..][..width]),
                    (Input::Tokens(tokens), Some(embedding)) => {
                        embedding.matrix().dequantize_row(tokens[row] as usize, x);
                    }
                    // `plan` refused tokens where there is no embedding.
                    (Input::Tokens(_), None) => x.fill(f32::NAN),
                }
                self.rope.turns(span.position + row - span.first, turns);
            }
        }
    }

    fn run_layers(&mut self, batch: &mut [Rows<'_>], spans: &[Span]) -> Result<(), ForwardError> {
        let wanted: Vec<bool> = spans.iter().map(|span| gives_logits(span, batch)).collect();
        for (layer, block) in self.blocks.iter().enumerate() {
            let models_last = self.head.is_some() && layer + 1 == self.blocks.len();
            let keep = models_last.then_some(wanted.as_slice());
            // The entries of a pass are consecutive.
            let entries = spans.first().map_or(0, |span| span.entry)..;
            let sessions = batch[entries].iter_mut().take(spans.len());
            let mut caches: Vec<&mut KvCache> = sessions.map(|rows| rows.session.cache(layer)).collect();
            let pass = Pass { pool: &self.pool, dims: &self.dims, spans, keep };
            block.forward(&pass, &mut caches, &mut self.scratch)?;
        }
        Ok(())
    }

    fn write_output(
        &mut self,
        batch: &[Rows<'_>],
        spans: &[Span],
        outputs: &mut [Output],
    ) -> Result<(), ForwardError> {
        let Scratch { x, input, .. } = &mut self.scratch;
        let Some(head) = &self.head else {
            let mut rows = x.chunks_exact(self.dims.width);
            for span in spans {
                if let Output::Hidden(hidden) = &mut outputs[span.entry] {
                    rows.by_ref().take(span.rows).for_each(|row| hidden.extend_from_slice(row));
                }
            }
            return Ok(());
        };
        if x.is_empty() {
            return Ok(());
        }
        normalise(&self.pool, x, &head.norm, self.dims.eps, input);
        let vocab = self.config.vocab_size as usize;
        let mut logits = vec![0.0; x.len() / self.dims.width * vocab];
        matmul(&self.pool, &[head.output.matrix()], input, &mut logits)?;
        let wanted = spans.iter().filter(|span| gives_logits(span, batch));
        for (span, logits) in wanted.zip(logits.chunks_exact(vocab)) {
            outputs[span.entry] = Output::Logits(logits.to_vec());
        }
        Ok(())
    }
}

fn gives_logits(span: &Span, batch: &[Rows<'_>]) -> bool {
    span.last && batch[span.entry].logits
}

/// Leaves of the file's layers those that were asked for.
pub(crate) fn take_layers(config: &mut ModelConfig, layers: Range<usize>) -> Result<(), LoadError> {
    let held = config.layers.start as usize..config.layers.end as usize;
    if layers.is_empty() || layers.start < held.start || layers.end > held.end {
        let (start, end, held_start, held_end) = (layers.start, layers.end, held.start, held.end);
        return Err(LoadError::Layers { start, end, held_start, held_end });
    }
    config.layers = layers.start as u32..layers.end as u32;
    config.tied_head &= config.has_last_layer();
    Ok(())
}

pub(crate) fn rope(file: &ModelFile, config: &ModelConfig) -> Result<Frequencies, LoadError> {
    let divisors = file.vector(config::ROPE_FREQS)?;
    let unusable = |(_, value): &(usize, f32)| !(value.is_finite() && *value > 0.0);
    if let Some((index, value)) = divisors.iter().copied().enumerate().find(unusable) {
        return Err(LoadError::RopeDivisor { index, value });
    }
    Ok(Frequencies::new(&config.rope, Some(divisors.as_slice()).filter(|divisors| !divisors.is_empty())))
}
