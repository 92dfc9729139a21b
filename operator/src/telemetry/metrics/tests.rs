use super::*;

fn cluster(name: &str) -> ClusterRef {
    ClusterRef::new(name).within("ns")
}

fn has(metrics: &Metrics, line: &str) {
    let text = metrics.text().unwrap();
    let line = format!("shardcluster_operator_{line}");
    assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
}

#[test]
fn reconciles_and_errors_are_counted_and_begin_at_zero() {
    let metrics = Metrics::default();
    has(&metrics, r#"reconciles_total{result="Error"} 0"#);
    has(&metrics, r#"reconcile_errors_total{class="Refused"} 0"#);
    metrics.reconciled(true, Duration::from_millis(3));
    metrics.reconciled(false, Duration::from_secs(300));
    metrics.failed(ErrorClass::Refused);
    has(&metrics, r#"reconciles_total{result="Success"} 1"#);
    has(&metrics, r#"reconciles_total{result="Error"} 1"#);
    has(&metrics, r#"reconcile_errors_total{class="Refused"} 1"#);
    has(&metrics, r#"reconcile_duration_seconds_bucket{le="0.002"} 0"#);
    has(&metrics, r#"reconcile_duration_seconds_bucket{le="0.004"} 1"#);
    has(&metrics, r#"reconcile_duration_seconds_bucket{le="65.536"} 1"#);
    has(&metrics, "reconcile_duration_seconds_count 2");
    has(&metrics, &format!(r#"build_info{{version="{}"}} 1"#, env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_cluster_has_one_phase_until_it_is_gone() {
    let metrics = Metrics::default();
    metrics.phase(cluster("a"), Some(Phase::Pending));
    metrics.phase(cluster("b"), Some(Phase::Pending));
    metrics.phase(cluster("b"), Some(Phase::Pending));
    has(&metrics, r#"shardclusters{phase="Pending"} 2"#);
    metrics.phase(cluster("a"), Some(Phase::Running));
    has(&metrics, r#"shardclusters{phase="Pending"} 1"#);
    has(&metrics, r#"shardclusters{phase="Running"} 1"#);
    metrics.forget(&cluster("a"));
    metrics.forget(&cluster("a"));
    has(&metrics, r#"shardclusters{phase="Running"} 0"#);
}

#[test]
fn the_queue_has_each_cluster_once() {
    let metrics = Metrics::default();
    for name in ["a", "b", "a", "gone"] {
        metrics.queued(cluster(name));
    }
    has(&metrics, "queue_depth 3");
    metrics.started(&cluster("a"));
    metrics.forget(&cluster("gone"));
    has(&metrics, "queue_depth 1");
}

#[test]
fn one_that_waits_knows_of_no_cluster() {
    let metrics = Metrics::default();
    metrics.leads(true);
    metrics.phase(cluster("a"), Some(Phase::Running));
    metrics.queued(cluster("a"));
    metrics.leads(true);
    has(&metrics, "is_leader 1");
    has(&metrics, r#"shardclusters{phase="Running"} 1"#);
    metrics.leads(false);
    has(&metrics, "is_leader 0");
    has(&metrics, r#"shardclusters{phase="Running"} 0"#);
    has(&metrics, "queue_depth 0");
}

#[test]
fn writes_are_counted_by_their_answer() {
    let metrics = Metrics::default();
    metrics.wrote(&Method::PATCH, Some(StatusCode::OK));
    metrics.wrote(&Method::PATCH, Some(StatusCode::CONFLICT));
    metrics.wrote(&Method::PATCH, Some(StatusCode::OK));
    metrics.wrote(&Method::DELETE, None);
    has(&metrics, r#"writes_total{method="PATCH",code="200"} 2"#);
    has(&metrics, r#"writes_total{method="PATCH",code="409"} 1"#);
    has(&metrics, r#"writes_total{method="DELETE",code="none"} 1"#);
}
