//! What keeps pods from being made or from starting, where no pod says so.
//!
//! ```text
//!  a StatefulSet has fewer pods than it should ─▶ refused   what its controller was told, which only Events say
//!  a Deployment has, and says why              ─▶ refused   its own condition
//!  a pod is not ready, and its spec names what ─▶ missing   that Secret or ConfigMap, by name
//!  is a user's to make
//! ```
//! No watch tells of Events, Secrets and ConfigMaps: while they explain something they are looked at every few seconds.
//! In a fleet that runs nothing is asked for.

mod missing;
mod refused;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Client, Resource, ResourceExt};
use tracing::warn;

use super::{Children, ObserveError};
use crate::crd::ShardCluster;
use crate::desired::meta::Part;
pub use missing::Kind;

/// What explains something may have changed after this time.
const AGAIN: Duration = Duration::from_secs(10);

/// What stands in the way of pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Obstacles {
    /// Why the API server does not let pods be created, by the names of the workloads that need them.
    pub(crate) refused: BTreeMap<String, String>,
    /// What the spec names, and pods wait for.
    pub(crate) missing: Vec<Missing>,
    /// There are fewer pods than there should be, or something is missing.
    pub(crate) is_open: bool,
}

/// A Secret or ConfigMap that the spec names, or an entry of one, that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Whose pods wait.
    pub(crate) part: Part,
    /// The field that names it.
    pub(crate) field: &'static str,
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// What has to be in it, where only one entry is named.
    pub(crate) entry: Option<String>,
    /// It is there, without the entry.
    pub(crate) exists: bool,
}

impl Obstacles {
    /// Time until another look may show something else.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        self.is_open.then_some(AGAIN)
    }
}

pub(super) async fn obstacles(
    client: &Client,
    resource: &ShardCluster,
    children: &Children,
    pods: &[Pod],
) -> Result<Obstacles, ObserveError> {
    let namespace = resource.namespace().unwrap_or_default();
    let lacking = refused::lacking(&children.stateful_sets, pods);
    let references = missing::references(&resource.spec, pods);
    let (mut refused, missing) = futures::try_join!(
        refused::of_stateful_sets(client, &namespace, &lacking),
        missing::missing(client, &namespace, references),
    )?;
    refused.extend(refused::of_deployments(&children.deployments));
    let is_open = !lacking.is_empty() || !missing.is_empty();
    Ok(Obstacles { refused, missing, is_open })
}

/// `None` where it may not be read, by an operator whose rights are older than it: then it explains nothing.
fn readable<K: Resource<DynamicType = ()>, T>(
    answer: Result<T, kube::Error>,
) -> Result<Option<T>, kube::Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if status.is_forbidden() => {
            let kind = K::kind(&());
            warn!(%kind, why = status.message, "may not be read, so it is not known whether pods wait for it");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
