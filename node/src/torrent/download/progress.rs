//! How far a download is.

use std::collections::VecDeque;
use std::time::Duration;

use libp2p::PeerId;

/// The rate is that of the last seconds.
const RATE_OVER: Duration = Duration::from_secs(5);

/// What a download does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Other files come first.
    Waiting,
    /// What is on disk is hashed.
    Looking,
    /// Pieces come from peers.
    Fetching,
    /// All pieces are there; the whole is hashed.
    Finishing,
    /// The file is there.
    Over,
}

/// How far a download is. `done` is `reused` and `fetched`, and what was there whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// What it does now.
    pub phase: Phase,
    /// Bytes of the file.
    pub total: u64,
    /// Bytes that are there and verified.
    pub done: u64,
    /// Of those: found on disk, from a former try or in other files.
    pub reused: u64,
    /// Of those: from peers.
    pub fetched: u64,
    /// Of what peers give.
    pub bytes_per_s: u64,
    /// Peers that have something and can be asked.
    pub peers: usize,
    /// Until all pieces are there, at this rate.
    pub eta: Option<Duration>,
    /// The last peer that was banned for the file, and its wrong piece.
    pub banned: Option<(PeerId, u32)>,
}

impl Progress {
    pub(super) fn new(total: u64) -> Self {
        Self {
            phase: Phase::Waiting,
            total,
            done: 0,
            reused: 0,
            fetched: 0,
            bytes_per_s: 0,
            peers: 0,
            eta: None,
            banned: None,
        }
    }
}

/// Bytes over the last seconds.
#[derive(Default)]
pub(super) struct Rate {
    /// When, and how many by then.
    marks: VecDeque<(Duration, u64)>,
}

impl Rate {
    /// `bytes` have come by `now`; the rate per second.
    pub(super) fn mark(&mut self, bytes: u64, now: Duration) -> u64 {
        self.marks.push_back((now, bytes));
        while self.marks.len() > 2
            && self.marks.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= RATE_OVER)
        {
            self.marks.pop_front();
        }
        let Some((since, before)) = self.marks.front() else { return 0 };
        let seconds = now.saturating_sub(*since).as_secs_f64();
        if seconds > 0.0 { (bytes.saturating_sub(*before) as f64 / seconds) as u64 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut rate = Rate::default();
        let at = Duration::from_millis;
        assert_eq!(rate.mark(0, at(0)), 0);
        assert_eq!(rate.mark(500, at(500)), 1000);
        for tick in 2..=40 {
            rate.mark(if tick <= 20 { tick * 500 } else { 10_000 }, at(tick * 500));
        }
        assert_eq!(rate.mark(10_000, at(20_500)), 0, "nothing came for ten seconds");
    }
}
