//! Who provides a key. The record says nothing but that, and nobody signs it: what counts is what the provider
//! announces under its own key, or sends when it is asked.

use std::collections::HashMap;
use std::time::Instant;

use libp2p::PeerId;
use libp2p::kad::store::{Error, Result};
use libp2p::kad::{ProviderRecord, RecordKey};
use libp2p::multiaddr::{Multiaddr, Protocol};
use shard_wire::announce::{MAX_ADDRESSES, MAX_TEXT_BYTES};
use shard_wire::keys::{DhtKey, MAX_FILES_PER_PEER, Role};

/// Replicas of one shard, and seeders of one file.
pub(super) const MAX_PROVIDERS: usize = 64;
/// Spares, or gateways, of one cluster.
const MAX_MEMBERS: usize = 256;
/// Seeders of all files together: 128 nodes that have a model of 256 shards each. With their addresses 20 MB.
const MAX_SEEDERS: usize = 128 * 256;
/// Addresses of a seeder: who looks for it has them from its announcement too.
const SEEDER_ADDRESSES: usize = 4;

#[derive(Default)]
pub(super) struct Providers {
    keys: HashMap<RecordKey, Vec<ProviderRecord>>,
    /// How many files each peer provides.
    files: HashMap<PeerId, usize>,
    /// No record expires before that: who is refused does not make us look at all of them.
    next_expiry: Option<Instant>,
}

impl Providers {
    pub(super) fn of(&self, key: &RecordKey) -> &[ProviderRecord] {
        self.keys.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn add(&mut self, key: &DhtKey, mut record: ProviderRecord) -> Result<()> {
        let (most, addresses) = match key {
            DhtKey::Shard(_) => (MAX_PROVIDERS, MAX_ADDRESSES),
            DhtKey::Members(_) => (MAX_MEMBERS, MAX_ADDRESSES),
            DhtKey::File(_) => (MAX_PROVIDERS, SEEDER_ADDRESSES),
            DhtKey::Replica(..) | DhtKey::Member(..) => return Err(Error::MaxProvidedKeys),
        };
        record.addresses.retain(|address| address.len() <= MAX_TEXT_BYTES);
        record.addresses.truncate(addresses);
        // Kademlia tells of a provider without an address only where its routing table has one. A gateway listens on
        // nothing. Our own record, the one that does not expire, gets our addresses when it is told.
        let unlisted = *key == DhtKey::Members(Role::Gateway) && record.expires.is_some();
        if unlisted && record.addresses.is_empty() {
            record.addresses.push(Multiaddr::empty().with(Protocol::P2p(record.provider)));
        }
        let (now, provider) = (Instant::now(), record.provider);
        self.drop_from(&record.key, |stored| stored.provider == provider || stored.is_expired(now));
        if matches!(key, DhtKey::File(_)) && self.full(provider) {
            self.purge(now);
            if self.full(provider) {
                return Err(Error::MaxProvidedKeys);
            }
        }
        if self.of(&record.key).len() >= most {
            return Err(Error::MaxProvidedKeys);
        }
        if matches!(key, DhtKey::File(_)) {
            *self.files.entry(provider).or_default() += 1;
        }
        self.next_expiry = self.next_expiry.into_iter().chain(record.expires).min();
        self.keys.entry(record.key.clone()).or_default().push(record);
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &RecordKey, provider: &PeerId) {
        self.drop_from(key, |stored| stored.provider == *provider);
    }

    /// There is no room for one more file of this peer.
    fn full(&self, provider: PeerId) -> bool {
        let theirs = self.files.get(&provider).copied().unwrap_or_default();
        theirs >= MAX_FILES_PER_PEER || self.files.values().sum::<usize>() >= MAX_SEEDERS
    }

    fn purge(&mut self, now: Instant) {
        if self.next_expiry.is_none_or(|at| now < at) {
            return;
        }
        let keys: Vec<RecordKey> = self.keys.keys().cloned().collect();
        for key in &keys {
            self.drop_from(key, |stored| stored.is_expired(now));
        }
        self.next_expiry = self.keys.values().flatten().filter_map(|record| record.expires).min();
    }

    fn drop_from(&mut self, key: &RecordKey, gone: impl Fn(&ProviderRecord) -> bool) {
        let Some(providers) = self.keys.get_mut(key) else { return };
        // A key of this cluster that is no file's has a slash in it.
        let of_a_file = !key.as_ref().contains(&b'/');
        for record in providers.extract_if(.., |stored| gone(stored)) {
            if of_a_file && let Some(files) = self.files.get_mut(&record.provider) {
                *files -= 1;
                if *files == 0 {
                    self.files.remove(&record.provider);
                }
            }
        }
        if providers.is_empty() {
            self.keys.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn hash(number: usize) -> String {
        format!("{number:064x}")
    }

    fn record(key: &DhtKey, provider: PeerId) -> ProviderRecord {
        let key = RecordKey::new(&key.text("c"));
        ProviderRecord::new(key, provider, vec!["/memory/1".parse().unwrap(); 100])
    }

    #[test]
    fn providers_are_bounded_and_make_room_when_they_expire() {
        for (key, most, addresses) in [
            (DhtKey::Shard(0), MAX_PROVIDERS, MAX_ADDRESSES),
            (DhtKey::Members(Role::Spare), MAX_MEMBERS, MAX_ADDRESSES),
            (DhtKey::File(hash(1)), MAX_PROVIDERS, SEEDER_ADDRESSES),
        ] {
            let mut providers = Providers::default();
            let one = || record(&key, PeerId::random());
            let expired = ProviderRecord { expires: Some(Instant::now()), ..one() };
            let text = expired.key.clone();
            providers.add(&key, expired).unwrap();
            for _ in 0..most {
                providers.add(&key, one()).unwrap();
            }
            assert!(providers.add(&key, one()).is_err(), "{key:?}");
            // Who is in it may say so again.
            let again = providers.of(&text)[0].clone();
            providers.add(&key, again.clone()).unwrap();
            assert_eq!(providers.of(&text).len(), most);
            assert!(providers.of(&text).iter().all(|stored| stored.addresses.len() == addresses));
            providers.remove(&text, &again.provider);
            providers.add(&key, one()).unwrap();
        }
        for key in [DhtKey::Replica(0, "p".into()), DhtKey::Member(Role::Spare, "p".into())] {
            assert!(Providers::default().add(&key, record(&key, PeerId::random())).is_err(), "{key:?}");
        }
    }

    #[test]
    fn one_peer_has_its_share_of_the_files_and_all_have_theirs() {
        let mut providers = Providers::default();
        let mut add = |number: usize, provider, seconds| {
            let key = DhtKey::File(hash(number));
            let expires = Some(Instant::now() + Duration::from_secs(seconds));
            providers.add(&key, ProviderRecord { expires, ..record(&key, provider) })
        };
        let greedy = PeerId::random();
        for number in 0..MAX_FILES_PER_PEER {
            add(number, greedy, 60).unwrap();
        }
        assert!(add(MAX_FILES_PER_PEER, greedy, 60).is_err());
        add(0, greedy, 60).unwrap();
        add(MAX_FILES_PER_PEER, PeerId::random(), 60).unwrap();

        // Everybody together.
        let (mut number, mut peers) = (2 * MAX_FILES_PER_PEER, 0);
        'all: loop {
            let peer = PeerId::random();
            peers += 1;
            for _ in 0..MAX_FILES_PER_PEER {
                if add(number, peer, if peers == 1 { 0 } else { 60 }).is_err() {
                    break 'all;
                }
                number += 1;
            }
        }
        // The first of them had expired, and has been forgotten before anybody was refused.
        assert_eq!(number, 2 * MAX_FILES_PER_PEER + MAX_SEEDERS - 1);
        assert_eq!(providers.files.values().sum::<usize>(), MAX_SEEDERS);
        let all: Vec<_> = providers
            .keys
            .iter()
            .flat_map(|(key, all)| all.iter().map(move |one| (key.clone(), one.provider)))
            .collect();
        for (key, provider) in all {
            providers.remove(&key, &provider);
        }
        assert!(providers.files.is_empty() && providers.keys.is_empty());
    }
}
