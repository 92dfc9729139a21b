//! StatefulSets: volumes grow before their template does, and what an API server does not let change is made anew
//! around the pods and volumes that are there.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, Preconditions};
use serde_json::json;

use super::child::merge;
use super::{ApplyError, Note, Workload, Writer};
use crate::crd::Reason;
use crate::observe::Observed;
use crate::quantity::thousandths;

/// What the API server lets nobody change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// All of it can be applied.
    Applicable,
    /// It can be made anew, and takes its pods and claims over.
    Recreate,
    /// Its pods would be nobody's.
    Impossible,
}

impl Writer<'_> {
    pub(super) async fn stateful_set(
        &mut self,
        workload: Workload,
        desired: &StatefulSet,
        observed: &Observed,
    ) -> Result<(), ApplyError> {
        let done = self.write_set(workload, desired, observed).await;
        self.go_on(done)
    }

    async fn write_set(
        &mut self,
        workload: Workload,
        desired: &StatefulSet,
        observed: &Observed,
    ) -> Result<(), ApplyError> {
        let name = desired.name_any();
        let all = &observed.children.stateful_sets;
        let live = all.iter().find(|set| set.name_any() == name && set.metadata.deletion_timestamp.is_none());
        let Some(live) = live else { return self.child(desired, all).await };
        self.grow_claims(workload, desired, &observed.claims).await?;
        match change(desired, live) {
            Change::Applicable => self.child(desired, all).await,
            Change::Recreate => {
                self.keep::<StatefulSet>(&name);
                let same = Preconditions { uid: live.uid(), resource_version: None };
                let params = DeleteParams::orphan().preconditions(same);
                // It is made anew when the watch has told of its end.
                self.delete::<StatefulSet>("recreate", &name, &params).await
            }
            Change::Impossible => {
                self.keep::<StatefulSet>(&name);
                let message = format!(
                    "StatefulSet {name} selects other pods than it should, and a selector cannot be changed: delete it, and it is made again"
                );
                self.applied.notes.push(Note { workload, reason: Reason::ImmutableSelector, message });
                Ok(())
            }
        }
    }

    /// Claims that are smaller than the template says. One that cannot grow is a note: its pod serves as before.
    async fn grow_claims(
        &mut self,
        workload: Workload,
        desired: &StatefulSet,
        claims: &[PersistentVolumeClaim],
    ) -> Result<(), ApplyError> {
        for (claim, size) in too_small(desired, claims) {
            let name = claim.name_any();
            let patch = json!({"spec": {"resources": {"requests": {"storage": size}}}});
            let api = self.api::<PersistentVolumeClaim>(&name)?;
            match api.patch(&name, &merge(), &Patch::Merge(&patch)).await {
                Ok(grown) => {
                    self.shelves.claims.put(grown);
                    self.applied.writes += 1;
                }
                Err(kube::Error::Api(status)) if status.is_forbidden() || status.is_invalid() => {
                    let message =
                        format!("PersistentVolumeClaim {name} cannot grow to {}: {}", size.0, status.message);
                    self.applied.notes.push(Note { workload, reason: Reason::VolumeNotResized, message });
                }
                Err(source) => return Err(self.failed::<PersistentVolumeClaim>("resize", &name)(source)),
            }
        }
        Ok(())
    }
}

fn change(desired: &StatefulSet, live: &StatefulSet) -> Change {
    let (Some(desired), Some(live)) = (&desired.spec, &live.spec) else { return Change::Applicable };
    if desired.selector != live.selector {
        return Change::Impossible;
    }
    let claims = |claims: &Option<Vec<PersistentVolumeClaim>>| -> Vec<_> {
        claims.iter().flatten().map(|claim| (claim.name_any(), class(claim), size(claim))).collect()
    };
    let same = desired.service_name == live.service_name
        && desired.pod_management_policy == live.pod_management_policy
        && claims(&desired.volume_claim_templates) == claims(&live.volume_claim_templates);
    if same { Change::Applicable } else { Change::Recreate }
}

fn class(claim: &PersistentVolumeClaim) -> Option<String> {
    claim.spec.as_ref()?.storage_class_name.clone()
}

fn request(claim: &PersistentVolumeClaim) -> Option<&Quantity> {
    claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")
}

fn size(claim: &PersistentVolumeClaim) -> Option<u128> {
    thousandths(request(claim)?)
}

/// The claims of a StatefulSet that ask for less than its template, and what they should ask for.
fn too_small<'a>(
    set: &'a StatefulSet,
    claims: &'a [PersistentVolumeClaim],
) -> Vec<(&'a PersistentVolumeClaim, &'a Quantity)> {
    let templates = set.spec.iter().flat_map(|spec| spec.volume_claim_templates.iter().flatten());
    let of = |template: &PersistentVolumeClaim| format!("{}-{}-", template.name_any(), set.name_any());
    templates
        .filter_map(|template| Some((of(template), request(template)?)))
        .flat_map(|(prefix, wanted)| {
            let is_of = move |claim: &&PersistentVolumeClaim| {
                let name = claim.name_any();
                let ordinal = name.strip_prefix(&prefix);
                ordinal.is_some_and(|ordinal| ordinal.parse::<u32>().is_ok())
            };
            let smaller = |claim: &&PersistentVolumeClaim| size(claim) < thousandths(wanted);
            claims.iter().filter(is_of).filter(smaller).map(move |claim| (claim, wanted)).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str, size: &str) -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"resources": {"requests": {"storage": size}}},
        }))
        .unwrap()
    }

    fn set(service: &str, label: &str, claims: &[PersistentVolumeClaim]) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": "a-shard-1"},
            "spec": {
                "serviceName": service,
                "selector": {"matchLabels": {"a": label}},
                "template": {},
                "volumeClaimTemplates": claims,
            },
        }))
        .unwrap()
    }

    #[test]
    fn what_cannot_change_is_made_anew_where_pods_can_be_kept() {
        let now = set("s", "x", &[claim("model", "1024Mi")]);
        let table = [
            (set("s", "x", &[claim("model", "1Gi")]), Change::Applicable),
            (set("s", "x", &[claim("model", "2Gi")]), Change::Recreate),
            (set("s", "x", &[]), Change::Recreate),
            (set("t", "x", &[claim("model", "1Gi")]), Change::Recreate),
            (set("s", "y", &[claim("model", "1Gi")]), Change::Impossible),
        ];
        for (wanted, expected) in table {
            assert_eq!(change(&wanted, &now), expected);
        }
    }

    #[test]
    fn only_its_own_claims_grow() {
        let set = set("s", "x", &[claim("model", "2Gi")]);
        let claims = [
            claim("model-a-shard-1-0", "1Gi"),
            claim("model-a-shard-1-1", "2048Mi"),
            claim("model-a-shard-1-2", "3Gi"),
            claim("model-a-shard-10-0", "1Gi"),
            claim("model-a-shard-1-x-0", "1Gi"),
        ];
        let found: Vec<_> = too_small(&set, &claims).into_iter().map(|(claim, _)| claim.name_any()).collect();
        assert_eq!(found, ["model-a-shard-1-0"]);
    }
}
