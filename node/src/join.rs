//! How a peer gets into the network and stays in it. Pure: events and the time in, actions out; [`crate::joiner`] acts.
//!
//! ```text
//! start ─▶ Dial every bootstrap ──failed──▶ wait 0.5 s, 1 s, … 30 s (± a quarter) ─▶ Dial again, for ever
//!             │ reached ◀───────────── lost: Dial again, soon
//!             ▼
//!          Enter (keep it, add it to the DHT, DHT bootstrap)
//!             │ routing updated, or 15 s later
//!             ▼
//!          Announce ◀── every refresh interval, at every change, at every bootstrap reached again, 5 s after a failure
//!             │ leave
//!             ▼
//!          Withdraw
//! ```

use std::time::{Duration, Instant};

use libp2p::PeerId;

/// The first announcement comes by then, whether the DHT has said anything or not.
pub const FALLBACK: Duration = Duration::from_secs(15);
/// A failed announcement is tried again.
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(5);
const BACK_OFF_FIRST: Duration = Duration::from_millis(500);
const BACK_OFF_LAST: Duration = Duration::from_secs(30);

/// What a peer joins with.
#[derive(Clone, Debug)]
pub struct JoinSettings {
    /// How many bootstraps there are; actions and events name them by index.
    pub bootstraps: usize,
    /// It has something to announce: shard nodes do, gateways and tools do not.
    pub announces: bool,
    /// Announcements are repeated at this interval.
    pub refresh_interval: Duration,
    /// Differs from node to node, so that a fleet does not re-dial in step.
    pub seed: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinEvent {
    /// The peer listens.
    Started,
    /// A bootstrap answered.
    Reached {
        /// Which.
        bootstrap: usize,
        /// Who it is.
        peer: PeerId,
    },
    /// A bootstrap did not answer.
    Unreachable {
        /// Which.
        bootstrap: usize,
    },
    /// The last connection to a peer is gone.
    Disconnected {
        /// Who.
        peer: PeerId,
    },
    /// A peer does not want us: as unreachable, though it answered.
    Refused {
        /// Who.
        peer: PeerId,
    },
    /// The DHT knows another peer.
    RoutingUpdated,
    /// What would be announced has changed.
    Changed,
    /// An announcement ended.
    Announced {
        /// At least one peer stored it.
        stored: bool,
    },
    /// The peer leaves.
    Leave,
    /// A deadline passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinAction {
    /// Dial a bootstrap; the outcome is `Reached` or `Unreachable`.
    Dial {
        /// Which.
        bootstrap: usize,
    },
    /// Keep the connection, add the peer to the DHT and run its bootstrap.
    Enter {
        /// Which.
        bootstrap: usize,
        /// Who it is.
        peer: PeerId,
    },
    /// Announce every shard as it is now; the outcome is `Announced`.
    Announce,
    /// Announce that every shard has left.
    Withdraw,
}

/// The state of joining.
#[derive(Debug)]
pub struct Join {
    settings: JoinSettings,
    links: Vec<Link>,
    announcing: Announcing,
    /// It changed while an announcement was under way.
    again: bool,
    /// When to announce next, whatever happens.
    announce_at: Option<Instant>,
    routable: bool,
    left: bool,
    random: u64,
}

/// One bootstrap.
#[derive(Clone, Copy, Debug)]
enum Link {
    Waiting {
        until: Instant,
        failures: u32,
    },
    Dialling {
        failures: u32,
    },
    /// `failures` are those before, and count on when it refuses us.
    Connected {
        peer: PeerId,
        failures: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Announcing {
    NeverYet,
    UnderWay,
    Done,
}

impl Join {
    /// Before the start.
    pub fn new(settings: JoinSettings, now: Instant) -> Self {
        Self {
            links: vec![Link::Waiting { until: now, failures: 0 }; settings.bootstraps],
            // Zero is the one seed that xorshift cannot use.
            random: settings.seed | 1,
            settings,
            announcing: Announcing::NeverYet,
            again: false,
            announce_at: None,
            routable: false,
            left: false,
        }
    }

    /// What to do about an event.
    pub fn on(&mut self, event: &JoinEvent, now: Instant) -> Vec<JoinAction> {
        if self.left {
            return Vec::new();
        }
        match *event {
            JoinEvent::Started | JoinEvent::Tick => self.on_time(now),
            JoinEvent::Reached { bootstrap, peer } => self.on_reached(bootstrap, peer, now),
            JoinEvent::Unreachable { bootstrap } => {
                if let Some(&Link::Dialling { failures }) = self.links.get(bootstrap) {
                    let until = now + self.back_off(failures);
                    self.links[bootstrap] = Link::Waiting { until, failures: failures + 1 };
                }
                Vec::new()
            }
            JoinEvent::Disconnected { peer: gone } => {
                self.on_lost(gone, now, |_| (0, 0));
                Vec::new()
            }
            JoinEvent::Refused { peer: by } => {
                self.on_lost(by, now, |failures| (failures, failures + 1));
                Vec::new()
            }
            JoinEvent::RoutingUpdated => {
                self.routable = true;
                if self.announcing == Announcing::NeverYet { self.announce() } else { Vec::new() }
            }
            JoinEvent::Changed => {
                // The first announcement waits for the DHT and will carry the change.
                if self.announcing == Announcing::NeverYet { Vec::new() } else { self.announce() }
            }
            JoinEvent::Announced { stored } => self.on_announced(stored, now),
            JoinEvent::Leave => {
                self.left = true;
                let said_something = self.settings.announces && self.announcing != Announcing::NeverYet;
                if said_something { vec![JoinAction::Withdraw] } else { Vec::new() }
            }
        }
    }

    /// When to call with [`JoinEvent::Tick`], if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        let retries = self.links.iter().filter_map(|link| match link {
            Link::Waiting { until, .. } => Some(*until),
            Link::Dialling { .. } | Link::Connected { .. } => None,
        });
        retries.chain(self.announce_at).min().filter(|_| !self.left)
    }

    /// Bootstraps that are connected.
    pub fn bootstraps(&self) -> Vec<PeerId> {
        self.links
            .iter()
            .filter_map(|link| match link {
                Link::Connected { peer, .. } => Some(*peer),
                Link::Waiting { .. } | Link::Dialling { .. } => None,
            })
            .collect()
    }

    /// Which bootstrap a peer is, while it is connected.
    pub fn bootstrap_of(&self, wanted: PeerId) -> Option<usize> {
        let is = |link: &Link| matches!(link, Link::Connected { peer, .. } if *peer == wanted);
        self.links.iter().position(is)
    }

    /// How long until a bootstrap that could not be reached is dialled again.
    pub fn retry_in(&self, bootstrap: usize, now: Instant) -> Option<Duration> {
        match self.links.get(bootstrap) {
            Some(Link::Waiting { until, .. }) => Some(until.saturating_duration_since(now)),
            _ => None,
        }
    }

    fn on_time(&mut self, now: Instant) -> Vec<JoinAction> {
        let mut actions = Vec::new();
        for (bootstrap, link) in self.links.iter_mut().enumerate() {
            if let Link::Waiting { until, failures } = *link
                && until <= now
            {
                *link = Link::Dialling { failures };
                actions.push(JoinAction::Dial { bootstrap });
            }
        }
        if self.announce_at.is_some_and(|at| at <= now) {
            self.announce_at = None;
            actions.extend(self.announce());
        }
        actions
    }

    fn on_reached(&mut self, bootstrap: usize, peer: PeerId, now: Instant) -> Vec<JoinAction> {
        let Some(link) = self.links.get_mut(bootstrap) else { return Vec::new() };
        let failures = match link {
            Link::Dialling { failures } | Link::Waiting { failures, .. } => *failures,
            Link::Connected { .. } => 0,
        };
        *link = Link::Connected { peer, failures };
        let mut actions = vec![JoinAction::Enter { bootstrap, peer }];
        if self.announcing == Announcing::NeverYet && !self.routable {
            if self.settings.announces {
                self.announce_at.get_or_insert(now + FALLBACK);
            }
        } else {
            // Its store is memory: it may be a new process that knows nothing of us.
            actions.extend(self.announce());
        }
        actions
    }

    /// `next` makes of the failures so far those that say how long to wait, and those that count then.
    fn on_lost(&mut self, gone: PeerId, now: Instant, next: impl Fn(u32) -> (u32, u32)) {
        for index in 0..self.links.len() {
            if let Link::Connected { peer, failures } = self.links[index]
                && peer == gone
            {
                let (wait, failures) = next(failures);
                let until = now + self.back_off(wait);
                self.links[index] = Link::Waiting { until, failures };
            }
        }
    }

    fn on_announced(&mut self, stored: bool, now: Instant) -> Vec<JoinAction> {
        self.announcing = Announcing::Done;
        if std::mem::take(&mut self.again) {
            return self.announce();
        }
        self.announce_at = Some(now + if stored { self.settings.refresh_interval } else { ANNOUNCE_AGAIN });
        Vec::new()
    }

    fn announce(&mut self) -> Vec<JoinAction> {
        if !self.settings.announces {
            return Vec::new();
        }
        self.announce_at = None;
        if self.announcing == Announcing::UnderWay {
            self.again = true;
            return Vec::new();
        }
        self.announcing = Announcing::UnderWay;
        vec![JoinAction::Announce]
    }

    /// Twice as long after every failure, up to a limit, and a quarter more or less.
    fn back_off(&mut self, failures: u32) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let base = BACK_OFF_FIRST.saturating_mul(1 << failures.min(10)).min(BACK_OFF_LAST);
        base * 3 / 4 + base / 2 * u32::try_from(self.random % 1024).unwrap_or(0) / 1024
    }
}

#[cfg(test)]
mod tests;
