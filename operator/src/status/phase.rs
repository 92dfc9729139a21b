//! One word for it all.

use super::fleet::{Fleet, Group};
use crate::cluster::Cluster;
use crate::crd::Phase;

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
    let is = |shard: &super::fleet::ShardView<'_>, word: &str| {
        shard.group.ready() == 0 && shard.waits_for().0 == word
    };
    if !known {
        return if bootstrap.ready() > 0 { Phase::Downloading } else { Phase::Pending };
    }
    if fleet.shards.iter().any(|shard| is(shard, "Downloading")) {
        return Phase::Downloading;
    }
    let under_way = |shard| is(shard, "Loading") || shard.group.ready() > 0;
    if fleet.shards.iter().any(under_way) { Phase::Loading } else { Phase::Pending }
}
