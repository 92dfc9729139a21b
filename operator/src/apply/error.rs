//! What goes wrong when something is written.

use kube::Resource;
use thiserror::Error;

use crate::error_class::ErrorClass;

/// What is written, beside other objects of its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    /// As `kind` in its manifest.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl Object {
    /// Whether it is this one.
    pub(super) fn is<K: Resource<DynamicType = ()>>(&self, name: &str) -> bool {
        self.kind == K::kind(&()) && self.name == name
    }

    /// That it is not asked for yet.
    pub(super) fn rests(&self, namespace: &str) -> ApplyError {
        let Self { kind, name } = self.clone();
        ApplyError::Resting { kind, namespace: namespace.to_owned(), name }
    }
}

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
    /// It is about to go, and nobody else's: it is made again when it is gone.
    #[error("{kind} {namespace}/{name} is being deleted, and is made again when it is gone")]
    Leaving {
        /// Of the object.
        kind: String,
        /// Of the object.
        namespace: String,
        /// Of the object.
        name: String,
    },
    /// It was refused a short while ago, and is not asked for again yet.
    #[error("{kind} {namespace}/{name} was refused a short while ago")]
    Resting {
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

impl ApplyError {
    /// What could not be written.
    #[must_use]
    pub fn object(&self) -> Option<Object> {
        match self {
            Self::Write { kind, name, .. }
            | Self::NotOurs { kind, name, .. }
            | Self::Leaving { kind, name, .. }
            | Self::Resting { kind, name, .. } => Some(Object { kind: kind.clone(), name: name.clone() }),
            Self::Json { .. } => None,
        }
    }

    /// What it is about.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotOurs { .. } | Self::Leaving { .. } | Self::Resting { .. } => ErrorClass::Refused,
            Self::Write { source, .. } => ErrorClass::of_request(source),
            Self::Json { .. } => ErrorClass::Internal,
        }
    }

    /// Whether the API server, a quota or a policy does not want it: users have to know, and the rest can be written.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.class() == ErrorClass::Refused
    }
}
