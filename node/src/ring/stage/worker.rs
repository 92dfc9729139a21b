//! The engine thread: it alone touches weights and caches.
//!
//! ```text
//! jobs ─▶ Queue ─▶ [ batch what is ready ─▶ one forward ─▶ sample ] ─▶ done
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{io, thread};

use half::slice::HalfFloatSliceExt;
use shard_engine::sample::{SamplingParams, sample};
use shard_engine::{ForwardError, Rows, Session, SessionError, ShardModel};
use shard_wire::frame::Dtype;
use shard_wire::session::Sampling;

use super::job::{Done, Input, Job, Key, Output, Reserve, Run, Sampler};
use super::queue::{Queue, Work};

/// A forward over steps waits for the steps of further sessions: this share of the last forward, and at most so long.
const PATIENCE_SHARE: u32 = 64;
const PATIENCE: Duration = Duration::from_millis(1);

/// One shard's weights, as the thread uses them.
pub trait Model: Send {
    /// Reserves the cache of a session.
    ///
    /// # Errors
    /// Where it is longer than the context.
    fn session(&self, positions: usize) -> Result<Session, SessionError>;

    /// See [`ShardModel::forward`].
    ///
    /// # Errors
    /// Where an entry does not fit the shard or its session.
    fn forward(&mut self, batch: &mut [Rows<'_>]) -> Result<Vec<shard_engine::Output>, ForwardError>;
}

impl Model for ShardModel {
    fn session(&self, positions: usize) -> Result<Session, SessionError> {
        Self::session(self, positions)
    }

    fn forward(&mut self, batch: &mut [Rows<'_>]) -> Result<Vec<shard_engine::Output>, ForwardError> {
        Self::forward(self, batch)
    }
}

#[cfg(feature = "candle")]
impl Model for shard_engine::DeviceModel {
    fn session(&self, positions: usize) -> Result<Session, SessionError> {
        Self::session(self, positions)
    }

    fn forward(&mut self, batch: &mut [Rows<'_>]) -> Result<Vec<shard_engine::Output>, ForwardError> {
        Self::forward(self, batch)
    }
}

/// The door to the engine thread. Dropping the last one ends it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Arc<Queue>,
    pulse: Arc<Pulse>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Signs of life of the thread.
#[derive(Debug)]
struct Pulse {
    epoch: Instant,
    forwards: AtomicU64,
    /// Microseconds from `epoch` to the begin of the forward under way; 0 for none.
    begun: AtomicU64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.stop();
        // The thread may drop the last handle itself, from within `done`.
        if let Some(thread) = self.thread.take().filter(|t| t.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }
}

impl Engine {
    /// Starts the thread. Hidden states leave as `activations`; `capacity` is the most jobs that may wait.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn spawn(
        activations: Dtype,
        capacity: usize,
        done: impl Fn(Done) + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(capacity));
        let pulse =
            Arc::new(Pulse { epoch: Instant::now(), forwards: AtomicU64::new(0), begun: AtomicU64::new(0) });
        let worker = Worker {
            queue: Arc::clone(&queue),
            pulse: Arc::clone(&pulse),
            activations,
            patience: Duration::ZERO,
            models: HashMap::new(),
            sessions: HashMap::new(),
            done: Box::new(done),
        };
        let thread = thread::Builder::new().name("engine".into()).spawn(move || worker.run())?;
        Ok(Self { inner: Arc::new(Inner { queue, pulse, thread: Some(thread) }) })
    }

    /// Gives the thread a job; never blocks.
    ///
    /// # Errors
    /// The forward, where too many wait.
    pub fn push(&self, job: Job) -> Result<(), Box<Run>> {
        self.inner.queue.push(job)
    }

    /// Serves a loaded shard, in place of another of this id.
    pub fn serve(&self, shard: u32, model: Box<dyn Model>) {
        self.inner.queue.serve(shard, model);
    }

    /// Frees a shard's weights, after the forward that is under way.
    pub fn withdraw(&self, shard: u32) {
        self.inner.queue.withdraw(shard);
    }

    /// Forwards that ended.
    pub fn forwards(&self) -> u64 {
        self.inner.pulse.forwards.load(Ordering::Relaxed)
    }

    /// How long the forward that is under way has taken; zero between forwards.
    pub fn busy_for(&self) -> Duration {
        let pulse = &self.inner.pulse;
        match pulse.begun.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            begun => pulse.epoch.elapsed().saturating_sub(Duration::from_micros(begun)),
        }
    }
}

/// A session's part on this thread.
struct Cache {
    epoch: u32,
    shard: u32,
    /// Its last rows were a step: the next ones are soon another.
    decoding: bool,
    session: Session,
    sampler: Option<(SamplingParams, Vec<u32>)>,
}

struct Worker {
    queue: Arc<Queue>,
    pulse: Arc<Pulse>,
    activations: Dtype,
    patience: Duration,
    models: HashMap<u32, Box<dyn Model>>,
    sessions: HashMap<Key, Result<Cache, (u32, String)>>,
    done: Box<dyn Fn(Done) + Send>,
}

impl Worker {
    fn run(mut self) {
        loop {
            let shard_of = |key: &Key| self.sessions.get(key)?.as_ref().ok().map(|cache| cache.shard);
            let decoding = self.sessions.values().flatten().filter(|cache| cache.decoding).count();
            match self.queue.take(shard_of, decoding, self.patience) {
                Work::Serve(shard, model) => {
                    self.sessions.retain(|_, cache| cache.as_ref().is_ok_and(|cache| cache.shard != shard));
                    self.models.insert(shard, model);
                }
                Work::Withdraw(shard) => {
                    self.sessions.retain(|_, cache| cache.as_ref().is_ok_and(|cache| cache.shard != shard));
                    self.models.remove(&shard);
                }
                Work::Open(reserve) => {
                    let (key, epoch) = (reserve.key, reserve.epoch);
                    let cache = self.open(reserve).map_err(|message| (epoch, message));
                    self.sessions.insert(key, cache);
                }
                Work::Close(key) => drop(self.sessions.remove(&key)),
                Work::Forward(runs) => self.forward(runs),
                Work::Stop => return,
            }
        }
    }

    fn open(&self, reserve: Reserve) -> Result<Cache, String> {
        let Reserve { epoch, shard, positions, sampler, .. } = reserve;
        let model = self.models.get(&shard).ok_or_else(|| format!("shard {shard} is not loaded"))?;
        let session = model.session(positions as usize).map_err(|error| error.to_string())?;
        let sampler = sampler.map(|Sampler { sampling, history }| (params(sampling), history));
        if let Some((params, _)) = &sampler {
            // Another gateway may have checked less; an id beyond the vocabulary has no effect.
            params.validate(usize::MAX).map_err(|error| error.to_string())?;
        }
        Ok(Cache { epoch, shard, decoding: false, session, sampler })
    }

    /// One forward over runs of one shard; sessions that were freed meanwhile are passed over.
    fn forward(&mut self, runs: Vec<Run>) {
        let begun = Instant::now();
        let mut entries = Vec::with_capacity(runs.len());
        for run in runs {
            match self.sessions.remove(&run.key) {
                Some(Ok(cache)) if cache.epoch == run.epoch => entries.push((run, cache)),
                Some(Err((epoch, message))) if epoch == run.epoch => {
                    self.sessions.insert(run.key, Err((epoch, message.clone())));
                    self.finish(&run, begun, Output::Failed(message));
                }
                Some(other) => drop(self.sessions.insert(run.key, other)),
                None => {}
            }
        }
        let shard = entries.first().map(|(_, cache)| cache.shard);
        let Some(model) = shard.and_then(|shard| self.models.get_mut(&shard)) else { return };
        let micros = begun.duration_since(self.pulse.epoch).as_micros();
        self.pulse.begun.store(u64::try_from(micros).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
        let outputs = compute(model.as_mut(), &mut entries);
        self.pulse.begun.store(0, Ordering::Relaxed);
        self.patience = (begun.elapsed() / PATIENCE_SHARE).min(PATIENCE);
        self.pulse.forwards.fetch_add(1, Ordering::Relaxed);
        for ((run, mut cache), output) in entries.into_iter().zip(outputs) {
            cache.decoding = run.input.count() == 1;
            let output = match output {
                Ok(output) => self.convert(&run, &mut cache, output),
                Err(message) => Output::Failed(message),
            };
            self.sessions.insert(run.key, Ok(cache));
            self.finish(&run, begun, output);
        }
    }

    fn convert(&self, run: &Run, cache: &mut Cache, output: shard_engine::Output) -> Output {
        match output {
            shard_engine::Output::Hidden(values) => Output::Hidden {
                dtype: self.activations,
                width: (values.len() / run.input.count() as usize) as u32,
                bytes: encode(&values, self.activations),
            },
            shard_engine::Output::Nothing => Output::Cached,
            shard_engine::Output::Logits(logits) => {
                let Some((params, history)) = &mut cache.sampler else {
                    return Output::Failed("logits on a stage that does not sample".into());
                };
                match sample(&logits, history, params, u64::from(run.position + run.input.count())) {
                    Ok(sampled) => {
                        history.push(sampled.id);
                        Output::Token { id: sampled.id, logprob: sampled.logprob, top: sampled.top }
                    }
                    Err(error) => Output::Failed(error.to_string()),
                }
            }
        }
    }

    fn finish(&self, run: &Run, begun: Instant, output: Output) {
        let Run { key, epoch, position, ref input, arrived, .. } = *run;
        let (queued, computed) = (begun.saturating_duration_since(arrived), begun.elapsed());
        (self.done)(Done { key, epoch, position, count: input.count(), output, queued, computed });
    }
}

/// One forward; where it is refused, one for each entry, so that a bad one harms no other.
fn compute(model: &mut dyn Model, entries: &mut [(Run, Cache)]) -> Vec<Result<shard_engine::Output, String>> {
    let hidden: Vec<Vec<f32>> = entries.iter().map(|(run, _)| decode(&run.input)).collect();
    let mut rows: Vec<Rows<'_>> = entries
        .iter_mut()
        .zip(&hidden)
        .map(|((run, cache), hidden)| Rows {
            session: &mut cache.session,
            position: run.position as usize,
            input: match &run.input {
                Input::Tokens(ids) => shard_engine::Input::Tokens(ids),
                Input::Hidden { .. } => shard_engine::Input::Hidden(hidden),
            },
            logits: run.sample,
        })
        .collect();
    match model.forward(&mut rows) {
        Ok(outputs) => outputs.into_iter().map(Ok).collect(),
        Err(error) if rows.len() == 1 => vec![Err(error.to_string())],
        Err(_) => rows
            .iter_mut()
            .map(|row| {
                let outputs = model.forward(std::slice::from_mut(row)).map_err(|error| error.to_string())?;
                outputs.into_iter().next().ok_or_else(|| "the forward gave nothing".to_owned())
            })
            .collect(),
    }
}

fn params(sampling: Sampling) -> SamplingParams {
    SamplingParams {
        temperature: sampling.temperature,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        min_p: sampling.min_p,
        repetition_penalty: sampling.repetition_penalty,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        seed: sampling.seed,
        logit_bias: sampling.logit_bias,
        logprobs: sampling.logprobs,
    }
}

fn encode(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F16 => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
        Dtype::Bf16 => values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

/// Hidden states as f32; nothing for tokens.
fn decode(input: &Input) -> Vec<f32> {
    let Input::Hidden { dtype, bytes, .. } = input else { return Vec::new() };
    match dtype {
        Dtype::F16 => {
            let halves: Vec<half::f16> =
                bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]])).collect();
            halves.to_f32_vec()
        }
        Dtype::Bf16 => {
            let halves: Vec<half::bf16> =
                bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]])).collect();
            halves.to_f32_vec()
        }
        _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    }
}
