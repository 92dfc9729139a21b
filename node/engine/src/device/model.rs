//! A contiguous range of a model's layers on a device.
//!
//! ```text
//! load:     map file ─▶ config ─▶ copy layers, norm and head to the device, tensor by tensor; embedding stays in the map
//!             ─▶ one row, as a trial
//! forward:  check the batch ─▶ passes of at most 64 rows:
//!             tokens ─▶ embedding rows ┐
//!             hidden states ───────────┴▶ device ─▶ layers in order ─▶ hidden states, or
//!                                                                     wanted rows ─▶ norm ─▶ head ─▶ logits
//! ```

use std::ops::Range;
use std::path::Path;

use candle_core::quantized::QMatMul;
use candle_core::{Module, Result as Computed, Tensor};
use shard_kernels::kv::KvShape;

use super::block::{Block, Norm, Pass, load_matrix};
use super::cache::Cache;
use super::{Device, without_backtrace};
use crate::batch::{self, ForwardError, Input, Output, Rows, Span};
use crate::config::{self, Expected, ModelConfig, Role};
use crate::rope::Frequencies;
use crate::session::{Session, SessionError};
use crate::shard::{self, LoadOptions};
use crate::weights::{LoadError, ModelFile, Weight};

/// The weights of one shard on a device, computed by candle: [`crate::ShardModel`]'s counterpart for GPUs.
///
/// Its bits depend on the batch and on how a prompt is chunked, as candle chooses its kernels by the number of rows: a
/// replay may depart where two tokens nearly tie. Quantised weights take their size in the file, floats four bytes a
/// value.
///
/// A GPU keeps the order of one thread's work only. So what a function here has begun is done when it returns, and the
/// next one may be called by another thread.
pub struct DeviceModel {
    config: ModelConfig,
    options: LoadOptions,
    kv: KvShape,
    device: candle_core::Device,
    embedding: Option<Weight>,
    blocks: Vec<Block>,
    head: Option<Head>,
    rope: Frequencies,
}

struct Head {
    norm: Norm,
    output: QMatMul,
}

impl DeviceModel {
    /// Loads the file at `path`, or some layers of it, onto `device`. Of `options`, `threads` and `weights` have no
    /// meaning here. `progress` is told how many of how many bytes of weights are ready.
    ///
    /// # Errors
    /// Where the file cannot be used, or the device cannot be opened or has no room.
    pub fn load(
        path: &Path,
        layers: Option<Range<usize>>,
        device: Device,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, LoadError> {
        let file = ModelFile::open(path)?;
        let mut config = file.config()?;
        if let Some(layers) = layers {
            shard::take_layers(&mut config, layers)?;
        }
        let name = device;
        let device = open(name).map_err(|source| LoadError::Device { device: name, source })?;
        let total =
            matrices(&config).map(|name| Ok(file.matrix(&name)?.bytes())).sum::<Result<_, LoadError>>()?;
        let mut ready = 0;
        let mut done = |bytes| {
            ready += bytes;
            progress(ready, total);
        };
        let layers = config.layers.start as usize..config.layers.end as usize;
        let blocks = layers
            .map(|layer| Block::load(&file, &config, layer, &device, &mut done))
            .collect::<Result<_, _>>()?;
        let head = config.head_tensor().map(|output| {
            Ok::<_, LoadError>(Head {
                norm: Norm::load(&file, &config, config::OUTPUT_NORM, &device)?,
                output: load_matrix(&file, output, &device, &mut done)?,
            })
        });
        let mut model = Self {
            kv: KvShape { heads: config.head_count_kv as usize, head_size: config.head_dim as usize },
            embedding: config.has_first_layer().then(|| file.matrix(config::TOKEN_EMBD)).transpose()?,
            rope: shard::rope(&file, &config)?,
            head: head.transpose()?,
            blocks,
            device,
            options: options.clone(),
            config,
        };
        model.try_out().map_err(|reason| LoadError::Trial { device: name, reason })?;
        Ok(model)
    }

    /// Computes one row: a device that cannot is known before anyone asks, and its kernels are ready when somebody does.
    fn try_out(&mut self) -> Result<(), String> {
        let mut session = self.session(1).map_err(|error| error.to_string())?;
        let hidden = vec![0.0; self.config.embedding_length as usize];
        let input = if self.embedding.is_some() { Input::Tokens(&[0]) } else { Input::Hidden(&hidden) };
        let rows = Rows { session: &mut session, position: 0, input, logits: true };
        self.forward(&mut [rows]).map(drop).map_err(|error| error.to_string())
    }

    /// The model's hyperparameters; `layers` are this shard's.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Longest session.
    pub fn context_length(&self) -> usize {
        self.options.context_of(&self.config)
    }

    /// A session of up to `positions` positions. Their memory is taken on the device now.
    ///
    /// # Errors
    /// Where it is empty, exceeds the context, or the device has no room.
    pub fn session(&self, positions: usize) -> Result<Session, SessionError> {
        self.options.admit(&self.config, positions)?;
        let new = || Cache::new(self.kv, self.options.kv_dtype, positions, &self.device);
        let caches: Computed<Vec<Cache>> = self.blocks.iter().map(|_| new()).collect();
        let caches =
            caches.and_then(|caches| self.device.synchronize().map(|()| caches)).map_err(|error| {
                SessionError::Device { asked: positions, reason: without_backtrace(error).to_string() }
            })?;
        Ok(Session::on_device(self.layers(), self.kv, caches, positions))
    }

    /// Computes the rows of all entries and advances their sessions; one output for each entry.
    ///
    /// # Errors
    /// Where an entry does not fit the shard or its session, or the device fails; all sessions are as they were.
    pub fn forward(&mut self, batch: &mut [Rows<'_>]) -> Result<Vec<Output>, ForwardError> {
        let ours = |session: &Session| session.is_of_device(self.layers(), self.kv, &self.device);
        let passes = batch::plan(&self.config, &ours, batch)?;
        let empty = if self.head.is_some() { Output::Nothing } else { Output::Hidden(Vec::new()) };
        let mut outputs = vec![empty; batch.len()];
        passes
            .iter()
            .try_for_each(|spans| self.pass(batch, spans, &mut outputs))
            .and_then(|()| self.device.synchronize())
            .map_err(|error| ForwardError::Device { reason: without_backtrace(error).to_string() })?;
        for span in passes.iter().flatten() {
            batch[span.entry].session.advance(span.rows);
        }
        Ok(outputs)
    }

    fn layers(&self) -> Range<usize> {
        self.config.layers.start as usize..self.config.layers.end as usize
    }

    fn pass(&self, batch: &[Rows<'_>], spans: &[Span], outputs: &mut [Output]) -> Computed<()> {
        let (mut x, turns) = self.read_input(batch, spans)?;
        let pass = Pass::new(&self.config, spans, &turns, &self.device)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            let caches: Vec<&Cache> =
                spans.iter().map(|span| batch[span.entry].session.device_cache(layer)).collect();
            x = block.forward(&pass, &caches, &x)?;
        }
        match &self.head {
            Some(head) => self.write_logits(head, batch, spans, &x, outputs),
            None => write_hidden(spans, &x, outputs),
        }
    }

    /// Hidden states on the device, `[rows, width]`, and `[cos, sin, …]` of every row.
    fn read_input(&self, batch: &[Rows<'_>], spans: &[Span]) -> Computed<(Tensor, Vec<f32>)> {
        let (width, turn_width) = (self.config.embedding_length as usize, self.rope.dims());
        let rows: usize = spans.iter().map(|span| span.rows).sum();
        let (mut x, mut turns) = (vec![0.0; rows * width], vec![0.0; rows * turn_width]);
        let mut slots = x.chunks_exact_mut(width).zip(turns.chunks_exact_mut(turn_width));
        for span in spans {
            for (row, (x, turns)) in (span.first..span.first + span.rows).zip(slots.by_ref()) {
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
        Ok((Tensor::from_vec(x, (rows, width), &self.device)?, turns))
    }

    fn write_logits(
        &self,
        head: &Head,
        batch: &[Rows<'_>],
        spans: &[Span],
        x: &Tensor,
        outputs: &mut [Output],
    ) -> Computed<()> {
        let (mut wanted, mut last_rows, mut end) = (Vec::new(), Vec::new(), 0);
        for span in spans {
            end += span.rows;
            if span.last && batch[span.entry].logits {
                wanted.push(span.entry);
                last_rows.push(x.narrow(0, end - 1, 1)?);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let normed = head.norm.forward(&Tensor::cat(&last_rows, 0)?)?;
        let logits = head.output.forward(&normed)?.to_vec2()?;
        for (entry, logits) in wanted.into_iter().zip(logits) {
            outputs[entry] = Output::Logits(logits);
        }
        Ok(())
    }
}

fn write_hidden(spans: &[Span], x: &Tensor, outputs: &mut [Output]) -> Computed<()> {
    let mut rows = x.to_vec2::<f32>()?.into_iter();
    for span in spans {
        if let Output::Hidden(hidden) = &mut outputs[span.entry] {
            rows.by_ref().take(span.rows).for_each(|row| hidden.extend(row));
        }
    }
    Ok(())
}

/// Names of the matrices that are multiplied by.
fn matrices(config: &ModelConfig) -> impl Iterator<Item = String> {
    let of_layer = |tensor: &Expected| matches!(tensor.role, Role::Matrix) && tensor.name.starts_with("blk.");
    let layers = config::expected_tensors(config).filter(of_layer).map(|tensor| tensor.name);
    layers.chain(config.head_tensor().map(str::to_owned))
}

pub(super) fn open(device: Device) -> Computed<candle_core::Device> {
    match device {
        Device::Cpu => Ok(candle_core::Device::Cpu),
        Device::Cuda(number) => candle_core::Device::new_cuda(number),
        Device::Metal => candle_core::Device::new_metal(0),
    }
    .map_err(without_backtrace)
}
