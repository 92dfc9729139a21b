//! What lost nodes hold on to goes: each claim before its pod, so that the next pod does not take it over.

use std::collections::HashMap;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use kube::api::{Api, DeleteParams, Preconditions};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tracing::info;

use super::{ApplyError, Object};
use crate::loss::{Eviction, Target};
use crate::nodes::{NodeView, Standing};

/// What has gone.
#[derive(Debug, Default)]
pub struct Evicted {
    /// With what went along.
    pub pods: Vec<Eviction>,
    /// What is refused, or rests; the others went.
    pub refused: Vec<ApplyError>,
    /// Why no more did.
    pub failure: Option<ApplyError>,
}

/// Deletes pods by force, and claims that go with them. Each is deleted as the one that was seen, or left; and only while
/// its node is as it was seen. `resting` was refused a short while ago: what it is a part of waits.
pub async fn evict(client: &Client, namespace: &str, evictions: &[Eviction], resting: &[Object]) -> Evicted {
    let mut evicted = Evicted::default();
    let mut evictor = Evictor { client, namespace, resting, nodes: HashMap::new() };
    for eviction in evictions {
        match evictor.evict(eviction).await {
            Ok(true) => evicted.pods.push(eviction.clone()),
            Ok(false) => {}
            Err(error) if error.is_refusal() => evicted.refused.push(error),
            Err(error) => {
                evicted.failure = Some(error);
                break;
            }
        }
    }
    evicted
}

struct Evictor<'a> {
    client: &'a Client,
    namespace: &'a str,
    /// What is not asked for.
    resting: &'a [Object],
    /// Nodes that were asked for: `None` are no more.
    nodes: HashMap<&'a str, Option<NodeView>>,
}

impl<'a> Evictor<'a> {
    /// Whether there was something to delete.
    async fn evict(&mut self, eviction: &'a Eviction) -> Result<bool, ApplyError> {
        let Eviction { pod, claims, node, standing } = eviction;
        let is_part = |resting: &&Object| {
            let is_claim = |claim: &Target| resting.is::<PersistentVolumeClaim>(&claim.name);
            resting.is::<Pod>(&pod.name) || claims.iter().any(is_claim)
        };
        if let Some(resting) = self.resting.iter().find(is_part) {
            return Err(resting.rests(self.namespace));
        }
        if !self.is_still(node, *standing, &pod.name).await? {
            return Ok(false);
        }
        let mut gone = false;
        for claim in claims {
            gone |= self.delete::<PersistentVolumeClaim>("delete", claim, DeleteParams::default()).await?;
        }
        let by_force = DeleteParams::default().grace_period(0);
        gone |= self.delete::<Pod>("delete by force", pod, by_force).await?;
        if gone {
            info!(namespace = self.namespace, pod = pod.name, node, "deleted: its node is lost");
        }
        Ok(gone)
    }

    /// A watch may be behind: a node that has come back, or a new one, is not known yet.
    async fn is_still(&mut self, node: &'a str, seen: Standing, pod: &str) -> Result<bool, ApplyError> {
        if !self.nodes.contains_key(node) {
            let there = Api::<Node>::all(self.client.clone()).get_opt(node).await;
            let there = there.map_err(|source| self.failed::<Pod>("ask for the node of", pod, source))?;
            self.nodes.insert(node, there.as_ref().map(NodeView::from));
        }
        let now = self.nodes.get(node).and_then(Option::as_ref);
        Ok(match (seen, now) {
            (Standing::Gone, None) => true,
            (Standing::Unreachable { since }, Some(now)) => now.unreachable_since == Some(since),
            _ => false,
        })
    }

    /// Whether it was there.
    async fn delete<K>(
        &self,
        action: &'static str,
        target: &Target,
        params: DeleteParams,
    ) -> Result<bool, ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let same = Preconditions { uid: Some(target.uid.clone()), resource_version: None };
        let api = Api::<K>::namespaced(self.client.clone(), self.namespace);
        match api.delete(&target.name, &params.preconditions(same)).await {
            Ok(_) => Ok(true),
            // Gone, or another one of this name.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(false),
            Err(source) => Err(self.failed::<K>(action, &target.name, source)),
        }
    }

    fn failed<K: Resource<DynamicType = ()>>(
        &self,
        action: &'static str,
        name: &str,
        source: kube::Error,
    ) -> ApplyError {
        ApplyError::Write {
            action,
            kind: K::kind(&()).into_owned(),
            namespace: self.namespace.to_owned(),
            name: name.to_owned(),
            source,
        }
    }
}
