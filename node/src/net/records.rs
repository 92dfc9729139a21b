//! The part of the DHT that this node stores: checked, bounded, expiring.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map;
use std::iter;
use std::time::Instant;

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};
use shard_wire::announce::MAX_ADDRESSES;
use shard_wire::keys::{MAX_SHARDS, ShardKey};

use super::signed;

/// Every shard with eight replicas, twice.
const MAX_RECORDS: usize = 16 * MAX_SHARDS as usize;
/// Replicas of one shard.
const MAX_PROVIDERS: usize = 64;

/// Announcements and providers of one cluster's shards.
pub(super) struct RecordTable {
    cluster: String,
    records: HashMap<RecordKey, Record>,
    providers: HashMap<RecordKey, Vec<ProviderRecord>>,
}

impl RecordTable {
    pub(super) fn new(cluster: String) -> Self {
        Self { cluster, records: HashMap::new(), providers: HashMap::new() }
    }

    /// Whether a record may replace what is stored: it is its peer's own, and not older than what that peer said last.
    fn admit(&self, record: &Record) -> Result<()> {
        let stored = self.records.get(&record.key);
        if stored.is_some_and(|stored| stored.value == record.value) {
            return Ok(());
        }
        let Some(key) = ShardKey::parse(&self.cluster, record.key.as_ref()) else {
            tracing::debug!(key = ?record.key, "a record under a foreign key is refused");
            return Err(Error::MaxRecords);
        };
        let new = signed::open(&self.cluster, &key, &record.value).map_err(|error| {
            tracing::debug!(%error, key = ?record.key, "a record is refused");
            Error::ValueTooLarge
        })?;
        let old = stored.and_then(|stored| signed::open(&self.cluster, &key, &stored.value).ok());
        match old {
            Some(old) if old.peer == new.peer && old.sequence > new.sequence => Err(Error::MaxRecords),
            _ => Ok(()),
        }
    }
}

impl RecordStore for RecordTable {
    type RecordsIter<'a> =
        iter::Map<hash_map::Values<'a, RecordKey, Record>, fn(&'a Record) -> Cow<'a, Record>>;
    type ProvidedIter<'a> = iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        self.records.get(key).map(Cow::Borrowed)
    }

    fn put(&mut self, record: Record) -> Result<()> {
        self.admit(&record)?;
        if self.records.len() >= MAX_RECORDS && !self.records.contains_key(&record.key) {
            let now = Instant::now();
            self.records.retain(|_, stored| !stored.is_expired(now));
            if self.records.len() >= MAX_RECORDS {
                return Err(Error::MaxRecords);
            }
        }
        self.records.insert(record.key.clone(), record);
        Ok(())
    }

    fn remove(&mut self, key: &RecordKey) {
        self.records.remove(key);
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        self.records.values().map(Cow::Borrowed)
    }

    fn add_provider(&mut self, mut record: ProviderRecord) -> Result<()> {
        // The keys are as many as there are shards, so only the providers of each need a bound.
        let Some(ShardKey::Shard(_)) = ShardKey::parse(&self.cluster, record.key.as_ref()) else {
            return Err(Error::MaxProvidedKeys);
        };
        record.addresses.truncate(MAX_ADDRESSES);
        let providers = self.providers.entry(record.key.clone()).or_default();
        let now = Instant::now();
        providers.retain(|stored| stored.provider != record.provider && !stored.is_expired(now));
        if providers.len() >= MAX_PROVIDERS {
            return Err(Error::MaxProvidedKeys);
        }
        providers.push(record);
        Ok(())
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        self.providers.get(key).cloned().unwrap_or_default()
    }

    /// Empty: each peer announces its own keys again, so Kademlia has nothing to republish.
    fn provided(&self) -> Self::ProvidedIter<'_> {
        iter::empty()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        if let Some(providers) = self.providers.get_mut(key) {
            providers.retain(|stored| stored.provider != *provider);
            if providers.is_empty() {
                self.providers.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p::identity::Keypair;
    use shard_wire::announce::SignedRecord;

    use super::super::hex;
    use super::signed::tests::announcement;
    use super::*;

    fn provider(key: &str) -> ProviderRecord {
        ProviderRecord::new(RecordKey::new(&key), PeerId::random(), vec!["/memory/1".parse().unwrap(); 100])
    }

    #[test]
    fn providers_are_bounded_and_make_room_when_they_expire() {
        let mut table = RecordTable::new("c".into());
        let key = RecordKey::new(&"c/shard/0");
        for key in ["d/shard/0", "c/shard/256", "c/shard/0/x", "x"] {
            assert!(table.add_provider(provider(key)).is_err(), "{key}");
        }
        let expired = ProviderRecord { expires: Some(Instant::now()), ..provider("c/shard/0") };
        table.add_provider(expired).unwrap();
        for _ in 0..MAX_PROVIDERS {
            table.add_provider(provider("c/shard/0")).unwrap();
        }
        assert!(table.add_provider(provider("c/shard/0")).is_err());
        // Who is in it may say so again.
        let again = table.providers(&key)[0].clone();
        table.add_provider(again.clone()).unwrap();
        assert_eq!(table.providers(&key).len(), MAX_PROVIDERS);
        assert!(table.providers(&key).iter().all(|stored| stored.addresses.len() == MAX_ADDRESSES));
        table.remove_provider(&key, &again.provider);
        table.add_provider(provider("c/shard/0")).unwrap();
    }

    #[test]
    fn a_full_table_makes_room_for_what_has_not_expired() {
        let mut table = RecordTable::new("c".into());
        let now = Instant::now();
        for number in 0..MAX_RECORDS {
            let expires = now + Duration::from_secs(if number == 0 { 0 } else { 60 });
            let record =
                Record { expires: Some(expires), ..Record::new(RecordKey::new(&number.to_string()), vec![]) };
            table.records.insert(record.key.clone(), record);
        }
        let record = |id: u32| {
            let keypair = Keypair::generate_ed25519();
            let peer_id = keypair.public().to_peer_id().to_string();
            let value = signed::seal(&keypair, 1, &announcement("c", &peer_id, id)).unwrap();
            Record::new(RecordKey::new(&ShardKey::Replica(id, peer_id).text("c")), value)
        };
        table.put(record(0)).unwrap();
        assert!(table.put(record(1)).is_err());
        assert_eq!(table.records.len(), MAX_RECORDS);
    }

    #[test]
    fn nobody_announces_for_another() {
        let (keypair, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let (me, them) = (keypair.public().to_peer_id().to_string(), other.public().to_peer_id().to_string());
        let mine = ShardKey::Replica(1, me.clone()).text("c");
        let seal = |sequence, cluster: &str, peer: &str| {
            signed::seal(&keypair, sequence, &announcement(cluster, peer, 1)).unwrap()
        };
        let good = seal(7, "c", &me);
        let changed = |change: fn(&mut SignedRecord, &str)| {
            let mut record: SignedRecord = serde_json::from_slice(&good).unwrap();
            change(&mut record, &hex::encode(&other.public().encode_protobuf()));
            serde_json::to_vec(&record).unwrap()
        };
        let mut table = RecordTable::new("c".into());
        let mut put = |key: &str, value: &[u8]| table.put(Record::new(RecordKey::new(&key), value.to_vec()));
        let refused: Vec<(&str, String, Vec<u8>)> = vec![
            ("another peer's key", ShardKey::Replica(1, them.clone()).text("c"), good.clone()),
            ("another shard's key", ShardKey::Shard(2).text("c"), good.clone()),
            ("a key of no kind", "anything".into(), good.clone()),
            ("another cluster's record", mine.clone(), seal(7, "d", &me)),
            ("another peer's name", mine.clone(), seal(7, "c", &them)),
            ("a changed sequence", mine.clone(), changed(|record, _| record.sequence += 1)),
            (
                "a changed payload",
                mine.clone(),
                changed(|record, _| record.payload = record.payload.replace("\"m\"", "\"n\"")),
            ),
            ("another's public key", mine.clone(), changed(|record, key| record.public_key = key.to_owned())),
            ("no signature", mine.clone(), changed(|record, _| record.signature.clear())),
            ("no JSON", mine.clone(), b"\xff".to_vec()),
            ("too large", mine.clone(), vec![b' '; 9000]),
        ];
        for (what, key, value) in &refused {
            assert!(put(key, value).is_err(), "{what}");
        }
        put(&ShardKey::Shard(1).text("c"), &good).unwrap();
        put(&mine, &good).unwrap();
        put(&mine, &good).unwrap();
        assert!(put(&mine, &seal(6, "c", &me)).is_err(), "what was said before");
        put(&mine, &seal(8, "c", &me)).unwrap();
    }
}
