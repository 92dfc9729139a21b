//! What a status is to say of a state: the design's words, and none of the operator's code.

use std::collections::BTreeMap;

use shard_operator::crd::{ShardClusterStatus, condition};

use super::state::{Pod, Replica, State};

/// Status and reason of each condition.
pub(crate) type Said = BTreeMap<String, (String, String)>;

pub(crate) fn said(status: &ShardClusterStatus) -> Said {
    let one = |it: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        (it.type_.clone(), (it.status.clone(), it.reason.clone()))
    };
    status.conditions.iter().map(one).collect()
}

pub(crate) fn expected(state: &State) -> Said {
    let (bootstrap, gateway, pipeline) = (entry(state.bootstrap), entry(state.gateway), pipeline(state));
    let ready = match (gateway.0, pipeline.0) {
        ("True", "True") => ("True", "Ready"),
        ("True", _) => pipeline,
        _ => gateway,
    };
    let all = [
        (condition::BOOTSTRAP_READY, bootstrap),
        (condition::MODEL_AVAILABLE, model(state)),
        (condition::SHARDS_READY, shards(state)),
        (condition::GATEWAY_READY, gateway),
        (condition::PIPELINE_COMPLETE, pipeline),
        // One replica of each.
        (condition::RESILIENT, ("False", "SingleReplica")),
        (condition::READY, ready),
    ];
    all.map(|(name, (status, reason))| (name.to_owned(), (status.to_owned(), reason.to_owned()))).into()
}

type Finding = (&'static str, &'static str);

fn entry(pod: Pod) -> Finding {
    match pod {
        Pod::None => ("False", "NoPods"),
        Pod::Starting | Pod::NoImage | Pod::Going => ("False", "Starting"),
        Pod::Ready => ("True", "PodsReady"),
    }
}

fn model(state: &State) -> Finding {
    match state {
        State { known: true, .. } => ("True", "ManifestKnown"),
        _ if !state.can_be_asked() => ("Unknown", "GatewayUnreachable"),
        State { bootstrap: Pod::Ready, .. } => ("False", "Downloading"),
        _ => ("False", "BootstrapNotReady"),
    }
}

fn shards(state: &State) -> Finding {
    let waits = || state.pods.iter().zip(state.replicas).filter(|(pod, _)| **pod != Pod::Ready);
    let problem = waits().find(|(pod, _)| **pod == Pod::NoImage);
    let reason = match problem.or_else(|| waits().next()) {
        None => return ("True", "ShardsReady"),
        Some((Pod::NoImage, _)) => "ImagePull",
        Some(_) if !state.known => "ManifestUnknown",
        Some((Pod::None, _)) => "NoPods",
        Some((_, Replica::Downloading)) if state.can_be_asked() => "Downloading",
        Some(_) => "Starting",
    };
    ("False", reason)
}

fn pipeline(state: &State) -> Finding {
    let loaded = state.replicas.iter().all(|replica| *replica == Replica::Loaded);
    match state {
        _ if !state.can_be_asked() => ("Unknown", "GatewayUnreachable"),
        State { proved: true, .. } => ("True", "Complete"),
        State { manifest: true, .. } if !loaded => ("False", "ShardsMissing"),
        _ => ("False", "NotProven"),
    }
}
