//! One child.

use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde_json::Value;

use super::{ApplyError, Writer, compare};
use crate::desired::meta::MANAGER;
use crate::observe::is_owned;
use crate::watch::Shelved;

impl Writer<'_> {
    /// Where an object is written, unless it rests.
    pub(super) fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(
        &self,
        name: &str,
    ) -> Result<Api<K>, ApplyError> {
        match self.resting.filter(|resting| resting.is::<K>(name)) {
            Some(resting) => Err(resting.rests(self.namespace)),
            None => Ok(Api::namespaced(self.client.clone(), self.namespace)),
        }
    }

    /// Says what failed, of which object.
    pub(super) fn failed<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(
        &self,
        action: &'static str,
        name: &str,
    ) -> impl Fn(kube::Error) -> ApplyError + use<K> {
        let (kind, namespace, name) = (K::kind(&()).into_owned(), self.namespace.to_owned(), name.to_owned());
        move |source| ApplyError::Write {
            action,
            kind: kind.clone(),
            namespace: namespace.clone(),
            name: name.clone(),
            source,
        }
    }

    pub(super) fn keep<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&mut self, name: &str) {
        self.kept.insert((K::kind(&()).into_owned(), name.to_owned()));
    }

    /// Applies a child, unless it is as it should be, or on its way out: then its end is the sign to make it again.
    pub(super) async fn child<K: Shelved>(&mut self, desired: &K, live: &[K]) -> Result<(), ApplyError> {
        let name = desired.name_any();
        self.keep::<K>(&name);
        let wanted = compare::stamped(json(desired)?);
        let found = live.iter().find(|child| child.name_any() == name);
        match found {
            Some(child) if child.meta().deletion_timestamp.is_some() => return Ok(()),
            Some(child) if compare::holds(&wanted, &json(child)?) => return Ok(()),
            Some(_) => {}
            None => self.refuse_others::<K>(&name).await?,
        }
        let api = self.api::<K>(&name)?;
        match self.server_side(&api, &name, &wanted).await {
            // An entry of somebody else's does not go with ours: another port of the same name, say. Applying leaves it
            // there, so the lists that we name are written over first, and applied then to be known as ours.
            Err(kube::Error::Api(status)) if status.is_invalid() && found.is_some() => {
                let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
                let replaced = api.patch(&name, &params, &Patch::Merge(&wanted)).await;
                replaced.map_err(self.failed::<K>("replace", &name))?;
                self.applied.writes += 1;
                self.server_side(&api, &name, &wanted).await
            }
            written => written,
        }
        .map_err(self.failed::<K>("apply", &name))
    }

    async fn server_side<K: Shelved>(
        &mut self,
        api: &Api<K>,
        name: &str,
        wanted: &Value,
    ) -> Result<(), kube::Error> {
        let params = PatchParams::apply(MANAGER).force();
        let written = api.patch(name, &params, &Patch::Apply(wanted)).await?;
        K::shelf(self.shelves).put(written);
        self.applied.writes += 1;
        Ok(())
    }

    /// An object of this name that has none of our labels may be ours without them, or somebody else's.
    async fn refuse_others<K: Shelved>(&self, name: &str) -> Result<(), ApplyError> {
        let there =
            self.api::<K>(name)?.get_metadata_opt(name).await.map_err(self.failed::<K>("look for", name))?;
        if there.is_none_or(|object| is_owned(&object, self.owner)) {
            return Ok(());
        }
        Err(ApplyError::NotOurs {
            kind: K::kind(&()).into_owned(),
            namespace: self.namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

fn json<K: Shelved>(child: &K) -> Result<Value, ApplyError> {
    serde_json::to_value(child).map_err(|source| ApplyError::Json { kind: K::kind(&()).into_owned(), source })
}
