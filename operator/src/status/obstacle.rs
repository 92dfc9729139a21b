//! What keeps the pods of a part from being made or from starting, in words.

use crate::crd::Reason;
use crate::observe::obstacles::{Kind, Missing};
use crate::pods::Problem;

/// The API server does not let them be created.
pub(super) fn refused(part: &str, why: &str) -> Problem {
    Problem { reason: Reason::FailedCreate, message: format!("{part} pods cannot be created: {why}") }
}

/// What no pod says: the kubelet waits for what is not there yet.
pub(super) fn missing(it: &Missing) -> Problem {
    let Missing { field, kind, name, .. } = it;
    let message = match &it.entry {
        None => format!("{field} names {kind} {name}, which does not exist: create it, or remove the field"),
        Some(entry) if it.exists => {
            format!(
                "{field} names entry {entry} of {kind} {name}, which has none of this name: add it, or name another one"
            )
        }
        Some(entry) => {
            format!(
                "{field} names {kind} {name}, which does not exist: create it with an entry {entry}, or remove the field"
            )
        }
    };
    let reason = match kind {
        Kind::Secret => Reason::SecretMissing,
        Kind::ConfigMap => Reason::ConfigMapMissing,
    };
    Problem { reason, message }
}
