//! Jobs that wait for the engine thread: orders first, then steps, then prefill chunks.
//!
//! The table admits a session only where it has a slot, and a session has at most one step and a window of chunks in
//! work, so the queue has room for all of them; one that is full all the same refuses, it never blocks.

use std::collections::{HashSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::job::{Job, Key, Reserve, Run};
use super::worker::Model;

/// Rows of one forward over steps: beyond it a row costs what it would cost alone.
const BATCH: usize = 64;
/// Forwards over steps in a row while a chunk waits.
const STEPS_BEFORE_CHUNK: u32 = 4;

/// What the engine thread does next.
pub(super) enum Work {
    /// Serve a shard, in place of another of this id.
    Serve(u32, Box<dyn Model>),
    /// Serve a shard no longer.
    Withdraw(u32),
    /// Reserve a session.
    Open(Reserve),
    /// Free a session.
    Close(Key),
    /// One forward over these.
    Forward(Vec<Run>),
    /// End.
    Stop,
}

#[derive(Default)]
struct State {
    orders: VecDeque<Work>,
    steps: VecDeque<Run>,
    chunks: VecDeque<Run>,
    steps_in_a_row: u32,
    stopped: bool,
}

/// The queue between the ring's task and the engine thread.
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    capacity: usize,
}

impl Queue {
    /// A queue of `capacity` jobs of each sort.
    pub(super) fn new(capacity: usize) -> Self {
        Self { state: Mutex::default(), filled: Condvar::new(), capacity }
    }

    /// Adds a job; gives a forward back where there is no room.
    pub(super) fn push(&self, job: Job) -> Result<(), Box<Run>> {
        let mut state = self.lock();
        match job {
            Job::Run(run) => {
                let queue = if run.input.count() == 1 { &mut state.steps } else { &mut state.chunks };
                if queue.len() >= self.capacity {
                    return Err(Box::new(run));
                }
                queue.push_back(run);
            }
            // One that is refused here would leak a cache: these are few, two a session.
            Job::Open(open) => state.orders.push_back(Work::Open(open)),
            Job::Close(key) => {
                state.steps.retain(|run| run.key != key);
                state.chunks.retain(|run| run.key != key);
                state.orders.push_back(Work::Close(key));
            }
        }
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Hands a loaded shard over.
    pub(super) fn serve(&self, shard: u32, model: Box<dyn Model>) {
        self.lock().orders.push_back(Work::Serve(shard, model));
        self.filled.notify_one();
    }

    /// Frees a shard's weights.
    pub(super) fn withdraw(&self, shard: u32) {
        self.lock().orders.push_back(Work::Withdraw(shard));
        self.filled.notify_one();
    }

    /// Lets the thread end after the forward that it is at.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.filled.notify_one();
    }

    /// Waits for work. `shard_of` says which runs may share a forward; while fewer than `decoding` steps are there, it
    /// waits `patience` for one more: sessions that once share a forward come back together.
    pub(super) fn take(
        &self,
        shard_of: impl Fn(&Key) -> Option<u32>,
        decoding: usize,
        patience: Duration,
    ) -> Work {
        let until = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            if state.stopped {
                return Work::Stop;
            }
            if let Some(order) = state.orders.pop_front() {
                return order;
            }
            let chunk_is_due = state.steps.is_empty() || state.steps_in_a_row >= STEPS_BEFORE_CHUNK;
            if chunk_is_due && let Some(chunk) = state.chunks.pop_front() {
                state.steps_in_a_row = 0;
                return Work::Forward(vec![chunk]);
            }
            if !state.steps.is_empty() {
                let left = until.saturating_duration_since(Instant::now());
                if state.steps.len() < decoding.min(BATCH) && !left.is_zero() {
                    let (woken, _) =
                        self.filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
                    state = woken;
                    continue;
                }
                state.steps_in_a_row += 1;
                return Work::Forward(batch(&mut state.steps, shard_of));
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The steps that wait for the shard of the first one, each session once.
fn batch(steps: &mut VecDeque<Run>, shard_of: impl Fn(&Key) -> Option<u32>) -> Vec<Run> {
    let shard = steps.front().and_then(|run| shard_of(&run.key));
    let mut taken = Vec::new();
    let mut keys = HashSet::new();
    for run in std::mem::take(steps) {
        if taken.len() < BATCH && shard_of(&run.key) == shard && keys.insert(run.key) {
            taken.push(run);
        } else {
            steps.push_back(run);
        }
    }
    taken
}
