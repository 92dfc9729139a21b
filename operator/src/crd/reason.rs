//! Every reason that a condition may have.

use std::fmt;

use schemars::{JsonSchema, schema_for};
use serde::de::value::{Error, StrDeserializer};
use serde::{Deserialize, Serialize};

/// Why a condition is as it is, in one word: the name of the variant. What is said of it here, `kubectl explain` says.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// a pod is ready, which is enough
    PodsReady,
    /// the origin has the model, and the manifest is known
    ManifestKnown,
    /// every shard has a ready pod
    ShardsReady,
    /// a token went through every shard
    Complete,
    /// every shard has ready pods on more than one node
    ReplicasApart,
    /// the API answers
    Ready,
    /// the spec asks for no pods
    NoReplicas,
    /// spec.suspend, or no replicas
    Suspended,
    /// a shard has one ready pod or none
    SingleReplica,
    /// all ready pods of a shard run on one node
    ReplicasShareNode,
    /// no bootstrap is ready to fetch the model
    BootstrapNotReady,
    /// no gateway is ready, or none answers the operator: nothing is known
    GatewayUnreachable,
    /// pods wait until the model is known well enough to say how much memory they need
    ManifestUnknown,
    /// the pods are still to be made
    NoPods,
    /// the pods start
    Starting,
    /// a part of the model is on its way, or all of it to the origin
    Downloading,
    /// a shard loads its weights
    Loading,
    /// layers are served by no shard
    ShardsMissing,
    /// all shards are there, and no token has gone through them yet
    NotProven,
    /// pods move to another image or another plan
    Rolling,
    /// the API server does not let pods be created: a quota, an admission rule, an account that is not there
    FailedCreate,
    /// a Secret that the spec names is not there, or lacks the entry
    SecretMissing,
    /// a ConfigMap that the spec names is not there, or lacks the entry
    ConfigMapMissing,
    /// the origin cannot get the model
    OriginFailed,
    /// the origin has another model than the spec describes
    ModelMismatch,
    /// a pod fits no node
    Unschedulable,
    /// a pod cannot get its image
    ImagePull,
    /// a container cannot be started
    ContainerNotStarted,
    /// a container crashes again and again
    CrashLoop,
    /// a container needs more memory than its limit
    OutOfMemory,
    /// a pod has failed
    PodFailed,
    /// a pod, or its volume, is on a node that is gone or cannot be reached
    NodeLost,
    /// a claim cannot grow to storage.size
    VolumeNotResized,
    /// a StatefulSet has to be deleted by hand, because it selects other pods
    ImmutableSelector,
    /// the API server refuses a write
    ApplyFailed,
    /// somebody else writes over what the operator writes, again and again
    Contested,
    /// the operator lacks a right, and does not see all
    Forbidden,
    /// the spec makes no sense
    InvalidSpec,
}

/// What a reason is to somebody who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// All is well.
    Good,
    /// As the spec wants it, or behind another condition.
    Given,
    /// Time heals it; while pods are replaced, that is why.
    Passing,
    /// Somebody has to look.
    Problem,
}

impl Reason {
    /// What it is to somebody who waits.
    #[must_use]
    pub fn class(self) -> Class {
        match self {
            Self::PodsReady
            | Self::ManifestKnown
            | Self::ShardsReady
            | Self::Complete
            | Self::ReplicasApart
            | Self::Ready => Class::Good,
            Self::NoReplicas
            | Self::Suspended
            | Self::SingleReplica
            | Self::ReplicasShareNode
            | Self::BootstrapNotReady
            | Self::GatewayUnreachable => Class::Given,
            Self::ManifestUnknown
            | Self::NoPods
            | Self::Starting
            | Self::Downloading
            | Self::Loading
            | Self::ShardsMissing
            | Self::NotProven
            | Self::Rolling => Class::Passing,
            Self::FailedCreate
            | Self::SecretMissing
            | Self::ConfigMapMissing
            | Self::OriginFailed
            | Self::ModelMismatch
            | Self::Unschedulable
            | Self::ImagePull
            | Self::ContainerNotStarted
            | Self::CrashLoop
            | Self::OutOfMemory
            | Self::PodFailed
            | Self::NodeLost
            | Self::VolumeNotResized
            | Self::ImmutableSelector
            | Self::ApplyFailed
            | Self::Contested
            | Self::Forbidden
            | Self::InvalidSpec => Class::Problem,
        }
    }

    /// The reason with this name; `None` of what another release has written.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::deserialize(StrDeserializer::<Error>::new(name)).ok()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// All of them, a line each, with what they mean: for `kubectl explain`.
pub(super) fn description() -> String {
    let schema = schema_for!(Reason).to_value();
    let one = |reason: &serde_json::Value| {
        Some(format!("{}: {}", reason["const"].as_str()?, reason["description"].as_str()?))
    };
    let all: Vec<String> = schema["oneOf"].as_array().into_iter().flatten().filter_map(one).collect();
    format!("Why, in one word.\n\n{}", all.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_found_by_its_name() {
        for reason in [Reason::Complete, Reason::ShardsMissing, Reason::InvalidSpec] {
            assert_eq!(Reason::named(&reason.to_string()), Some(reason));
        }
        assert_eq!(Reason::named("FromTheFuture"), None);
        let all = description();
        assert!(
            all.contains("\nShardsMissing: layers are served by no shard\nNotProven: all shards"),
            "{all}"
        );
        assert!(all.ends_with("\nInvalidSpec: the spec makes no sense"), "{all}");
    }
}
