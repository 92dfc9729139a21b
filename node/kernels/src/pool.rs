//! A fork-join pool for regions of some microseconds.
//!
//! ```text
//! run(chunks, work):  publish work ─▶ open tickets 0..chunks ─▶ wake sleepers
//!                     caller and workers:  take a ticket ─▶ work(ticket) ─▶ remaining -= 1
//!                     caller: out of tickets ─▶ wait until remaining == 0 ─▶ return, or pass a panic on
//! ```
//!
//! The caller works too, and waits for *chunks*, never for *threads*: a worker that the system does not schedule
//! costs nothing, and one that is preempted inside a chunk costs that chunk. Idle threads spin for about a
//! microsecond and then park, so that a machine shared with other work is not slowed by ours. Nothing is pinned.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};

/// Turns of the spin loop before a thread parks: one to five microseconds. Longer spins burn the time slices that
/// another process on the same cores needs, and then ours are late.
const SPIN: u32 = 100;
/// More than one engine's machine has cores: a mistyped number must not fill the process table.
const MAX_THREADS: usize = 512;
/// Tickets are 32 bits and late workers overdraw a few, so a region stays well below.
const MAX_CHUNKS: usize = 1 << 31;

/// Runs the chunks of one region on a fixed number of threads; the calling thread is one of them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// `work(chunk)` with its type erased; valid while the region that published it runs.
#[derive(Clone, Copy)]
struct Job {
    call: unsafe fn(*const (), usize),
    work: *const (),
}

struct Shared {
    /// Written by the owner of `busy` while no ticket is open, read by holders of a ticket.
    job: UnsafeCell<Job>,
    /// `chunks << 32 | next`: one `fetch_add` claims a chunk and tells whether it exists.
    tickets: AtomicU64,
    remaining: AtomicUsize,
    /// Counts regions; a change wakes the workers.
    epoch: AtomicU32,
    sleepers: AtomicUsize,
    busy: AtomicBool,
    stop: AtomicBool,
    caller_parked: AtomicBool,
    caller: Mutex<Option<Thread>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is the only field that is not `Sync`. It is written only by the thread that holds `busy`, while
// `remaining` is 0, i.e. no thread holds a valid ticket; the release store of `tickets` publishes it to readers.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is used only inside the region that published it, whose closure is `Sync`.
unsafe impl Send for Shared {}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

impl Pool {
    /// A pool of `threads` threads, the caller included, 1 to 512. Where the system refuses a thread, the pool is
    /// smaller: [`Pool::threads`] tells.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared::new());
        let spawn = |index| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("kernel-{index}")).spawn(move || shared.serve()).ok()
        };
        let workers = (1..threads.clamp(1, MAX_THREADS)).map_while(spawn).collect();
        Self { shared, workers }
    }

    /// The cores that this process may use: affinity mask and cgroup quota are taken into account.
    pub fn default_threads() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    /// How many threads work on a region, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work(i)` once for every `i` in `0..chunks`, in any order, and returns when all are done.
    ///
    /// A panic in a chunk is passed on when no other chunk runs any more. A region inside a region, or a second one at
    /// the same time from another thread, runs on its caller alone.
    pub fn run(&self, chunks: usize, work: impl Fn(usize) + Sync) {
        let alone = self.workers.is_empty() || chunks <= 1 || chunks > MAX_CHUNKS;
        if alone || self.shared.busy.swap(true, Ordering::Acquire) {
            (0..chunks).for_each(work);
            return;
        }
        let helpers = &self.workers[..self.workers.len().min(chunks - 1)];
        self.shared.publish(chunks, &work);
        if self.shared.sleepers.load(Ordering::SeqCst) > 0 {
            helpers.iter().for_each(|worker| worker.thread().unpark());
        }
        self.shared.take_tickets();
        self.shared.wait_for_chunks();
        let panic = self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.shared.busy.store(false, Ordering::Release);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Calls `work(i, &mut items[i])` once for every item; see [`Pool::run`].
    pub fn for_each_mut<T: Send>(&self, items: &mut [T], work: impl Fn(usize, &mut T) + Sync) {
        let base = Shareable::new(items.as_mut_ptr());
        self.run(items.len(), |i| {
            // SAFETY: `i` is below `items.len()` and each `i` is given out once, so the references are disjoint;
            // `items` stays borrowed until `run` returns.
            work(i, unsafe { &mut *base.get().add(i) });
        });
    }

    /// Calls `work(r, row)` once for every row of `width` elements of `data`; see [`Pool::run`].
    pub fn for_each_row<T: Send>(&self, data: &mut [T], width: usize, work: impl Fn(usize, &mut [T]) + Sync) {
        assert!(width > 0 && data.len().is_multiple_of(width), "{} elements, rows of {width}", data.len());
        let base = Shareable::new(data.as_mut_ptr());
        self.run(data.len() / width, |r| {
            // SAFETY: row `r` lies inside `data` by the assertion, each `r` is given out once, rows do not overlap,
            // and `data` stays borrowed until `run` returns.
            work(r, unsafe { std::slice::from_raw_parts_mut(base.get().add(r * width), width) });
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker ends only by returning: chunks that panic are caught.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn new() -> Self {
        /// # Safety
        /// None needed: it does nothing.
        unsafe fn nothing(_: *const (), _: usize) {}
        Self {
            job: UnsafeCell::new(Job { call: nothing, work: std::ptr::null() }),
            tickets: AtomicU64::new(0),
            remaining: AtomicUsize::new(0),
            epoch: AtomicU32::new(0),
            sleepers: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            caller_parked: AtomicBool::new(false),
            caller: Mutex::new(None),
            panic: Mutex::new(None),
        }
    }

    fn publish<W: Fn(usize) + Sync>(&self, chunks: usize, work: &W) {
        /// # Safety
        /// `work` points to a live `W`.
        unsafe fn call<W: Fn(usize)>(work: *const (), chunk: usize) {
            // SAFETY: by this function's contract.
            unsafe { (*work.cast::<W>())(chunk) }
        }
        let job = Job { call: call::<W>, work: std::ptr::from_ref(work).cast() };
        // SAFETY: the caller holds `busy` and the previous region is complete, so nobody reads the job now.
        unsafe { *self.job.get() = job };
        self.remaining.store(chunks, Ordering::Relaxed);
        self.tickets.store((chunks as u64) << 32, Ordering::Release);
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Works until the region has no chunk left to claim.
    fn take_tickets(&self) {
        loop {
            let ticket = self.tickets.fetch_add(1, Ordering::AcqRel);
            let (chunks, chunk) = (ticket >> 32, ticket & u64::from(u32::MAX));
            if chunk >= chunks {
                return;
            }
            // SAFETY: a valid ticket was read, so `publish` wrote the job before and does not write again until
            // this chunk has been counted down.
            let Job { call, work } = unsafe { *self.job.get() };
            // SAFETY: `work` is borrowed by `run`, which does not return before this chunk has been counted down.
            let done = catch_unwind(AssertUnwindSafe(|| unsafe { call(work, chunk as usize) }));
            if let Err(payload) = done {
                self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
            }
            if self.remaining.fetch_sub(1, Ordering::SeqCst) == 1 && self.caller_parked.load(Ordering::SeqCst)
            {
                let caller = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
                caller.as_ref().inspect(|thread| thread.unpark());
            }
        }
    }

    fn wait_for_chunks(&self) {
        for _ in 0..SPIN {
            if self.remaining.load(Ordering::Acquire) == 0 {
                return;
            }
            std::hint::spin_loop();
        }
        *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current());
        self.caller_parked.store(true, Ordering::SeqCst);
        while self.remaining.load(Ordering::SeqCst) != 0 {
            std::thread::park();
        }
        self.caller_parked.store(false, Ordering::SeqCst);
    }

    /// A worker's life: wait for the next region, help with it.
    fn serve(&self) {
        let mut seen = 0;
        while !self.stop.load(Ordering::SeqCst) {
            seen = self.next_epoch(seen);
            self.take_tickets();
        }
    }

    fn next_epoch(&self, seen: u32) -> u32 {
        for _ in 0..SPIN {
            let epoch = self.epoch.load(Ordering::Acquire);
            if epoch != seen {
                return epoch;
            }
            std::hint::spin_loop();
        }
        // Counted before the last look: either the caller sees a sleeper, or the sleeper sees the new epoch.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let epoch = loop {
            let epoch = self.epoch.load(Ordering::SeqCst);
            if epoch != seen {
                break epoch;
            }
            std::thread::park();
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        epoch
    }
}

/// A pointer that chunks of one region share; each of them takes another part of what it points to.
pub(crate) struct Shareable<T>(*mut T);

impl<T> Shareable<T> {
    pub(crate) fn new(base: *mut T) -> Self {
        Self(base)
    }

    pub(crate) fn get(&self) -> *mut T {
        self.0
    }
}

// SAFETY: users hand every element to exactly one chunk, as each of their `unsafe` blocks says.
unsafe impl<T: Send> Sync for Shareable<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU8;

    #[test]
    fn every_chunk_runs_once_in_every_region() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
            for chunks in (0..400).chain([4096, 65_537]) {
                let hits: Vec<AtomicU8> = (0..chunks).map(|_| AtomicU8::new(0)).collect();
                pool.run(chunks, |i| {
                    hits[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    hits.iter().all(|h| h.load(Ordering::Relaxed) == 1),
                    "{threads} threads, {chunks} chunks"
                );
            }
        }
    }

    #[test]
    fn regions_in_quick_succession_see_their_own_data() {
        let pool = Pool::new(4);
        let mut row = vec![0u64; 7];
        for round in 0..50_000u64 {
            pool.for_each_mut(&mut row, |i, value| *value += round + i as u64);
        }
        let sum = 49_999 * 50_000 / 2;
        assert_eq!(row, (0..7).map(|i| sum + 50_000 * i).collect::<Vec<_>>());
    }

    #[test]
    fn workers_wake_from_sleep() {
        let pool = Pool::new(2);
        for _ in 0..20 {
            // Long enough for the worker to park; each chunk waits for the other, so both threads must come.
            std::thread::sleep(std::time::Duration::from_millis(2));
            let barrier = std::sync::Barrier::new(2);
            pool.run(2, |_| {
                barrier.wait();
            });
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_after_all_other_chunks() {
        let pool = Pool::new(3);
        for round in 0..200usize {
            let ran = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(64, |i| {
                    assert!(i != round % 64, "chunk {i}");
                    ran.fetch_add(1, Ordering::Relaxed);
                });
            }));
            let message = *result.unwrap_err().downcast::<String>().unwrap();
            assert_eq!(message, format!("chunk {}", round % 64));
            assert_eq!(ran.load(Ordering::Relaxed), 63);
        }
        let sum = AtomicUsize::new(0);
        pool.run(100, |i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 4950, "the pool works on after a panic");
    }

    #[test]
    fn nested_and_concurrent_regions_finish() {
        let pool = Pool::new(3);
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        pool.run(5, |_| {
                            pool.run(3, |_| {
                                total.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 4 * 500 * 15);
    }

    #[test]
    fn rows_are_disjoint_and_complete() {
        let pool = Pool::new(2);
        let mut data = vec![0usize; 6 * 5];
        pool.for_each_row(&mut data, 5, |r, row| row.fill(r));
        assert_eq!(data, (0..30).map(|i| i / 5).collect::<Vec<_>>());
    }
}
