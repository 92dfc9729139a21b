use std::time::{Duration, Instant};

use libp2p::PeerId;

use super::*;

const REFRESH: Duration = Duration::from_secs(300);

struct Node {
    join: Join,
    start: Instant,
    peer: PeerId,
}

impl Node {
    fn new(bootstraps: usize, announces: bool) -> Self {
        Self::with(bootstraps, announces, false)
    }

    fn with(bootstraps: usize, announces: bool, registers: bool) -> Self {
        let start = Instant::now();
        let settings = JoinSettings { bootstraps, announces, registers, refresh_interval: REFRESH, seed: 7 };
        Self { join: Join::new(settings, start), start, peer: PeerId::random() }
    }

    /// What is done about an event, `at` seconds after the start.
    fn on(&mut self, at: f64, event: &JoinEvent) -> Vec<JoinAction> {
        self.join.on(event, self.start + Duration::from_secs_f64(at))
    }

    /// Seconds after the start at which it wants to be woken.
    fn deadline(&self) -> Option<f64> {
        self.join.next_deadline().map(|at| (at - self.start).as_secs_f64())
    }

    fn reached(&self) -> JoinEvent {
        JoinEvent::Reached { bootstrap: 0, peer: self.peer }
    }

    fn enter(&self) -> JoinAction {
        JoinAction::Enter { bootstrap: 0, peer: self.peer }
    }

    fn lost(&self) -> JoinEvent {
        JoinEvent::Disconnected { peer: self.peer }
    }

    /// Joined and announced within the first second.
    fn joined() -> Self {
        let mut node = Self::new(1, true);
        node.on(0.0, &JoinEvent::Started);
        let reached = node.reached();
        node.on(0.1, &reached);
        assert_eq!(node.on(0.2, &JoinEvent::RoutingUpdated), [JoinAction::Announce]);
        assert_eq!(node.on(0.3, &JoinEvent::Announced { stored: true }), []);
        node
    }
}

const DIAL: JoinAction = JoinAction::Dial { bootstrap: 0 };
const ALL: JoinAction = JoinAction::Register { all: true };
const NEW: JoinAction = JoinAction::Register { all: false };
const STORED: JoinEvent = JoinEvent::Announced { stored: true };

#[test]
fn the_order_of_a_join() {
    let mut node = Node::new(1, true);
    let (reached, enter) = (node.reached(), node.enter());
    let table = [
        (0.0, JoinEvent::Started, vec![DIAL]),
        (0.1, JoinEvent::Changed, vec![]),
        (0.2, reached.clone(), vec![enter.clone()]),
        (0.3, JoinEvent::Changed, vec![]),
        (0.4, JoinEvent::RoutingUpdated, vec![JoinAction::Announce]),
        (0.5, JoinEvent::RoutingUpdated, vec![]),
        (0.6, STORED, vec![]),
        (0.7, JoinEvent::RoutingUpdated, vec![]),
        (300.5, JoinEvent::Tick, vec![]),
        (300.6, JoinEvent::Tick, vec![JoinAction::Announce]),
        (300.7, STORED, vec![]),
        (301.0, JoinEvent::Changed, vec![JoinAction::Announce]),
        (301.1, STORED, vec![]),
        (302.0, JoinEvent::Leave, vec![JoinAction::Withdraw]),
        (303.0, JoinEvent::Changed, vec![]),
        (999.0, JoinEvent::Tick, vec![]),
    ];
    for (at, event, actions) in table {
        assert_eq!(node.on(at, &event), actions, "{event:?} at {at}");
    }
    assert_eq!(node.deadline(), None);
}

#[test]
fn without_a_routing_update_the_announcement_comes_after_15_s() {
    let mut node = Node::new(1, true);
    node.on(0.0, &JoinEvent::Started);
    let reached = node.reached();
    node.on(1.0, &reached);
    assert_eq!(node.deadline(), Some(16.0));
    assert_eq!(node.on(15.9, &JoinEvent::Tick), []);
    assert_eq!(node.on(16.0, &JoinEvent::Tick), [JoinAction::Announce]);
    assert_eq!(node.on(16.1, &JoinEvent::RoutingUpdated), []);
}

#[test]
fn a_routing_update_may_come_first() {
    let mut node = Node::new(1, true);
    node.on(0.0, &JoinEvent::Started);
    assert_eq!(node.on(0.1, &JoinEvent::RoutingUpdated), [JoinAction::Announce]);
    assert_eq!(node.on(0.2, &JoinEvent::Announced { stored: false }), []);
    let (reached, enter) = (node.reached(), node.enter());
    assert_eq!(node.on(0.3, &reached), [enter, JoinAction::Announce]);
}

#[test]
fn a_bootstrap_that_is_lost_is_told_everything_again() {
    let mut node = Node::joined();
    let (lost, reached, enter) = (node.lost(), node.reached(), node.enter());
    assert_eq!(node.on(10.0, &lost), []);
    let retry = node.deadline().unwrap();
    assert!((10.3..=10.7).contains(&retry), "{retry}");
    assert_eq!(node.on(retry, &JoinEvent::Tick), [DIAL]);
    assert_eq!(node.on(retry, &JoinEvent::Tick), [], "a dial is under way");
    assert_eq!(node.on(11.0, &reached), [enter, JoinAction::Announce]);
    assert_eq!(node.join.bootstraps(), [node.peer]);
}

#[test]
fn an_unreachable_bootstrap_is_dialled_for_ever_with_back_off() {
    let mut node = Node::new(1, true);
    assert_eq!(node.on(0.0, &JoinEvent::Started), [DIAL]);
    let mut at = 0.0;
    let mut waits = Vec::new();
    for _ in 0..40 {
        assert_eq!(node.on(at, &JoinEvent::Unreachable { bootstrap: 0 }), []);
        let next = node.deadline().unwrap();
        waits.push(next - at);
        assert_eq!(node.on(next - 0.001, &JoinEvent::Tick), []);
        assert_eq!(node.on(next, &JoinEvent::Tick), [DIAL]);
        at = next;
    }
    for (wait, base) in waits.iter().zip([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]) {
        assert!((base * 0.75..=base * 1.25).contains(wait), "{waits:?}");
    }
    assert!(waits[6..].iter().all(|wait| (22.5..=37.5).contains(wait)), "{waits:?}");
    assert!(waits[6..].windows(2).any(|pair| pair[0] != pair[1]), "jitter: {waits:?}");
}

#[test]
fn a_change_during_an_announcement_is_announced_after_it() {
    let mut node = Node::joined();
    assert_eq!(node.on(1.0, &JoinEvent::Changed), [JoinAction::Announce]);
    assert_eq!(node.on(1.1, &JoinEvent::Changed), []);
    assert_eq!(node.on(1.2, &JoinEvent::Changed), []);
    assert_eq!(node.on(1.3, &STORED), [JoinAction::Announce], "once, with all changes");
    assert_eq!(node.on(1.4, &STORED), []);
}

#[test]
fn a_failed_announcement_is_repeated_soon() {
    let mut node = Node::joined();
    node.on(1.0, &JoinEvent::Changed);
    assert_eq!(node.on(2.0, &JoinEvent::Announced { stored: false }), []);
    assert_eq!(node.deadline(), Some(7.0));
    assert_eq!(node.on(7.0, &JoinEvent::Tick), [JoinAction::Announce]);
}

/// Files have a life of their own beside the shards: neither holds the other up.
#[test]
fn files_are_registered_before_the_shards_are_announced() {
    use JoinAction::Announce;
    let registered = |stored| JoinEvent::Registered { stored };
    let mut node = Node::with(1, true, true);
    let (reached, enter, lost) = (node.reached(), node.enter(), node.lost());
    let table = [
        (0.0, JoinEvent::Started, vec![DIAL]),
        (0.1, JoinEvent::FilesChanged, vec![]),
        (0.2, reached.clone(), vec![enter.clone()]),
        (0.3, JoinEvent::RoutingUpdated, vec![ALL, Announce]),
        // What changes while it is being told is told after that.
        (0.4, JoinEvent::FilesChanged, vec![]),
        (0.5, STORED, vec![]),
        (0.6, JoinEvent::Changed, vec![Announce]),
        (0.7, registered(true), vec![NEW]),
        (0.8, STORED, vec![]),
        (1.0, registered(true), vec![]),
        // A shard changes: the files have not. And the other way round.
        (10.0, JoinEvent::Changed, vec![Announce]),
        (10.1, STORED, vec![]),
        (20.0, JoinEvent::FilesChanged, vec![NEW]),
        // Nobody took a file: again soon, and that alone.
        (20.1, registered(false), vec![]),
        (25.0, JoinEvent::Tick, vec![]),
        (25.1, JoinEvent::Tick, vec![NEW]),
        (25.2, registered(true), vec![]),
        (310.1, JoinEvent::Tick, vec![Announce]),
        (310.2, STORED, vec![]),
        (325.2, JoinEvent::Tick, vec![NEW]),
        (325.3, registered(true), vec![]),
        // A bootstrap that is reached again may know nothing.
        (330.0, lost, vec![]),
        (331.0, JoinEvent::Tick, vec![DIAL]),
        (331.1, reached, vec![enter, ALL, Announce]),
        (331.2, JoinEvent::Leave, vec![JoinAction::Withdraw]),
    ];
    for (at, event, actions) in table {
        assert_eq!(node.on(at, &event), actions, "{event:?} at {at}");
    }
}

/// An origin: the bootstrap itself, with files and no shard.
#[test]
fn a_bootstrap_registers_its_files_when_somebody_comes() {
    let mut node = Node::with(0, false, true);
    assert_eq!(node.on(0.0, &JoinEvent::Started), []);
    assert_eq!(node.on(1.0, &JoinEvent::FilesChanged), []);
    assert_eq!(node.deadline(), None);
    assert_eq!(node.on(9.0, &JoinEvent::RoutingUpdated), [ALL]);
    node.on(9.1, &JoinEvent::Registered { stored: true });
    assert_eq!(node.deadline(), Some(309.1));
    assert_eq!(node.on(10.0, &JoinEvent::FilesChanged), [NEW]);
    assert_eq!(node.on(11.0, &JoinEvent::Leave), []);
}

#[test]
fn files_alone_do_not_wait_for_the_dht_for_ever_either() {
    let mut node = Node::with(1, false, true);
    node.on(0.0, &JoinEvent::Started);
    let reached = node.reached();
    node.on(1.0, &reached);
    assert_eq!(node.on(16.0, &JoinEvent::Tick), [ALL]);
}

#[test]
fn a_tool_joins_and_announces_nothing() {
    let mut node = Node::new(1, false);
    let (reached, enter, lost) = (node.reached(), node.enter(), node.lost());
    assert_eq!(node.on(0.0, &JoinEvent::Started), [DIAL]);
    assert_eq!(node.on(0.1, &reached), std::slice::from_ref(&enter));
    assert_eq!(node.on(0.2, &JoinEvent::RoutingUpdated), []);
    assert_eq!(node.deadline(), None);
    node.on(1.0, &lost);
    assert_eq!(node.on(2.0, &JoinEvent::Tick), [DIAL]);
    assert_eq!(node.on(2.1, &reached), [enter]);
    assert_eq!(node.on(3.0, &JoinEvent::Leave), []);
}

#[test]
fn a_bootstrap_that_refuses_is_dialled_less_and_less_often() {
    let mut node = Node::new(1, true);
    let (reached, lost) = (node.reached(), node.lost());
    let refused = JoinEvent::Refused { peer: node.peer };
    node.on(0.0, &JoinEvent::Started);
    let (mut at, mut waits) = (0.0, Vec::new());
    for _ in 0..4 {
        node.on(at, &reached);
        assert_eq!(node.on(at, &refused), []);
        assert_eq!(node.on(at, &lost), [], "it is known already");
        assert_eq!(node.join.bootstraps(), []);
        let next = node.join.retry_in(0, node.start + Duration::from_secs_f64(at)).unwrap().as_secs_f64();
        waits.push(next);
        at += next + 0.001;
        assert!(node.on(at, &JoinEvent::Tick).contains(&DIAL));
    }
    assert!(waits.windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");
    // Once it stays, its loss is a loss like any other.
    node.on(at, &reached);
    node.on(at + 100.0, &lost);
    let again = node.join.retry_in(0, node.start + Duration::from_secs_f64(at + 100.0)).unwrap();
    assert!(again < Duration::from_secs(1), "{again:?}");
}

#[test]
fn bootstraps_are_independent() {
    let mut node = Node::new(2, true);
    let other = PeerId::random();
    let dial = |bootstrap| JoinAction::Dial { bootstrap };
    assert_eq!(node.on(0.0, &JoinEvent::Started), [dial(0), dial(1)]);
    node.on(0.1, &JoinEvent::Reached { bootstrap: 1, peer: other });
    node.on(0.2, &JoinEvent::RoutingUpdated);
    node.on(0.3, &STORED);
    node.on(3.0, &JoinEvent::Unreachable { bootstrap: 0 });
    assert_eq!(node.on(4.0, &JoinEvent::Tick), [dial(0)]);
    let (reached, enter) = (node.reached(), node.enter());
    assert_eq!(node.on(4.1, &reached), [enter, JoinAction::Announce], "it knows nothing of us yet");
    assert_eq!(node.join.bootstraps(), [node.peer, other]);
    node.on(5.0, &JoinEvent::Disconnected { peer: other });
    assert_eq!(node.join.bootstraps(), [node.peer]);
    assert_eq!(node.on(6.0, &JoinEvent::Tick), [dial(1)]);
}

#[test]
fn leaving_before_anything_was_said_is_silent() {
    let mut node = Node::new(1, true);
    node.on(0.0, &JoinEvent::Started);
    assert_eq!(node.on(0.1, &JoinEvent::Leave), []);
    let reached = node.reached();
    assert_eq!(node.on(0.2, &reached), []);
}
