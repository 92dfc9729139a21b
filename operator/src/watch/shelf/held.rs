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
    /// While a list is on its way.
    listing: Option<Listing>,
    /// The newest version that the watch has told of: everything up to it is known.
    told: u64,
    packer: Packer,
}

#[derive(Debug, Default)]
struct Listing {
    /// What it has shown so far.
    shown: HashSet<Place>,
    /// What was written meanwhile: the list may be older.
    written: HashSet<Place>,
    /// Of what it has shown. The list is of one moment, so everything up to it is known when it is whole.
    newest: u64,
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
        self.listing = Some(Listing::default());
    }

    /// What was written here. The answer may be late: what is not there though the watch is ahead of it was deleted since.
    pub(super) fn put_written<K: Shelved>(&mut self, object: K) {
        let (at, version) = (place(&object), version(&object));
        if self.knows(version) && !self.objects.contains_key(&at) {
            return;
        }
        if let Some(listing) = &mut self.listing {
            listing.written.insert(at);
        }
        self.put(object);
    }

    /// What the watch, or a list, tells of. See [`Self::put`].
    pub(super) fn put_told<K: Shelved>(&mut self, object: K) -> Vec<ClusterRef> {
        let version = version(&object);
        match &mut self.listing {
            Some(listing) => {
                listing.shown.insert(place(&object));
                listing.newest = listing.newest.max(version);
            }
            None => self.told = self.told.max(version),
        }
        self.put(object)
    }

    /// The watch has told of all that was so at this version.
    fn knows(&self, version: u64) -> bool {
        version > 0 && version <= self.told
    }

    /// The ShardClusters of which something is other than it was: two where an object has changed hands.
    fn put<K: Shelved>(&mut self, mut object: K) -> Vec<ClusterRef> {
        let (at, cluster, version) = (place(&object), cluster_of(&object), version(&object));
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
        let (at, version) = (place(object), version(object));
        self.told = self.told.max(version);
        // One of the same name may have been made since.
        let gone = self.objects.get(&at).is_some_and(|kept| kept.version <= version);
        if gone { self.take_away(&at) } else { None }
    }

    /// The list is whole: what it has not shown is gone, unless it was written later than that.
    pub(super) fn only_listed(&mut self) -> Vec<ClusterRef> {
        let Some(Listing { shown, written, newest }) = self.listing.take() else { return Vec::new() };
        self.told = self.told.max(newest);
        let is_there = |at: &Place, kept: &Kept| {
            shown.contains(at) || (written.contains(at) && !self.knows(kept.version))
        };
        let gone: Vec<Place> =
            self.objects.iter().filter(|(at, kept)| !is_there(at, kept)).map(|(at, _)| at.clone()).collect();
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
