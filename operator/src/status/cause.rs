//! What shards wait for, told once of all for which it is the same.

use std::fmt;

use crate::crd::Reason;
use crate::named;
use crate::pods::Problem;

/// Bytes of an origin's words: with what is said around them, they are less than what a condition tells of one cause.
const MAX_ORIGIN: usize = 240;

/// A problem, and the first pod that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) pod: String,
    pub(super) problem: Problem,
}

/// `pod NAME fits no node`.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pod {} {}", self.pod, self.problem.message)
    }
}

/// From the least to the most of several shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    low: u32,
    high: u32,
}

impl Span {
    fn widen(&mut self, other: Self) {
        *self = Self { low: self.low.min(other.low), high: self.high.max(other.high) };
    }
}

impl From<u32> for Span {
    fn from(one: u32) -> Self {
        Self { low: one, high: one }
    }
}

/// `40`, or `20-60`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(f, "{}", self.low)
        } else {
            write!(f, "{}-{}", self.low, self.high)
        }
    }
}

/// What a shard waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Trouble(Trouble),
    ManifestUnknown,
    /// The same, and why.
    OriginFailed(String),
    /// The same, and how the model differs.
    Mismatch(String),
    NoReplicas,
    NoPods,
    /// The same, and why.
    Refused(String),
    /// What makes them is not as it should be, and why.
    Unwritten(String),
    Downloading {
        percent: Span,
        peers: Span,
    },
    Loading,
    Starting,
    /// Its pods are ready, and a gateway has yet to find them.
    Unseen,
    /// Its pods are ready for the next plan, which others are not.
    Ahead,
}

impl Cause {
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Trouble(trouble) => trouble.problem.reason,
            Self::ManifestUnknown => Reason::ManifestUnknown,
            Self::NoReplicas => Reason::NoReplicas,
            Self::NoPods | Self::Unwritten(_) => Reason::NoPods,
            Self::OriginFailed(_) => Reason::OriginFailed,
            Self::Mismatch(_) => Reason::ModelMismatch,
            Self::Refused(_) => Reason::FailedCreate,
            Self::Downloading { .. } => Reason::Downloading,
            Self::Loading => Reason::Loading,
            Self::Starting | Self::Unseen => Reason::Starting,
            Self::Ahead => Reason::Rolling,
        }
    }

    /// Takes in what another shard waits for; not where that is something else.
    pub(super) fn join(&mut self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Downloading { percent, peers },
                Self::Downloading { percent: other_percent, peers: other_peers },
            ) => {
                percent.widen(*other_percent);
                peers.widen(*other_peers);
                true
            }
            (Self::Trouble(one), Self::Trouble(other)) => one.problem == other.problem,
            (one, other) => one == other,
        }
    }

    /// Of these shards.
    pub(super) fn words(&self, ids: &[u32]) -> String {
        let who = named::shards(ids);
        let is_one = ids.len() == 1;
        let [is, has, waits, it, its] = if is_one {
            ["is", "has", "waits", "it needs", "its"]
        } else {
            ["are", "have", "wait", "they need", "their"]
        };
        match self {
            Self::Trouble(trouble) if is_one => format!("{who} has a problem: {trouble}"),
            Self::Trouble(trouble) => format!("{who} each have a pod that {}", trouble.problem.message),
            Self::ManifestUnknown => {
                format!("{who} {waits} for the manifest, which says how much memory {it}")
            }
            Self::OriginFailed(why) => {
                format!("{who} {waits} for the manifest, and {}", origin_failed(why))
            }
            Self::Mismatch(why) => format!("{who} {waits} for another model, or another spec: {why}"),
            Self::NoReplicas => format!("{who} {is} to have no pods"),
            Self::NoPods => format!("{who} {has} no pods yet"),
            Self::Refused(why) => format!("{who} {has} no pods, because they cannot be created: {why}"),
            Self::Unwritten(why) => format!("{who} {has} no pods: {why}"),
            Self::Downloading { percent, peers } => {
                let noun = if peers.high == 1 { "peer" } else { "peers" };
                format!("{who} {is} downloading, {percent} %, from {peers} {noun}")
            }
            Self::Loading => format!("{who} {is} loading {its} weights"),
            Self::Starting => format!("{who} {is} starting"),
            Self::Unseen => format!("{who} {is} ready, but the gateway has not found {its} pods yet"),
            Self::Ahead => format!("{who} {is} ready for the new plan, and {waits} for its other shards"),
        }
    }
}

/// `why` is the origin's own words.
pub(super) fn origin_failed(why: &str) -> String {
    let mut why = why.to_owned();
    named::shorten(&mut why, MAX_ORIGIN);
    format!("the origin cannot get the model: {why}; it tries again")
}

/// Shards of which the same is to be said, in the order of the first of each.
pub(super) fn grouped<C>(
    all: impl IntoIterator<Item = (u32, C)>,
    join: impl Fn(&mut C, &C) -> bool,
) -> Vec<(Vec<u32>, C)> {
    let mut groups: Vec<(Vec<u32>, C)> = Vec::new();
    for (id, cause) in all {
        match groups.iter_mut().find_map(|(ids, group)| join(group, &cause).then_some(ids)) {
            Some(ids) => ids.push(id),
            None => groups.push((vec![id], cause)),
        }
    }
    groups
}
