use super::*;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn phases(table: &Table) -> Vec<(u32, Phase)> {
    table.shards().into_iter().map(|(shard, phase, _)| (shard, phase)).collect()
}

/// A node that serves these shards of four.
fn serving(shards: &[u32], now: Instant) -> Table {
    let mut table = Table::new(shards.iter().copied());
    table.on(Event::Plan(4), now);
    for &shard in shards {
        table.on(Event::Obtained(shard), now);
        table.on(Event::Loaded(shard), now);
    }
    table
}

#[test]
fn files_come_together_and_weights_one_after_the_other() {
    let now = Instant::now();
    let mut table = Table::new([0, 3]);
    assert_eq!(table.on(Event::Tick, now), [], "no plan, nothing to look for");
    assert_eq!(table.on(Event::Plan(4), now), [Action::Obtain(0), Action::Obtain(3)]);
    assert_eq!(table.on(Event::Obtained(3), now), [Action::Load(3)]);
    assert_eq!(table.on(Event::Obtained(0), now), []);
    assert_eq!(phases(&table), [(0, Phase::Obtained), (3, Phase::Loading)]);
    assert_eq!(table.on(Event::Loaded(3), now), [Action::Load(0)]);
    assert_eq!(table.on(Event::Loaded(0), now), []);
    assert_eq!(phases(&table), [(0, Phase::Serving), (3, Phase::Serving)]);
    assert_eq!(table.next_deadline(), None);
}

#[test]
fn what_failed_is_tried_again_later_each_time() {
    let now = Instant::now();
    let mut table = Table::new([1]);
    table.on(Event::Plan(4), now);
    let mut at = now;
    for wait in [1, 2, 4, 8, 16, 30, 30] {
        let problem = Problem::new("nobody has it");
        assert_eq!(table.on(Event::Failed(1, problem.clone()), at), []);
        assert_eq!(table.shards(), [(1, Phase::Waiting, Some(&problem))]);
        assert_eq!(table.next_deadline(), Some(at + seconds(wait)));
        assert_eq!(table.on(Event::Tick, at), []);
        at += seconds(wait);
        assert_eq!(table.on(Event::Tick, at), [Action::Obtain(1)]);
    }
}

#[test]
fn a_shard_beside_another() {
    let now = Instant::now();
    let mut table = serving(&[0], now);
    assert_eq!(table.want(2, false, now), Ok(vec![Action::Obtain(2)]));
    assert_eq!(table.want(2, false, now), Ok(vec![]), "it is under way");
    assert_eq!(table.want(3, false, now), Err(WantError::Busy { shard: 2 }));
    assert_eq!(table.want(4, false, now), Err(WantError::OutOfRange { shard: 4, count: 4 }));
    table.on(Event::Obtained(2), now);
    table.on(Event::Loaded(2), now);
    assert_eq!(phases(&table), [(0, Phase::Serving), (2, Phase::Serving)]);
}

#[test]
fn a_shard_instead_of_others_waits_until_they_are_gone() {
    let now = Instant::now();
    let mut table = serving(&[0, 1], now);
    assert_eq!(table.want(2, true, now), Ok(vec![Action::Obtain(2)]));
    assert_eq!(phases(&table), [(0, Phase::Serving), (1, Phase::Serving), (2, Phase::Obtaining)]);
    assert_eq!(table.on(Event::Obtained(2), now), [Action::Withdraw(0), Action::Withdraw(1)]);
    assert_eq!(phases(&table), [(2, Phase::Obtained), (0, Phase::Leaving), (1, Phase::Leaving)]);
    assert_eq!(table.on(Event::Withdrawn(1), now), []);
    assert_eq!(table.on(Event::Withdrawn(0), now), [Action::Load(2)]);
    assert_eq!(table.on(Event::Loaded(2), now), []);
    assert_eq!(phases(&table), [(2, Phase::Serving)]);
}

#[test]
fn another_plan_is_fetched_while_the_old_one_serves() {
    let now = Instant::now();
    let mut table = serving(&[0, 3], now);
    let actions = [Action::Impossible(3), Action::Withdraw(3), Action::Obtain(0)];
    assert_eq!(table.on(Event::Plan(2), now), actions);
    assert_eq!(phases(&table), [(0, Phase::Serving), (3, Phase::Leaving)]);
    table.on(Event::Withdrawn(3), now);
    assert_eq!(table.on(Event::Obtained(0), now), [Action::Withdraw(0)]);
    assert_eq!(table.on(Event::Withdrawn(0), now), [Action::Load(0)]);
    table.on(Event::Loaded(0), now);
    assert_eq!(table.shards()[0], (0, Phase::Serving, None));
}

#[test]
fn what_is_tried_again_and_again_is_replaced() {
    let now = Instant::now();
    let mut table = Table::new([1]);
    table.on(Event::Plan(4), now);
    assert_eq!(table.want(2, true, now), Err(WantError::Busy { shard: 1 }));
    table.on(Event::Failed(1, Problem::new("nobody has it")), now);
    assert_eq!(table.want(2, true, now), Ok(vec![Action::Obtain(2)]));
    assert_eq!(table.on(Event::Obtained(2), now), [Action::Load(2)]);
    table.on(Event::Loaded(2), now);
    assert_eq!(phases(&table), [(2, Phase::Serving)]);
}

#[test]
fn a_node_whose_shard_is_out_of_the_plan_is_free_for_another() {
    let now = Instant::now();
    let mut table = Table::new([9]);
    assert_eq!(table.on(Event::Plan(4), now), [Action::Impossible(9)]);
    assert_eq!(phases(&table), []);
    assert_eq!(table.want(1, true, now), Ok(vec![Action::Obtain(1)]));
}

#[test]
fn events_that_come_too_late_change_nothing() {
    let now = Instant::now();
    let mut table = serving(&[0], now);
    for event in
        [Event::Obtained(0), Event::Obtained(7), Event::Failed(0, Problem::new("late")), Event::Withdrawn(9)]
    {
        assert_eq!(table.on(event.clone(), now), [], "{event:?}");
    }
    assert_eq!(phases(&table), [(0, Phase::Serving)]);
}
