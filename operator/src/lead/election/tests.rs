mod world;

use super::*;
use world::World;

const ONE: &str = "one";
const OTHER: &str = "other";

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn wall(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn election(identity: &str) -> Election {
    Election::new("ns".to_owned(), "lease", identity.to_owned())
}

fn held(by: &str, renewed: i64, duration: i32) -> Lease {
    let spec = LeaseSpec {
        holder_identity: Some(by.to_owned()),
        lease_duration_seconds: Some(duration),
        lease_transitions: Some(3),
        renew_time: Some(MicroTime(wall(renewed))),
        acquire_time: Some(MicroTime(wall(0))),
        ..LeaseSpec::default()
    };
    Lease { spec: Some(spec), ..Lease::default() }
}

fn waits(election: &Election, now: Duration) -> bool {
    matches!(election.step(now, wall(0)), Step::Wait)
}

fn written(election: &Election, now: Duration) -> LeaseSpec {
    match election.step(now, wall(100)) {
        Step::Create(lease) | Step::Replace(lease) => lease.spec.unwrap(),
        Step::Wait => panic!("it waits"),
    }
}

#[test]
fn a_lease_that_is_not_there_is_created() {
    let mut election = election(ONE);
    election.observe(None, at(1));
    let Step::Create(lease) = election.step(at(1), wall(100)) else { panic!("not created") };
    assert_eq!(lease.metadata.name.as_deref(), Some("lease"));
    assert_eq!(lease.metadata.namespace.as_deref(), Some("ns"));
    let spec = lease.spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some(ONE));
    assert_eq!(spec.lease_transitions, Some(0));
    assert_eq!(spec.lease_duration_seconds, Some(DURATION_SECONDS));
    assert_eq!(
        (spec.acquire_time, spec.renew_time),
        (Some(MicroTime(wall(100))), Some(MicroTime(wall(100))))
    );
}

#[test]
fn anothers_lease_is_taken_when_it_was_seen_unchanged_for_its_whole_duration() {
    let mut election = election(ONE);
    // Whatever the other's clock says.
    election.observe(Some(held(OTHER, -1_000_000, 20)), at(100));
    election.observe(Some(held(OTHER, -1_000_000, 20)), at(110));
    assert!(waits(&election, at(119)));
    let spec = written(&election, at(120));
    assert_eq!(spec.holder_identity.as_deref(), Some(ONE));
    assert_eq!(spec.lease_transitions, Some(4));
    assert_eq!(spec.acquire_time, Some(MicroTime(wall(100))));

    election.observe(Some(held(OTHER, -999_998, 20)), at(119));
    assert!(waits(&election, at(138)), "it was renewed");
    assert!(!waits(&election, at(139)));
}

#[test]
fn a_holder_that_says_no_duration_has_ours() {
    for nonsense in [0, -5] {
        let mut election = election(ONE);
        election.observe(Some(held(OTHER, 0, nonsense)), at(100));
        assert!(waits(&election, at(111)));
        assert!(!waits(&election, at(112)));
    }
}

#[test]
fn a_duration_that_is_out_of_all_reason_is_not_waited_for() {
    let mut election = election(ONE);
    election.observe(Some(held(OTHER, 0, i32::MAX)), at(1));
    let longest = u64::from(LONGEST_SECONDS.unsigned_abs());
    assert!(waits(&election, at(longest)));
    assert_eq!(written(&election, at(1 + longest)).holder_identity.as_deref(), Some(ONE));
}

#[test]
fn a_lease_that_was_given_back_is_free_at_once() {
    for holder in [None, Some(String::new())] {
        let mut election = election(ONE);
        election.observe(Some(held(OTHER, 0, 12)), at(100));
        let mut lease = held(OTHER, 1, 12);
        lease.spec.as_mut().unwrap().holder_identity = holder;
        election.observe(Some(lease), at(101));
        assert_eq!(written(&election, at(101)).lease_transitions, Some(4));
    }
}

#[test]
fn who_held_a_lease_that_was_deleted_may_not_know_yet() {
    for holder in [ONE, OTHER] {
        let mut election = election(ONE);
        election.observe(Some(held(holder, 0, 20)), at(100));
        election.observe(None, at(150));
        election.observe(None, at(160));
        assert!(waits(&election, at(169)));
        assert!(matches!(election.step(at(170), wall(0)), Step::Create(_)));
    }
}

#[test]
fn a_renewal_changes_the_time_and_nothing_else() {
    let mut election = election(ONE);
    let mut lease = held(ONE, 7, 12);
    lease.metadata.resource_version = Some("9".to_owned());
    election.observe(Some(lease.clone()), at(100));
    let Step::Replace(renewed) = election.step(at(100), wall(8)) else { panic!("not renewed") };
    lease.spec.as_mut().unwrap().renew_time = Some(MicroTime(wall(8)));
    assert_eq!(renewed, lease, "of the version that was seen");
}

#[test]
fn only_ones_own_lease_is_given_back() {
    let mut election = election(ONE);
    assert!(election.release(wall(0)).is_none());
    election.observe(Some(held(OTHER, 0, 12)), at(0));
    assert!(election.release(wall(0)).is_none());
    election.observe(Some(held(ONE, 0, 12)), at(0));
    let spec = election.release(wall(5)).unwrap().spec.unwrap();
    assert_eq!(spec.holder_identity, None);
    assert_eq!(spec.lease_transitions, Some(3));
}

#[test]
fn two_never_lead_at_once_whatever_is_late_lost_or_asleep() {
    let mut led = 0;
    for seed in 0..400 {
        led += World::new(seed, true).run().check(seed);
    }
    assert!(led > 400, "they hardly led: {led} terms");
}

#[test]
fn where_nothing_fails_the_first_one_leads_on() {
    for seed in 0..20 {
        assert_eq!(World::new(seed, false).run().check(seed), 1, "seed {seed}");
    }
}
