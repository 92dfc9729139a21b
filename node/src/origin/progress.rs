//! How far an origin is, as this node's status, its console and members are told.

use std::time::Duration;

use shard_wire::command::OriginProgress;
use tokio::time::Instant;

use super::meter::{self, Meter};
use super::{State, Task};
use crate::report;
use crate::torrents::Registry;

/// Between lines of progress on the console.
const TELL: Duration = Duration::from_secs(10);
/// Between two words to members about it.
const ANNOUNCE: Duration = Duration::from_secs(5);

/// How far one step is, told in the status and, now and then, on the console.
pub(super) struct Progress<'a> {
    task: &'a Task,
    state: State,
    pub(super) meter: Meter,
    told: Instant,
    /// When members were told.
    announced: Option<Instant>,
    /// Members may know of a failure.
    failed: bool,
}

impl<'a> Progress<'a> {
    pub(super) fn new(task: &'a Task, state: State) -> Self {
        let now = Instant::now();
        Self { task, state, meter: Meter::new(now), told: now, announced: None, failed: true }
    }

    pub(super) fn at(&mut self, bytes: u64, total: Option<u64>) {
        let now = Instant::now();
        let rate = self.meter.at(now, bytes);
        let percent = total.map_or(0.0, |total| meter::percent(bytes, total));
        self.task.status.send_modify(|status| {
            if rate > 0.0 {
                status.get_on(self.state, bytes);
            }
            (status.bytes, status.total, status.bytes_per_s) = (bytes, total, rate);
            status.percent = percent;
            status.eta_s = total.and_then(|total| meter::eta(bytes, total, rate));
        });
        self.announce(now, percent, bytes);
        if now.duration_since(self.told) >= TELL {
            self.told = now;
            self.task.console.say(&report::origin_progress(self.state, &self.task.status.borrow()));
        }
    }

    /// Not every byte is news for the whole fleet; that the trouble is over is.
    fn announce(&mut self, now: Instant, percent: f64, bytes: u64) {
        let fails = self.task.status.borrow().error.is_some();
        let has_recovered = std::mem::replace(&mut self.failed, fails) && !fails;
        let is_due = self.state == State::Fetching
            && self.announced.is_none_or(|at| now.duration_since(at) >= ANNOUNCE);
        if !is_due && !has_recovered {
            return;
        }
        let before = self.task.known.read(Registry::own_origin);
        let mut next = before.clone().unwrap_or_default();
        if !fails {
            next.error.clear();
        }
        if is_due {
            self.announced = Some(now);
            (next.percent, next.bytes) = (percent as u8 / 5 * 5, bytes);
        }
        let is_news = |before: &OriginProgress| before.percent != next.percent || before.error != next.error;
        if before.as_ref().is_none_or(is_news) {
            self.task.known.origin(next);
        }
    }
}
