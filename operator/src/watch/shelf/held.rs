//! What a shelf holds, and what an event makes of it. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use kube::{Resource, ResourceExt};

use super::packed::{Packed, Packer, UnpackError};
use crate::desired::meta::INSTANCE;
use crate::watch::{ClusterRef, Shelved};

/// Namespace and name of an object.
type Place = Arc<str>;

#[derive(Debug, Default)]
pub(super) struct Held {
    objects: HashMap<Place, Kept>,
    clusters: HashMap<Arc<ClusterRef>, BTreeSet<Place>>,
    /// While a list is on its way: what it, or a write, has shown. The rest is gone when it ends.
    listed: Option<HashSet<Place>>,
    packer: Packer,
}

#[derive(Debug)]
struct Kept {
    cluster: Arc<ClusterRef>,
    /// Of one object, versions are numbers that grow.
    version: u64,
    packed: Packed,
}

impl Held {
    pub(super) fn clusters(&self) -> Vec<ClusterRef> {
        self.clusters.keys().map(|cluster| ClusterRef::clone(cluster)).collect()
    }

    /// The objects of a ShardCluster, by name.
    pub(super) fn of<K: Shelved>(&self, cluster: &ClusterRef) -> Result<Vec<K>, UnpackError> {
        let kept = self.clusters.get(cluster).into_iter().flatten().filter_map(|at| self.objects.get(at));
        kept.map(|kept| self.object(kept)).collect()
    }

    /// With its version, as a request that is to change this very state needs it.
    fn object<K: Shelved>(&self, kept: &Kept) -> Result<K, UnpackError> {
        let json = self.packer.unpack(&kept.packed)?;
        let mut object: K = serde_json::from_slice(&json).map_err(UnpackError::Json)?;
        object.meta_mut().resource_version = (kept.version > 0).then(|| kept.version.to_string());
        Ok(object)
    }

    pub(super) fn expect_list(&mut self) {
        self.listed = Some(HashSet::new());
    }

    /// The ShardClusters of which something is other than it was: two where an object has changed hands.
    pub(super) fn put<K: Shelved>(&mut self, mut object: K) -> Vec<ClusterRef> {
        let (at, cluster, version) = (place(&object), cluster_of(&object), version(&object));
        if let Some(listed) = &mut self.listed {
            listed.insert(Arc::clone(&at));
        }
        let before = self.objects.get(&at);
        // A watch tells of what was written here, too, and may be behind it. Without versions the last word is taken.
        if before.is_some_and(|before| version <= before.version && before.version > 0) {
            return Vec::new();
        }
        let meta = object.meta_mut();
        (meta.managed_fields, meta.resource_version) = (None, None);
        object.trim();
        let (Some(cluster), Ok(json)) = (cluster, serde_json::to_vec(&object)) else {
            return self.take_away(&at).into_iter().collect();
        };
        let packed = self.packer.pack(&json);
        let same = before.is_some_and(|before| *before.cluster == cluster && before.packed == packed);
        let moved = before.is_some_and(|before| *before.cluster != cluster);
        let left = if moved { self.take_away(&at) } else { None };
        let cluster = self.cluster(cluster);
        let names = self.clusters.entry(Arc::clone(&cluster)).or_default();
        names.insert(Arc::clone(&at));
        let news = (!same).then(|| ClusterRef::clone(&cluster));
        self.objects.insert(at, Kept { cluster, version, packed });
        left.into_iter().chain(news).collect()
    }

    pub(super) fn remove<K: Shelved>(&mut self, object: &K) -> Option<ClusterRef> {
        let at = place(object);
        // One of the same name may have been made since.
        let gone = self.objects.get(&at).is_some_and(|kept| kept.version <= version(object));
        if gone { self.take_away(&at) } else { None }
    }

    /// What the list has not shown is gone.
    pub(super) fn only_listed(&mut self) -> Vec<ClusterRef> {
        let Some(listed) = self.listed.take() else { return Vec::new() };
        let gone: Vec<Place> = self.objects.keys().filter(|at| !listed.contains(*at)).cloned().collect();
        let changed: HashSet<ClusterRef> = gone.iter().filter_map(|at| self.take_away(at)).collect();
        changed.into_iter().collect()
    }

    fn take_away(&mut self, at: &Place) -> Option<ClusterRef> {
        let cluster = self.objects.remove(at)?.cluster;
        if let Some(names) = self.clusters.get_mut(&cluster) {
            names.remove(at);
            if names.is_empty() {
                self.clusters.remove(&cluster);
            }
        }
        Some(ClusterRef::clone(&cluster))
    }

    /// One in memory for all of its objects.
    fn cluster(&self, cluster: ClusterRef) -> Arc<ClusterRef> {
        self.clusters
            .get_key_value(&cluster)
            .map_or_else(|| Arc::new(cluster), |(known, _)| Arc::clone(known))
    }
}

fn place<K: Resource>(object: &K) -> Place {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any()).into()
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
