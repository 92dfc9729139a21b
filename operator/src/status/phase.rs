//! One word for it all.

use super::fleet::{Fleet, Group, ShardView};
use crate::cluster::Cluster;
use crate::crd::{Phase, Reason};

/// `old` tells whether it has ever served: what is missing then is a loss, not a beginning.
pub(super) fn phase(cluster: &Cluster, fleet: &Fleet<'_>, old: Option<Phase>) -> Phase {
    if cluster.suspended {
        return Phase::Suspended;
    }
    let full = |group: &Group<'_>| group.ready() >= group.desired;
    let (bootstrap, gateway) = (&fleet.bootstrap, &fleet.gateway);
    let served = matches!(old, Some(Phase::Running | Phase::Degraded));
    let Some(pipeline) = fleet.pipeline else {
        return if served { Phase::Degraded } else { Phase::Pending };
    };
    if pipeline.pipeline_complete {
        let all = full(bootstrap) && full(gateway) && fleet.shards.iter().all(|shard| full(&shard.group));
        return if all { Phase::Running } else { Phase::Degraded };
    }
    if served {
        return Phase::Degraded;
    }
    let known = fleet.shards.iter().all(|shard| shard.known.is_some());
    let is = |shard: &ShardView<'_>, reason: Reason| {
        shard.group.ready() == 0 && shard.waits_for().reason() == reason
    };
    if !known {
        let gets_on = bootstrap.ready() > 0 && fleet.mismatch.is_none();
        return if gets_on { Phase::Downloading } else { Phase::Pending };
    }
    if fleet.shards.iter().any(|shard| is(shard, Reason::Downloading)) {
        return Phase::Downloading;
    }
    let under_way = |shard| is(shard, Reason::Loading) || shard.group.ready() > 0;
    if fleet.shards.iter().any(under_way) { Phase::Loading } else { Phase::Pending }
}
