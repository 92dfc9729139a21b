//! All objects of one kind, by ShardCluster: as JSON, which takes a fifth of the memory that the types take.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use tokio::sync::watch;

use super::{ClusterRef, Shelved};
use crate::desired::meta::INSTANCE;

/// Objects of one kind.
#[derive(Debug)]
pub struct Shelf<K> {
    held: Mutex<Held>,
    filled: watch::Sender<bool>,
    kind: PhantomData<fn() -> K>,
}

#[derive(Debug, Default)]
struct Held {
    clusters: HashMap<ClusterRef, BTreeMap<Box<str>, Kept>>,
    /// While a list is on its way: what it, or a write, has shown. The rest is gone when it ends.
    listed: Option<HashMap<ClusterRef, HashSet<Box<str>>>>,
}

#[derive(Debug)]
struct Kept {
    /// Of one object, versions are numbers that grow.
    version: u64,
    json: Box<[u8]>,
}

impl Kept {
    /// With its version, as a request that is to change this very state needs it.
    fn object<K: Shelved>(&self) -> Result<K, serde_json::Error> {
        let mut object: K = serde_json::from_slice(&self.json)?;
        object.meta_mut().resource_version = (self.version > 0).then(|| self.version.to_string());
        Ok(object)
    }
}

impl<K> Default for Shelf<K> {
    fn default() -> Self {
        Self { held: Mutex::default(), filled: watch::Sender::new(false), kind: PhantomData }
    }
}

impl<K: Shelved> Shelf<K> {
    /// The objects of a ShardCluster, by name.
    ///
    /// # Errors
    /// Where JSON that was written here cannot be read: a fault of this program.
    pub fn of(&self, cluster: &ClusterRef) -> Result<Vec<K>, serde_json::Error> {
        let held = self.lock();
        let all = held.clusters.get(cluster).into_iter().flat_map(BTreeMap::values);
        all.map(Kept::object).collect()
    }

    /// Every ShardCluster that has some.
    pub(super) fn clusters(&self) -> Vec<ClusterRef> {
        self.lock().clusters.keys().cloned().collect()
    }

    /// What was just written, so that the next reconcile sees it though the watch has not told of it yet.
    pub fn put(&self, object: K) {
        self.lock().put(object);
    }

    /// Returns when the kind has been listed once.
    pub async fn filled(&self) {
        // The sender is here: it cannot be gone.
        let _ = self.filled.subscribe().wait_for(|filled| *filled).await;
    }

    /// The ShardClusters of which something is other than it was.
    pub(super) fn take(&self, event: Event<K>) -> Vec<ClusterRef> {
        let mut held = self.lock();
        match event {
            Event::Init => {
                held.listed = Some(HashMap::new());
                Vec::new()
            }
            Event::InitApply(object) | Event::Apply(object) => {
                let changed = held.put(object);
                // Nobody looks before the first list is whole.
                changed.filter(|_| *self.filled.borrow()).into_iter().collect()
            }
            Event::Delete(object) => held.remove(&object).into_iter().collect(),
            Event::InitDone => {
                let changed = held.only_listed();
                self.filled.send_replace(true);
                changed
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn put<K: Shelved>(&mut self, mut object: K) -> Option<ClusterRef> {
        let (cluster, name, version) = (cluster_of(&object)?, object.name_any().into(), version(&object));
        let meta = object.meta_mut();
        (meta.managed_fields, meta.resource_version) = (None, None);
        object.trim();
        let json = serde_json::to_vec(&object).ok()?.into_boxed_slice();
        if let Some(listed) = &mut self.listed {
            listed.entry(cluster.clone()).or_default().insert(Box::clone(&name));
        }
        let kept = Kept { version, json };
        match self.clusters.entry(cluster.clone()).or_default().entry(name) {
            Entry::Vacant(entry) => {
                entry.insert(kept);
                Some(cluster)
            }
            Entry::Occupied(mut entry) => {
                // A watch may be behind what was written here.
                let newer = version >= entry.get().version;
                let same = entry.get().json == kept.json;
                if newer {
                    entry.insert(kept);
                }
                (newer && !same).then_some(cluster)
            }
        }
    }

    fn remove<K: Shelved>(&mut self, object: &K) -> Option<ClusterRef> {
        let cluster = cluster_of(object)?;
        let names = self.clusters.get_mut(&cluster)?;
        let name = object.name_any();
        // One of the same name may have been made since.
        let gone = names.get(name.as_str()).is_some_and(|kept| kept.version <= version(object));
        if gone {
            names.remove(name.as_str());
        }
        if names.is_empty() {
            self.clusters.remove(&cluster);
        }
        gone.then_some(cluster)
    }

    fn only_listed(&mut self) -> Vec<ClusterRef> {
        let Some(listed) = self.listed.take() else { return Vec::new() };
        let mut changed = Vec::new();
        self.clusters.retain(|cluster, names| {
            let before = names.len();
            let there = listed.get(cluster);
            names.retain(|name, _| there.is_some_and(|there| there.contains(name)));
            if names.len() < before {
                changed.push(cluster.clone());
            }
            !names.is_empty()
        });
        changed
    }
}

/// A pod is owned by a StatefulSet; its label says whose it is in the end.
fn cluster_of<K: Resource>(object: &K) -> Option<ClusterRef> {
    let name = object.labels().get(INSTANCE)?;
    Some(ClusterRef::new(name).within(&object.namespace()?))
}

/// Versions are revisions of etcd: numbers that grow. Of a server with others, the last word is taken.
fn version<K: Resource>(object: &K) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::{Value, json};

    use super::*;

    fn service(name: &str, version: &str, port: u16) -> Service {
        let labels: Value = json!({INSTANCE: "tiny"});
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "llm", "labels": labels, "resourceVersion": version,
                "managedFields": [{"manager": version}],
            },
            "spec": {"ports": [{"port": port}]},
        }))
        .unwrap()
    }

    fn ports(shelf: &Shelf<Service>) -> Vec<(String, i32)> {
        let all = shelf.of(&ClusterRef::new("tiny").within("llm")).unwrap();
        all.iter()
            .map(|one| (one.name_any(), one.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].port))
            .collect()
    }

    #[test]
    fn news_is_what_differs_and_nothing_older_than_a_write() {
        let shelf = Shelf::<Service>::default();
        shelf.take(Event::Init);
        shelf.take(Event::InitDone);
        assert_eq!(shelf.take(Event::Apply(service("a", "5", 1))).len(), 1);
        assert!(shelf.take(Event::Apply(service("a", "6", 1))).is_empty(), "only the bookkeeping is new");
        shelf.put(service("a", "9", 2));
        assert!(shelf.take(Event::Apply(service("a", "9", 2))).is_empty(), "the echo of our own write");
        assert!(shelf.take(Event::Apply(service("a", "8", 3))).is_empty(), "older than our own write");
        assert!(shelf.take(Event::Delete(service("a", "8", 3))).is_empty(), "made anew since");
        assert_eq!(ports(&shelf), [("a".to_owned(), 2)]);
        assert_eq!(shelf.take(Event::Delete(service("a", "10", 2))).len(), 1);
        assert!(ports(&shelf).is_empty());
    }

    #[test]
    fn a_new_list_is_all_there_is_and_nothing_is_missing_while_it_arrives() {
        let shelf = Shelf::<Service>::default();
        shelf.take(Event::Init);
        shelf.take(Event::InitApply(service("a", "1", 1)));
        shelf.take(Event::InitApply(service("b", "2", 1)));
        assert!(shelf.take(Event::InitDone).is_empty());

        shelf.take(Event::Init);
        assert_eq!(ports(&shelf).len(), 2);
        assert!(shelf.take(Event::InitApply(service("a", "1", 1))).is_empty());
        shelf.put(service("c", "7", 1));
        assert_eq!(shelf.take(Event::InitDone).len(), 1, "b is gone");
        assert_eq!(ports(&shelf), [("a".to_owned(), 1), ("c".to_owned(), 1)]);
    }

    #[test]
    fn an_object_has_the_version_that_was_seen_last() {
        let shelf = Shelf::<Service>::default();
        let version = || {
            let all = shelf.of(&ClusterRef::new("tiny").within("llm")).unwrap();
            all[0].resource_version()
        };
        shelf.take(Event::Apply(service("a", "5", 1)));
        assert_eq!(version().as_deref(), Some("5"));
        shelf.take(Event::Apply(service("a", "6", 1)));
        assert_eq!(version().as_deref(), Some("6"), "though nothing else is new");
        shelf.put(service("a", "9", 2));
        shelf.take(Event::Apply(service("a", "8", 3)));
        assert_eq!(version().as_deref(), Some("9"));
    }

    #[tokio::test]
    async fn it_is_filled_by_the_first_list() {
        let shelf = Shelf::<Service>::default();
        assert!(futures::FutureExt::now_or_never(shelf.filled()).is_none());
        shelf.take(Event::Init);
        shelf.take(Event::InitDone);
        shelf.filled().await;
    }
}
