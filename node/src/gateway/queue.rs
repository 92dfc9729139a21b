//! Admission: a request that finds every slot taken waits its turn in a bounded queue.
//!
//! The stages alone know whether a slot is free, since other gateways use them too; so a session is opened by trying.
//! ```text
//!  nobody waits ── try ── opened
//!        │          └ busy ─▶ queue (full: 429) ── at its head: try, again when an answer of ours ends,
//!        └──────────────────▶                      or after a while, until opened or out of patience (429)
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::error::ApiError;
use super::metrics::Metrics;
use crate::ring::client::{Answer, Client, OpenError, Prompt};

/// How often the head of the queue tries again by itself: slots are also freed by others.
const RETRY: Duration = Duration::from_millis(100);

/// The one queue of a gateway.
#[derive(Debug)]
pub(super) struct Queue {
    client: Client,
    metrics: Arc<Metrics>,
    /// Requests that may wait.
    limit: usize,
    /// How long one may.
    patience: Duration,
    waiting: AtomicUsize,
    /// Held by the head; a fair semaphore is the queue.
    head: Semaphore,
    freed: Notify,
}

/// An answer under way. It is cancelled when dropped, and then the head of the queue tries.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) answer: Answer,
    pub(super) queued: Duration,
    // After the answer: fields are dropped in this order.
    _slot: Slot,
}

#[derive(Debug)]
struct Slot(Arc<Queue>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.metrics.active.dec();
        self.0.freed.notify_one();
    }
}

/// A place among those that wait.
struct Place<'a>(&'a Queue);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
        self.0.metrics.queued.dec();
    }
}

impl Queue {
    pub(super) fn new(client: Client, metrics: Arc<Metrics>, limit: usize, patience: Duration) -> Self {
        let (waiting, head, freed) = (AtomicUsize::new(0), Semaphore::new(1), Notify::new());
        Self { client, metrics, limit, patience, waiting, head, freed }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Opens a session, at once or after waiting.
    pub(super) async fn open(self: &Arc<Self>, prompt: Prompt) -> Result<Admitted, ApiError> {
        let begun = Instant::now();
        if self.waiting.load(Ordering::Acquire) == 0
            && let Some(answer) = self.attempt(&prompt, begun).await?
        {
            return Ok(self.admit(answer, begun));
        }
        let _place = self.enter()?;
        match timeout(self.patience, self.wait(&prompt, begun)).await {
            Ok(opened) => Ok(self.admit(opened?, begun)),
            Err(_) => Err(ApiError::Busy(self.patience)),
        }
    }

    async fn wait(&self, prompt: &Prompt, begun: Instant) -> Result<Answer, ApiError> {
        let _head = self.head.acquire().await.map_err(|_| ApiError::Internal("the queue is closed"))?;
        loop {
            if let Some(answer) = self.attempt(prompt, begun).await? {
                return Ok(answer);
            }
            // Either way the head tries again.
            let _ = timeout(RETRY, self.freed.notified()).await;
        }
    }

    /// `None`: every slot is taken. The wait counts towards the deadline.
    async fn attempt(&self, prompt: &Prompt, begun: Instant) -> Result<Option<Answer>, ApiError> {
        let until = begun + prompt.deadline;
        let prompt = Prompt { deadline: until.saturating_duration_since(Instant::now()), ..prompt.clone() };
        match timeout_at(until, self.client.generate(prompt)).await {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(OpenError::Busy)) => Ok(None),
            Ok(Err(error)) => Err(ApiError::Open(error)),
            Err(_) => Err(ApiError::Deadline(until - begun)),
        }
    }

    fn enter(&self) -> Result<Place<'_>, ApiError> {
        let enter = |waiting| (waiting < self.limit).then_some(waiting + 1);
        match self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter) {
            Ok(_) => {
                self.metrics.queued.inc();
                Ok(Place(self))
            }
            Err(waiting) => Err(ApiError::QueueFull { waiting }),
        }
    }

    fn admit(self: &Arc<Self>, answer: Answer, begun: Instant) -> Admitted {
        self.metrics.active.inc();
        let queued = begun.elapsed().saturating_sub(answer.opened_in);
        Admitted { answer, queued, _slot: Slot(Arc::clone(self)) }
    }
}
