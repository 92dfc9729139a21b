//! One child.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ApplyError, Object, Repair, Writer, compare};
use crate::desired::meta::MANAGER;
use crate::observe::{Ownership, ownership};
use crate::watch::Shelved;

impl Writer<'_> {
    /// Where an object is written, unless it rests.
    pub(super) fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(
        &self,
        name: &str,
    ) -> Result<Api<K>, ApplyError> {
        match self.resting.iter().find(|resting| resting.is::<K>(name)) {
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

    /// Deletes an object; one that is gone already is no failure.
    pub(super) async fn delete<K>(
        &mut self,
        action: &'static str,
        name: &str,
        params: &DeleteParams,
    ) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        match self.api::<K>(name)?.delete(name, params).await {
            Ok(_) => self.applied.writes += 1,
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(source) => return Err(self.failed::<K>(action, name)(source)),
        }
        Ok(())
    }

    /// Applies a child, unless it is as it should be, or on its way out: then its end is the sign to make it again.
    pub(super) async fn child<K: Shelved>(&mut self, desired: &K, live: &[K]) -> Result<(), ApplyError> {
        let done = self.write(desired, live).await;
        self.go_on(done)
    }

    async fn write<K: Shelved>(&mut self, desired: &K, live: &[K]) -> Result<(), ApplyError> {
        let name = desired.name_any();
        self.keep::<K>(&name);
        let wanted = compare::stamped(json(desired)?);
        let found = live.iter().find(|child| child.name_any() == name);
        match found {
            Some(child) if child.meta().deletion_timestamp.is_some() => return Ok(()),
            Some(child) if compare::holds(&wanted, &json(child)?) => return Ok(()),
            _ if self.is_contested::<K>(&name, &wanted) => return Ok(()),
            Some(_) => {}
            None => {
                let api = self.api::<K>(&name)?;
                match self.server_side(&api, &name, &unseen(&wanted)).await {
                    Err(kube::Error::Api(status)) if status.is_conflict() => {
                        self.make_way::<K>(&name).await?;
                    }
                    created => {
                        created.map_err(self.failed::<K>("apply", &name))?;
                        self.repaired::<K>(&name, &wanted);
                        return Ok(());
                    }
                }
            }
        }
        let api = self.api::<K>(&name)?;
        let written = match self.server_side(&api, &name, &wanted).await {
            Err(kube::Error::Api(status)) if status.is_invalid() => match found {
                Some(found) => self.overwrite(&api, &name, &wanted, found).await,
                None => Err(kube::Error::Api(status)),
            },
            written => written,
        };
        written.map_err(self.failed::<K>("apply", &name))?;
        self.repaired::<K>(&name, &wanted);
        Ok(())
    }

    /// As it is wanted now: another wish is not what others have written over.
    fn is_contested<K: Shelved>(&self, name: &str, wanted: &Value) -> bool {
        self.contested.iter().any(|it| it.object.is::<K>(name) && it.hash == compare::hash(wanted))
    }

    fn repaired<K: Shelved>(&mut self, name: &str, wanted: &Value) {
        let object = Object { kind: K::kind(&()).into_owned(), name: name.to_owned() };
        self.applied.repaired.push(Repair { object, hash: compare::hash(wanted).to_owned() });
    }

    /// An entry of somebody else's does not go with ours: another port of the same name, say. Applying leaves it there, so
    /// the lists that we name are written over first, and applied then to be known as ours. A field of somebody else's
    /// that does not go with ours stays even so: then it is taken out.
    async fn overwrite<K: Shelved>(
        &mut self,
        api: &Api<K>,
        name: &str,
        wanted: &Value,
        found: &K,
    ) -> Result<(), kube::Error> {
        match api.patch(name, &merge(), &Patch::Merge(wanted)).await {
            Err(kube::Error::Api(status)) if status.is_invalid() && K::IS_ALL_OURS => {
                let alone = alone(wanted, &serde_json::to_value(found).map_err(kube::Error::SerdeError)?);
                drop(api.patch(name, &merge(), &Patch::Merge(alone)).await?);
            }
            replaced => drop(replaced?),
        }
        self.applied.writes += 1;
        self.server_side(api, name, wanted).await
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

    /// An object of this name that is not known to be ours may be so without its labels, or somebody else's.
    async fn make_way<K: Shelved>(&mut self, name: &str) -> Result<(), ApplyError> {
        let there = self.api::<K>(name)?.get_metadata_opt(name).await;
        match there.map_err(self.failed::<K>("look for", name))? {
            Some(found) => match ownership(&found, self.owner) {
                Ownership::Owned | Ownership::Orphan => Ok(()),
                Ownership::Former => self.bury::<K>(name, &found.metadata).await,
                Ownership::Others => Err(self.not_ours::<K>(name)),
            },
            None => Ok(()),
        }
    }

    /// Deletes what a resource has left that had the name before. Always an error: there is no room yet.
    pub(super) async fn bury<K>(&mut self, name: &str, found: &ObjectMeta) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        if found.deletion_timestamp.is_none() {
            let same = Preconditions { uid: found.uid.clone(), resource_version: None };
            let params = DeleteParams::background().preconditions(same);
            match self.api::<K>(name)?.delete(name, &params).await {
                Ok(_) => self.applied.writes += 1,
                // Gone, or another one of this name.
                Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
                Err(source) => return Err(self.failed::<K>("delete", name)(source)),
            }
        }
        let (kind, namespace) = (K::kind(&()).into_owned(), self.namespace.to_owned());
        Err(ApplyError::Leaving { kind, namespace, name: name.to_owned() })
    }

    pub(super) fn not_ours<K: Resource<DynamicType = ()>>(&self, name: &str) -> ApplyError {
        let (kind, namespace) = (K::kind(&()).into_owned(), self.namespace.to_owned());
        ApplyError::NotOurs { kind, namespace, name: name.to_owned() }
    }
}

/// Of a merge patch: what it sets is known as ours.
pub(super) fn merge() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() }
}

/// As an object that is to be made, and not to be one that is there: of this version no object is.
fn unseen(wanted: &Value) -> Value {
    let mut wanted = wanted.clone();
    wanted["metadata"]["resourceVersion"] = "1".into();
    wanted
}

/// Without the fields of the live object's spec that are not wanted.
fn alone(wanted: &Value, live: &Value) -> Value {
    let mut alone = wanted.clone();
    if let (Some(spec), Some(live)) = (alone["spec"].as_object_mut(), live["spec"].as_object()) {
        for field in live.keys() {
            spec.entry(field.as_str()).or_insert(Value::Null);
        }
    }
    alone
}

fn json<K: Shelved>(child: &K) -> Result<Value, ApplyError> {
    serde_json::to_value(child).map_err(|source| ApplyError::Json { kind: K::kind(&()).into_owned(), source })
}
