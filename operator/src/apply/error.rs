//! What goes wrong when something is written.

use thiserror::Error;

/// Why the cluster is not what it should be.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// A request was refused, or did not arrive.
    #[error("cannot {action} {kind} {namespace}/{name}")]
    Write {
        /// What was to be done.
        action: &'static str,
        /// Of the child.
        kind: String,
        /// Of the child.
        namespace: String,
        /// Of the child.
        name: String,
        /// Why.
        source: kube::Error,
    },
    /// Its name is taken.
    #[error(
        "{kind} {namespace}/{name} is there already and belongs to something else: remove it, or give the ShardCluster another name"
    )]
    NotOurs {
        /// Of the object.
        kind: String,
        /// Of the object.
        namespace: String,
        /// Of the object.
        name: String,
    },
    /// A child cannot be written as JSON: a fault of this program.
    #[error("cannot put {kind} into JSON")]
    Json {
        /// Of the child.
        kind: String,
        /// Why.
        source: serde_json::Error,
    },
}
