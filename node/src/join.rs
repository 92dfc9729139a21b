//! How a peer gets into the network and stays in it. Pure: events and the time in, actions out; [`crate::joiner`] acts.
//!
//! ```text
//! start ─▶ Dial every bootstrap ──failed──▶ wait 0.5 s, 1 s, … 30 s (± a quarter) ─▶ Dial again, for ever
//!             │ reached ◀───────────── lost: Dial again, soon
//!             ▼
//!          Enter (keep it, add it to the DHT, DHT bootstrap)
//!             │ routing updated, or 15 s later
//!             ▼
//!  Register, Announce ◀── every refresh interval, at every change, at every bootstrap reached again, 5 s after a failure
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
    /// It has something to announce, a shard or its place as a gateway or spare; tools have not.
    pub announces: bool,
    /// It has files to register.
    pub registers: bool,
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
    /// Files have come or gone.
    FilesChanged,
    /// An announcement ended.
    Announced {
        /// At least one peer stored it.
        stored: bool,
    },
    /// A registration ended.
    Registered {
        /// At least one peer stored each.
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
    /// Register files; the outcome is `Registered`.
    Register {
        /// Every file that there is, and not only what is new or may expire.
        all: bool,
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
    registering: Chore,
    /// The next registration is of all files.
    register_all: bool,
    announcing: Chore,
    /// The DHT is usable, or has been waited for: what changes is told at once.
    begun: bool,
    /// When to begin, whatever happens.
    begin_at: Option<Instant>,
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

/// What is told again and again, one at a time.
#[derive(Debug)]
struct Chore {
    /// There is something to tell.
    wanted: bool,
    under_way: bool,
    /// It changed while it was being told.
    again: bool,
    /// When to tell it next, whatever happens.
    at: Option<Instant>,
}

impl Chore {
    fn new(wanted: bool) -> Self {
        Self { wanted, under_way: false, again: false, at: None }
    }

    /// Whether to begin now; where it is under way it begins again after that.
    fn begin(&mut self) -> bool {
        if !self.wanted {
            return false;
        }
        self.at = None;
        self.again = self.under_way;
        !std::mem::replace(&mut self.under_way, true)
    }

    /// It ended; whether to begin again now.
    fn end(&mut self, stored: bool, refresh: Duration, now: Instant) -> bool {
        self.under_way = false;
        if std::mem::take(&mut self.again) {
            return self.begin();
        }
        self.at = Some(now + if stored { refresh } else { ANNOUNCE_AGAIN });
        false
    }

    fn due(&mut self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now) && self.begin()
    }
}

impl Join {
    /// Before the start.
    pub fn new(settings: JoinSettings, now: Instant) -> Self {
        Self {
            links: vec![Link::Waiting { until: now, failures: 0 }; settings.bootstraps],
            // Zero is the one seed that xorshift cannot use.
            random: settings.seed | 1,
            registering: Chore::new(settings.registers),
            register_all: false,
            announcing: Chore::new(settings.announces),
            settings,
            begun: false,
            begin_at: None,
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
                if self.begun { Vec::new() } else { self.begin() }
            }
            // The first announcement waits for the DHT and will carry the change.
            JoinEvent::Changed => act(self.begun && self.announcing.begin(), JoinAction::Announce),
            JoinEvent::FilesChanged => self.register(|chore, begun| begun && chore.begin()),
            JoinEvent::Announced { stored } => {
                act(self.announcing.end(stored, self.settings.refresh_interval, now), JoinAction::Announce)
            }
            JoinEvent::Registered { stored } => {
                let refresh = self.settings.refresh_interval;
                self.register(|chore, _| chore.end(stored, refresh, now))
            }
            JoinEvent::Leave => {
                self.left = true;
                act(self.begun && self.settings.announces, JoinAction::Withdraw)
            }
        }
    }

    /// When to call with [`JoinEvent::Tick`], if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        let retries = self.links.iter().filter_map(|link| match link {
            Link::Waiting { until, .. } => Some(*until),
            Link::Dialling { .. } | Link::Connected { .. } => None,
        });
        let chores = [self.begin_at, self.registering.at, self.announcing.at];
        retries.chain(chores.into_iter().flatten()).min().filter(|_| !self.left)
    }

    /// The first announcement comes at this tick, though the DHT has said nothing.
    pub fn falls_back(&self, now: Instant) -> bool {
        !self.left && self.begin_at.is_some_and(|at| at <= now)
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
        if self.begin_at.is_some_and(|at| at <= now) {
            actions.extend(self.begin());
        }
        actions.extend(self.register(|chore, _| chore.due(now)));
        actions.extend(act(self.announcing.due(now), JoinAction::Announce));
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
        if !self.begun && !self.routable {
            if self.settings.announces || self.settings.registers {
                self.begin_at.get_or_insert(now + FALLBACK);
            }
        } else {
            // Its store is memory: it may be a new process that knows nothing of us.
            actions.extend(self.begin());
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

    fn register(&mut self, now: impl FnOnce(&mut Chore, bool) -> bool) -> Vec<JoinAction> {
        if !now(&mut self.registering, self.begun) {
            return Vec::new();
        }
        vec![JoinAction::Register { all: std::mem::take(&mut self.register_all) }]
    }

    /// Tells all there is to tell.
    fn begin(&mut self) -> Vec<JoinAction> {
        self.begun = true;
        self.begin_at = None;
        self.register_all = true;
        let mut actions = self.register(|chore, _| chore.begin());
        actions.extend(act(self.announcing.begin(), JoinAction::Announce));
        actions
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

fn act(now: bool, action: JoinAction) -> Vec<JoinAction> {
    if now { vec![action] } else { Vec::new() }
}

#[cfg(test)]
mod tests;
