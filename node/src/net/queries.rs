//! DHT queries under way, and who waits for each.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::kad::{
    self, GetProvidersOk, GetRecordError, GetRecordOk, PeerInfo, PutRecordError, QueryId, QueryResult,
    Quorum, Record, RecordKey,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use super::event_loop::MAX_PENDING;
use super::records::RecordTable;
use super::{NetError, NetEvent, Reply};

type Kademlia = kad::Behaviour<RecordTable>;

/// Queries that came to nothing and are told, in a time: who waits for a node to announce itself asks often.
const TOLD: u32 = 8;
const TOLD_IN: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Queries {
    pending: HashMap<QueryId, Waiting>,
    told_since: Option<Instant>,
    told: u32,
}

/// Who waits for a query.
enum Waiting {
    Stored(Reply<()>),
    Records(mpsc::Sender<Vec<u8>>),
    Providers(mpsc::Sender<PeerId>),
    Address { of: PeerId, reply: Reply<Vec<Multiaddr>> },
}

impl Queries {
    pub(super) fn put(
        &mut self,
        kad: &mut Kademlia,
        key: &str,
        value: Vec<u8>,
        to: Option<PeerId>,
        reply: Reply<()>,
    ) {
        if self.full() {
            let _ = reply.send(Err(NetError::Busy(MAX_PENDING)));
            return;
        }
        let record = Record::new(RecordKey::new(&key), value);
        let query = match to {
            Some(peer) => Ok(kad.put_record_to(record, std::iter::once(peer), Quorum::One)),
            None => kad.put_record(record, Quorum::One),
        };
        self.stored(query, reply);
    }

    pub(super) fn provide(&mut self, kad: &mut Kademlia, key: &str, reply: Reply<()>) {
        if self.full() {
            let _ = reply.send(Err(NetError::Busy(MAX_PENDING)));
            return;
        }
        let query = kad.start_providing(RecordKey::new(&key));
        self.stored(query, reply);
    }

    /// Over the limit the lookup finds nothing: its sender is dropped.
    pub(super) fn get_records(&mut self, kad: &mut Kademlia, key: &str, found: mpsc::Sender<Vec<u8>>) {
        if !self.full() {
            self.pending.insert(kad.get_record(RecordKey::new(&key)), Waiting::Records(found));
        }
    }

    /// As [`Self::get_records`].
    pub(super) fn get_providers(&mut self, kad: &mut Kademlia, key: &str, found: mpsc::Sender<PeerId>) {
        if !self.full() {
            self.pending.insert(kad.get_providers(RecordKey::new(&key)), Waiting::Providers(found));
        }
    }

    pub(super) fn find(&mut self, kad: &mut Kademlia, peer: PeerId, reply: Reply<Vec<Multiaddr>>) {
        if self.full() {
            let _ = reply.send(Err(NetError::Busy(MAX_PENDING)));
            return;
        }
        self.pending.insert(kad.get_closest_peers(peer), Waiting::Address { of: peer, reply });
    }

    /// Passes on what a query found or how it ended.
    pub(super) fn on_progress(
        &mut self,
        kad: &mut Kademlia,
        id: QueryId,
        result: QueryResult,
        last: bool,
    ) -> Option<NetEvent> {
        let mut event = None;
        match (result, self.pending.get(&id)) {
            (QueryResult::Bootstrap(_), _) => {
                return last.then_some(NetEvent::Bootstrapped { query: number(id) });
            }
            (QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))), Some(Waiting::Records(to))) => {
                // A reader that is far behind misses a copy, not a record: every replica has several.
                let _ = to.try_send(found.record.value);
            }
            (
                QueryResult::GetRecord(Err(GetRecordError::NotFound { key, .. })),
                Some(Waiting::Records(_)),
            ) => {
                event =
                    self.worth_telling().then(|| NetEvent::NotFound { query: number(id), key: named(&key) });
            }
            (
                QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })),
                Some(Waiting::Providers(to)),
            ) => {
                for peer in providers {
                    let _ = to.try_send(peer);
                }
            }
            (QueryResult::PutRecord(result), Some(Waiting::Stored(_))) => {
                if let Err(
                    PutRecordError::QuorumFailed { key, success, quorum }
                    | PutRecordError::Timeout { key, success, quorum },
                ) = &result
                {
                    let (stored, quorum) = (success.len(), quorum.get());
                    event = self.worth_telling().then(|| NetEvent::QuorumFailed {
                        query: number(id),
                        key: named(key),
                        stored,
                        quorum,
                    });
                }
                self.finish(id, result.map(drop).map_err(|error| error.to_string()));
            }
            (QueryResult::StartProviding(result), Some(Waiting::Stored(_))) => {
                self.finish(id, result.map(drop).map_err(|error| error.to_string()));
            }
            (QueryResult::GetClosestPeers(result), Some(Waiting::Address { .. })) => {
                self.found(id, result.map(|ok| ok.peers).unwrap_or_default());
            }
            _ => {}
        }
        if last {
            self.pending.remove(&id);
        } else if self.abandoned(id) {
            self.pending.remove(&id);
            if let Some(mut query) = kad.query_mut(&id) {
                query.finish();
            }
        }
        event
    }

    fn worth_telling(&mut self) -> bool {
        let now = Instant::now();
        if self.told_since.is_none_or(|since| now - since >= TOLD_IN) {
            (self.told_since, self.told) = (Some(now), 0);
        }
        self.told += 1;
        self.told <= TOLD
    }

    fn full(&self) -> bool {
        self.pending.len() >= MAX_PENDING
    }

    fn abandoned(&self, id: QueryId) -> bool {
        match self.pending.get(&id) {
            Some(Waiting::Records(to)) => to.is_closed(),
            Some(Waiting::Providers(to)) => to.is_closed(),
            Some(Waiting::Stored(_) | Waiting::Address { .. }) | None => false,
        }
    }

    fn stored(&mut self, query: Result<QueryId, kad::store::Error>, reply: Reply<()>) {
        match query {
            Ok(id) => {
                self.pending.insert(id, Waiting::Stored(reply));
            }
            Err(error) => {
                let _ = reply.send(Err(NetError::Dht(format!("our own store refuses it: {error}"))));
            }
        }
    }

    fn finish(&mut self, id: QueryId, result: Result<(), String>) {
        if let Some(Waiting::Stored(reply)) = self.pending.remove(&id) {
            let _ = reply.send(result.map_err(NetError::Dht));
        }
    }

    fn found(&mut self, id: QueryId, peers: Vec<PeerInfo>) {
        if let Some(Waiting::Address { of, reply }) = self.pending.remove(&id) {
            let found = peers.into_iter().find(|info| info.peer_id == of);
            let _ = reply.send(Ok(found.map(|info| info.addrs).unwrap_or_default()));
        }
    }
}

/// Kademlia shows the number of a query only as text.
fn number(id: QueryId) -> u64 {
    id.to_string().parse().unwrap_or_default()
}

fn named(key: &RecordKey) -> String {
    String::from_utf8_lossy(key.as_ref()).into_owned()
}
