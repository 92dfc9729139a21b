//! Secrets and ConfigMaps that a user names and has to make. A kubelet lets the pod wait for them, and says so to nobody
//! but an Event: they are asked for by name, while a pod that needs them is not ready.

use std::fmt;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::{Missing, readable};
use crate::crd::{KeyRef, ShardClusterSpec};
use crate::desired::meta::Part;
use crate::observe::ObserveError;
use crate::pods::is_ready;

/// What a field can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the kinds")]
pub enum Kind {
    Secret,
    ConfigMap,
}

/// As it is written.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a spec names for a part some of whose pods are not ready: each as if it were missing.
pub(super) fn references(spec: &ShardClusterSpec, pods: &[Pod]) -> Vec<Missing> {
    let waits = |part: Part| {
        let stays = |pod: &Pod| part.has(pod) && pod.metadata.deletion_timestamp.is_none();
        pods.iter().any(|pod| stays(pod) && !is_ready(pod))
    };
    let of = |part, field, kind, name: &str, entry: Option<&str>| Missing {
        part,
        field,
        kind,
        name: name.to_owned(),
        entry: entry.map(str::to_owned),
        exists: false,
    };
    let one = |field, kind, it: &KeyRef| of(Part::Bootstrap, field, kind, &it.name, Some(&it.key));
    let (http, hub) = (spec.model.source.http.as_ref(), spec.model.source.hugging_face.as_ref());
    let token = http.and_then(|http| http.auth_secret_ref.as_ref());
    let authority = http.and_then(|http| http.ca_bundle_ref.as_ref());
    let hub_token = hub.and_then(|hub| hub.token_secret_ref.as_ref());
    let keys = spec.gateway.api_keys_secret_ref.as_ref();
    let all = [
        token.map(|it| one("model.source.http.authSecretRef", Kind::Secret, it)),
        authority.map(|it| one("model.source.http.caBundleRef", Kind::ConfigMap, it)),
        hub_token.map(|it| one("model.source.huggingFace.tokenSecretRef", Kind::Secret, it)),
        keys.map(|it| of(Part::Gateway, "gateway.apiKeysSecretRef", Kind::Secret, &it.name, None)),
    ];
    all.into_iter().flatten().filter(|it| waits(it.part)).collect()
}

/// Those of them that are missing indeed.
pub(super) async fn missing(
    client: &Client,
    namespace: &str,
    references: Vec<Missing>,
) -> Result<Vec<Missing>, ObserveError> {
    let mut missing = Vec::new();
    for it in references {
        let found = match it.kind {
            Kind::Secret => look::<Secret>(client, namespace, &it.name, secret_entries).await?,
            Kind::ConfigMap => look::<ConfigMap>(client, namespace, &it.name, config_entries).await?,
        };
        missing.extend(lack(it, &found));
    }
    Ok(missing)
}

/// What is under a name.
enum Found {
    /// Nobody here may know.
    Hidden,
    Nothing,
    Entries(Vec<String>),
}

/// `None` where all is there.
fn lack(it: Missing, found: &Found) -> Option<Missing> {
    match found {
        Found::Hidden => None,
        Found::Nothing => Some(it),
        Found::Entries(entries) => {
            let has_it = it.entry.as_ref().is_none_or(|entry| entries.contains(entry));
            (!has_it).then_some(Missing { exists: true, ..it })
        }
    }
}

async fn look<K>(
    client: &Client,
    namespace: &str,
    name: &str,
    entries: fn(K) -> Vec<String>,
) -> Result<Found, ObserveError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + fmt::Debug,
{
    let answer = Api::<K>::namespaced(client.clone(), namespace).get_opt(name).await;
    let found = readable::<K, _>(answer).map_err(|source| ObserveError::get::<K>(namespace, name, source))?;
    Ok(match found {
        None => Found::Hidden,
        Some(None) => Found::Nothing,
        Some(Some(object)) => Found::Entries(entries(object)),
    })
}

fn secret_entries(secret: Secret) -> Vec<String> {
    secret.data.into_iter().flatten().map(|(entry, _)| entry).collect()
}

fn config_entries(map: ConfigMap) -> Vec<String> {
    let text = map.data.into_iter().flatten().map(|(entry, _)| entry);
    text.chain(map.binary_data.into_iter().flatten().map(|(entry, _)| entry)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::desired::meta::COMPONENT;

    fn spec(source: &Value) -> ShardClusterSpec {
        serde_json::from_value(json!({
            "model": {"name": "m", "source": source}, "shards": {"count": 1},
            "gateway": {"apiKeysSecretRef": {"name": "keys"}},
        }))
        .unwrap()
    }

    fn pod(component: &str, ready: &str, leaves: bool) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "p", "labels": {COMPONENT: component}},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        });
        if leaves {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn only_what_pods_wait_for_is_looked_at() {
        let http = json!({"http": {
            "url": "https://host/m.gguf",
            "authSecretRef": {"name": "token", "key": "t"}, "caBundleRef": {"name": "ca", "key": "c"},
        }});
        let hub = json!({"huggingFace": {
            "repo": "a/b", "file": "m.gguf", "tokenSecretRef": {"name": "hub", "key": "h"},
        }});
        let (starts, runs) = ("False", "True");
        let table = [
            (&http, vec![pod("bootstrap", starts, false)], vec!["Secret token", "ConfigMap ca"]),
            (&hub, vec![pod("bootstrap", starts, false)], vec!["Secret hub"]),
            (&hub, vec![pod("bootstrap", runs, false), pod("gateway", starts, false)], vec!["Secret keys"]),
            (&hub, vec![pod("gateway", runs, false), pod("gateway", starts, false)], vec!["Secret keys"]),
            (&hub, vec![pod("gateway", runs, false), pod("gateway", starts, true)], vec![]),
            (&http, vec![pod("shard", starts, false)], vec![]),
            (&http, vec![], vec![]),
        ];
        for (source, pods, expected) in table {
            let found = references(&spec(source), &pods);
            let found: Vec<_> = found.iter().map(|it| format!("{} {}", it.kind, it.name)).collect();
            assert_eq!(found, expected, "{source}");
        }
    }

    #[test]
    fn an_object_is_missing_or_its_entry_is() {
        let named = |entry: Option<&str>| Missing {
            part: Part::Bootstrap,
            field: "f",
            kind: Kind::Secret,
            name: "n".into(),
            entry: entry.map(str::to_owned),
            exists: false,
        };
        let token = || Found::Entries(vec!["token".to_owned()]);
        let exists = |entry, found: Found| lack(named(entry), &found).map(|it| it.exists);
        assert_eq!(exists(Some("token"), Found::Nothing), Some(false));
        assert_eq!(exists(Some("other"), token()), Some(true));
        assert_eq!(exists(Some("token"), token()), None);
        assert_eq!(exists(None, Found::Entries(Vec::new())), None, "any entry will do");
        assert_eq!(exists(None, Found::Nothing), Some(false));
        assert_eq!(exists(Some("token"), Found::Hidden), None, "what may not be read explains nothing");
    }
}
