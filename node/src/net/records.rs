//! The part of the DHT that this node stores: checked, bounded, expiring.
//!
//! ```text
//!  put ─▶ a key of ours? ─▶ signature, MAC, bounds, owner (signed) ─▶ newer than what this peer said? ─▶ room?
//! ```
//! Room is bounded for each kind of key, and in each for every peer: one member cannot crowd the others out.

mod providers;

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map;
use std::iter;
use std::time::Instant;

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};
use shard_wire::keys::{DhtKey, MAX_FILES_PER_PEER, MAX_SHARDS, Role};

use super::secret::Secrets;
use super::signed;

use providers::Providers;

/// Every shard with eight replicas, twice; a node has each at most, under both keys.
const SHARDS: Room = Room { records: 16 * MAX_SHARDS as usize, share: 2 * MAX_SHARDS as usize };
/// A peer is a spare, a gateway, or both.
const MEMBERS: Room = Room { records: 1024, share: Role::ALL.len() };
/// Sixteen models of 256 shards.
const FILES: Room = Room { records: 4 * MAX_FILES_PER_PEER, share: MAX_FILES_PER_PEER };

/// How many records of one kind there may be, and how many of them by one peer.
#[derive(Clone, Copy)]
struct Room {
    records: usize,
    share: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Shard,
    Member,
    File,
}

impl Kind {
    fn of(key: &DhtKey) -> Self {
        match key {
            DhtKey::Shard(_) | DhtKey::Replica(..) => Self::Shard,
            DhtKey::Members(_) | DhtKey::Member(..) => Self::Member,
            DhtKey::File(_) => Self::File,
        }
    }

    fn room(self) -> Room {
        match self {
            Self::Shard => SHARDS,
            Self::Member => MEMBERS,
            Self::File => FILES,
        }
    }
}

/// Announcements and providers of one cluster.
pub(super) struct RecordTable {
    cluster: String,
    secrets: Option<Secrets>,
    records: HashMap<RecordKey, Stored>,
    providers: Providers,
}

pub(super) struct Stored {
    record: Record,
    kind: Kind,
    peer: PeerId,
    sequence: u64,
}

impl RecordTable {
    pub(super) fn new(cluster: String, secrets: Option<Secrets>) -> Self {
        Self { cluster, secrets, records: HashMap::new(), providers: Providers::default() }
    }

    /// What a record is, when it may be stored: it is its peer's own, not older than what that peer said last, and
    /// there is room.
    fn admit(&mut self, record: &Record) -> Result<(Kind, PeerId, u64)> {
        let Some(key) = DhtKey::parse(&self.cluster, record.key.as_ref()) else {
            tracing::debug!(key = ?record.key, "a record under a foreign key is refused");
            return Err(Error::MaxRecords);
        };
        if let Some(stored) = self.records.get(&record.key)
            && stored.record.value == record.value
        {
            return Ok((stored.kind, stored.peer, stored.sequence));
        }
        let checked = signed::check(&self.cluster, self.secrets.as_ref(), &key, &record.value);
        let (peer, sequence) = checked.map_err(|error| {
            tracing::debug!(%error, key = ?record.key, "a record is refused");
            Error::ValueTooLarge
        })?;
        let kind = Kind::of(&key);
        match self.records.get(&record.key) {
            Some(old) if old.peer == peer && old.sequence > sequence => Err(Error::MaxRecords),
            Some(old) if old.peer == peer => Ok((kind, peer, sequence)),
            other => self.make_room(kind, peer, other.is_none()).map(|()| (kind, peer, sequence)),
        }
    }

    fn make_room(&mut self, kind: Kind, peer: PeerId, new: bool) -> Result<()> {
        let Room { records, share } = kind.room();
        let fits = |table: &Self| {
            let of_kind = || table.records.values().filter(|stored| stored.kind == kind);
            let theirs = of_kind().filter(|stored| stored.peer == peer).count();
            theirs < share && (!new || of_kind().count() < records)
        };
        if fits(self) {
            return Ok(());
        }
        let now = Instant::now();
        self.records.retain(|_, stored| !stored.record.is_expired(now));
        if fits(self) { Ok(()) } else { Err(Error::MaxRecords) }
    }
}

impl RecordStore for RecordTable {
    type RecordsIter<'a> =
        iter::Map<hash_map::Values<'a, RecordKey, Stored>, fn(&'a Stored) -> Cow<'a, Record>>;
    type ProvidedIter<'a> = iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        self.records.get(key).map(|stored| Cow::Borrowed(&stored.record))
    }

    fn put(&mut self, record: Record) -> Result<()> {
        let (kind, peer, sequence) = self.admit(&record)?;
        self.records.insert(record.key.clone(), Stored { record, kind, peer, sequence });
        Ok(())
    }

    fn remove(&mut self, key: &RecordKey) {
        self.records.remove(key);
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        self.records.values().map(|stored| Cow::Borrowed(&stored.record))
    }

    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        let Some(key) = DhtKey::parse(&self.cluster, record.key.as_ref()) else {
            return Err(Error::MaxProvidedKeys);
        };
        self.providers.add(&key, record)
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        self.providers.of(key).to_vec()
    }

    /// Empty: each peer announces its own keys again, so Kademlia has nothing to republish.
    fn provided(&self) -> Self::ProvidedIter<'_> {
        iter::empty()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        self.providers.remove(key, provider);
    }
}

#[cfg(test)]
mod tests;
