//! A fork-join pool for short regions.

/// Runs the chunks of one region on a fixed number of threads; the calling thread is one of them.
#[derive(Debug)]
pub struct Pool {
    threads: usize,
}

impl Pool {
    /// A pool of `threads` threads, the caller included; 0 is taken as 1.
    pub fn new(threads: usize) -> Self {
        Self { threads: threads.max(1) }
    }

    /// How many threads work on a region, the caller included.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `work(i)` once for every `i` in `0..chunks`, in any order, and returns when all are done.
    pub fn run(&self, chunks: usize, work: impl Fn(usize) + Sync) {
        (0..chunks).for_each(work);
    }
}
