//! Two `operator run` and one API server: who leads, when the other takes over, and that nobody else writes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod operators;

use std::time::{Duration, Instant};

use operators::Operators;
use shard_e2e::until;

/// A lease that is given back is taken in about a second, on a busy machine, too.
const SOON: Duration = Duration::from_secs(4);
/// The lease's duration, a look, and a busy machine.
const LATE: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_is_handed_over_by_sigterm_and_found_after_sigkill() {
    let Some(mut operators) = Operators::begin("handover").await else { return };
    let mut one = operators.start("one").await;
    one.until_ready("leads").await;
    operators.apply(1).await;
    operators.until_shards(1).await;
    let two = operators.start("two").await;
    two.until_ready("waits: one_").await;
    let waits = two.until_says("waits: another leads").await;
    assert!(waits["fields"]["leader"].as_str().unwrap().starts_with("one_"), "{waits}");
    assert_eq!((one.metric("is_leader").await, two.metric("is_leader").await), (1.0, 0.0));

    let told = Instant::now();
    one.signal("-TERM");
    operators.until_leads("two", 2).await;
    assert!(told.elapsed() < SOON, "{:?}", told.elapsed());
    assert_eq!(one.ended().await, Some(0));
    operators.apply(2).await;
    operators.until_shards(2).await;

    let three = operators.start("three").await;
    three.until_ready("waits: two_").await;
    let killed = Instant::now();
    two.signal("-KILL");
    operators.apply(1).await;
    operators.until_leads("three", 3).await;
    assert!(killed.elapsed() < LATE, "{:?}", killed.elapsed());
    operators.until_shards(1).await;
    three.until_ready("leads").await;
    operators.record.check();
    assert!(["one", "two", "three"].iter().all(|name| operators.record.writes_of(name) > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_writes_nothing_when_another_leads() {
    let Some(mut operators) = Operators::begin("cut").await else { return };
    let one = operators.start("one").await;
    one.until_ready("leads").await;
    operators.apply(1).await;
    operators.until_shards(1).await;
    let two = operators.start("two").await;
    two.until_ready("waits: one_").await;

    // Writes of the first are on their way from now on.
    operators.cut("one");
    one.until_says("the lease was not renewed").await;
    operators.apply(3).await;
    one.until_says("leads no more").await;
    assert_eq!(operators.record.leaders().len(), 1, "it stops before another may lead");
    operators.until_leads("two", 2).await;
    operators.until_shards(3).await;
    until("the first tells that it is cut off", || async {
        let (code, said) = one.get("/readyz").await;
        (code == 503 && said.contains("not reached")).then_some(())
    })
    .await;
    assert_eq!(one.get("/healthz").await.0, 200, "it only waits");

    operators.heal("one");
    one.until_ready("waits: two_").await;
    let writes = operators.record.writes_of("one");
    operators.apply(2).await;
    operators.until_shards(2).await;
    assert_eq!(operators.record.writes_of("one"), writes);
    two.signal("-TERM");
    operators.until_leads("one", 3).await;
    operators.apply(1).await;
    operators.until_shards(1).await;
    operators.record.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_asleep_in_the_middle_of_its_writes_sends_no_more_of_them() {
    let Some(mut operators) = Operators::begin("asleep").await else { return };
    let one = operators.start("one").await;
    one.until_ready("leads").await;
    let two = operators.start("two").await;
    two.until_ready("waits: one_").await;
    for id in 0..8 {
        operators.apply_named(&format!("busy-{id}"), 3).await;
    }
    operators.apply(3).await;
    until("the first is in the middle of its writes", || async {
        (operators.record.writes_of("one") > 40).then_some(())
    })
    .await;
    one.signal("-STOP");
    operators.until_leads("two", 2).await;
    operators.until_shards(3).await;
    let writes = operators.record.writes_of("one");
    one.signal("-CONT");
    one.until_says("leads no more").await;
    one.until_ready("waits: two_").await;
    assert_eq!(operators.record.writes_of("one"), writes);
    operators.record.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_log_lines_tell_what_was_done() {
    let Some(mut operators) = Operators::begin("metrics").await else { return };
    let one = operators.start("one").await;
    one.until_ready("leads").await;
    assert_eq!(one.metric(r#"shardclusters{phase="Pending"}"#).await, 0.0);
    operators.occupy("tiny-gateway").await;
    operators.apply(1).await;
    let failed = one.until_says("reconcile failed").await;
    assert!(one.metric(r#"reconcile_errors_total{class="Refused"}"#).await >= 1.0);
    assert!(one.metric(r#"reconciles_total{result="Error"}"#).await >= 1.0);

    let span = &failed["span"];
    assert_eq!(
        (span["name"].as_str(), span["cluster"].as_str()),
        (Some("reconcile"), Some("tiny")),
        "{failed}"
    );
    assert_eq!(span["trace_id"].as_str().unwrap().len(), 32, "{failed}");

    operators.vacate("tiny-gateway").await;
    operators.until_shards(1).await;
    one.until_says("applied").await;
    until("as many writes are counted as were sent", || async {
        let (_, text) = one.get("/metrics").await;
        let counts = text.lines().filter(|line| line.starts_with("shardcluster_operator_writes_total"));
        let sum: f64 = counts.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
        let sent = operators.record.writes_of("one");
        (sent > 0 && sum == sent as f64).then_some(())
    })
    .await;
    let well = || one.metric(r#"reconciles_total{result="Success"}"#);
    until("a reconcile ended well", || async { (well().await >= 1.0).then_some(()) }).await;
    let all = well().await + one.metric(r#"reconciles_total{result="Error"}"#).await;
    assert!(one.metric("reconcile_duration_seconds_count").await >= all);
    let mut clusters = 0.0;
    for phase in ["Pending", "Downloading", "Loading", "Running", "Degraded", "Suspended", "Failed"] {
        clusters += one.metric(&format!("shardclusters{{phase={phase:?}}}")).await;
    }
    assert_eq!(clusters, 1.0);
    assert_eq!(one.metric("is_leader").await, 1.0);
}
