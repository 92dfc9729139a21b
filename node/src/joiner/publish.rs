//! Signs announcements and puts them where others find them.
//!
//! ```text
//!  first  every bootstrap, directly   who looks there finds it: enough to be found
//!  then   the peers nearest the key   a walk through the DHT, which may wait for peers that are gone
//! ```

use std::sync::Arc;
use std::time::Duration;

use futures::future::{join, join_all, join3};
use futures::{StreamExt, stream};
use libp2p::{Multiaddr, PeerId};
use shard_wire::announce::{
    FileAnnouncement, FileInfo, MAX_ADDRESSES, MemberAnnouncement, MemberInfo, Payload, ReplicaState,
    ShardAnnouncement, ShardInfo,
};
use shard_wire::keys::DhtKey;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::JoinerConfig;
use crate::net::{NetError, Network, signed};

/// Files that are registered at once: with two queries each far from the 32 streams to one peer beyond which Kademlia
/// drops them.
const FILES: usize = 6;
/// One walk for a file ends by then: what it has reached is what there is.
const WALK: Duration = Duration::from_secs(20);

/// What an announcement says.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Shard(ShardInfo),
    Member { member: MemberInfo, left: bool },
}

/// How each announcement went.
pub(super) type Published = Vec<(Said, Result<(), NetError>)>;

/// How the registration of each file went.
pub(super) type Registered = Vec<(FileInfo, Result<(), String>)>;

pub(super) struct Publisher {
    pub(super) network: Network,
    pub(super) config: JoinerConfig,
}

/// A signed record and where it belongs.
struct Sealed {
    value: Vec<u8>,
    /// The first is its own, and the others are those that the last writer has.
    keys: Vec<String>,
    provided: String,
    left: bool,
}

impl Publisher {
    /// Shards to announce now.
    pub(super) fn shards(&self) -> Vec<ShardInfo> {
        self.config.shards.as_ref().map(|shards| shards.borrow().clone()).unwrap_or_default()
    }

    /// What else we are now.
    pub(super) fn member(&self) -> Option<MemberInfo> {
        self.config.member.as_ref().and_then(|member| member.borrow().clone())
    }

    /// Files to register now.
    pub(super) fn files(&self) -> Vec<FileInfo> {
        self.config.files.as_ref().map(|files| files.borrow().clone()).unwrap_or_default()
    }

    /// Publishes all. `first` hears as soon as the bootstraps have answered; the walk through the DHT goes on.
    pub(super) async fn publish(
        &self,
        said: Vec<Said>,
        sequence: u64,
        bootstraps: Vec<PeerId>,
        first: oneshot::Sender<Published>,
    ) {
        let mut sealed = Vec::with_capacity(said.len());
        for said in &said {
            sealed.push(self.seal(said, sequence).await);
        }
        let told = async {
            let stored = sealed.iter().map(|sealed| async {
                match sealed {
                    Ok(sealed) => self.store(sealed, &bootstraps).await,
                    Err(reason) => Err(NetError::Dht(reason.clone())),
                }
            });
            let stored = join_all(stored).await;
            let _ = first.send(said.iter().cloned().zip(stored).collect());
        };
        let spread = sealed.iter().filter_map(|sealed| Some(self.spread(sealed.as_ref().ok()?)));
        join(told, join_all(spread)).await;
    }

    /// Registers files: a record and ourselves as provider, for each. Returns when the bootstraps have the records.
    pub(super) async fn register(
        self: &Arc<Self>,
        files: Vec<FileInfo>,
        sequence: u64,
        bootstraps: Vec<PeerId>,
    ) -> Registered {
        let bootstraps = &bootstraps;
        let stored = stream::iter(files).map(|file| async move {
            let sealed = self.seal_file(&file, sequence);
            let result = match &sealed {
                Ok(sealed) => self.store(sealed, bootstraps).await.map_err(|error| error.to_string()),
                Err(reason) => Err(reason.clone()),
            };
            ((file, result), sealed.ok())
        });
        let (registered, sealed): (Registered, Vec<_>) = stored.buffered(FILES).unzip().await;
        let publisher = Arc::clone(self);
        tokio::spawn(async move {
            let publisher = &publisher;
            let walks =
                stream::iter(sealed.into_iter().flatten()).for_each_concurrent(FILES, |sealed| async move {
                    if timeout(WALK, publisher.spread(&sealed)).await.is_err() {
                        tracing::debug!(
                            key = sealed.keys.first(),
                            "the walk for a file's record took too long"
                        );
                    }
                });
            walks.await;
        });
        registered
    }

    /// Provides files no longer.
    pub(super) async fn withdraw(&self, files: &[FileInfo]) {
        for file in files {
            let key = DhtKey::File(file.info_hash.clone()).text(&self.config.cluster);
            self.network.stop_providing(key.clone()).await;
            self.network.remove_record(key).await;
        }
    }

    /// At every bootstrap; one is enough. Without any, wherever the DHT has a place.
    async fn store(&self, sealed: &Sealed, bootstraps: &[PeerId]) -> Result<(), NetError> {
        let Sealed { value, keys, .. } = sealed;
        if bootstraps.is_empty() {
            let Some(own) = keys.first() else { return Ok(()) };
            return self.network.put_record(own.clone(), value.clone()).await;
        }
        let stores = bootstraps.iter().map(|peer| async {
            for key in keys {
                self.network.put_record_to(*peer, key.clone(), value.clone()).await?;
            }
            Ok(())
        });
        let stored: Vec<Result<(), NetError>> = join_all(stores).await;
        if stored.iter().any(Result::is_ok) { Ok(()) } else { stored.into_iter().collect() }
    }

    /// At the peers nearest to the keys, whoever they are.
    async fn spread(&self, sealed: &Sealed) {
        let Sealed { value, keys, provided, left } = sealed;
        let provided = async {
            if *left {
                self.network.stop_providing(provided.clone()).await;
                return Ok(());
            }
            self.network.provide(provided.clone()).await
        };
        let put = |key: Option<&String>| {
            let put = key.map(|key| self.network.put_record(key.clone(), value.clone()));
            async move { if let Some(put) = put { put.await } else { Ok(()) } }
        };
        let (own, last, provided) = join3(put(keys.first()), put(keys.get(1)), provided).await;
        for error in [own, last, provided].into_iter().filter_map(Result::err) {
            tracing::debug!(%error, key = keys.first(), "an announcement did not spread");
        }
    }

    async fn seal(&self, said: &Said, sequence: u64) -> Result<Sealed, String> {
        let snapshot = self.network.snapshot().await.map_err(|error| error.to_string())?;
        let texts = |addresses: Vec<Multiaddr>| {
            addresses.iter().take(MAX_ADDRESSES).map(ToString::to_string).collect::<Vec<_>>()
        };
        let peer_id = self.network.local_peer().to_string();
        let cluster = self.config.cluster.clone();
        let incarnation = self.config.incarnation;
        let (listen_addresses, external_addresses) =
            (texts(snapshot.listen_addresses), texts(snapshot.external_addresses));
        match said {
            Said::Shard(shard) => {
                let own = DhtKey::Replica(shard.shard_id, peer_id.clone()).text(&cluster);
                let all = DhtKey::Shard(shard.shard_id).text(&cluster);
                let left = shard.state == ReplicaState::Left;
                let shard = shard.clone();
                let announcement = ShardAnnouncement {
                    cluster,
                    peer_id,
                    incarnation,
                    listen_addresses,
                    external_addresses,
                    shard,
                };
                let value = self.sign(sequence, &announcement)?;
                Ok(Sealed { value, keys: vec![own, all.clone()], provided: all, left })
            }
            Said::Member { member, left } => {
                let own = DhtKey::Member(member.role, peer_id.clone()).text(&cluster);
                let all = DhtKey::Members(member.role).text(&cluster);
                let announcement = MemberAnnouncement {
                    cluster,
                    peer_id,
                    incarnation,
                    listen_addresses,
                    external_addresses,
                    left: *left,
                    member: member.clone(),
                };
                let value = self.sign(sequence, &announcement)?;
                Ok(Sealed { value, keys: vec![own], provided: all, left: *left })
            }
        }
    }

    fn seal_file(&self, file: &FileInfo, sequence: u64) -> Result<Sealed, String> {
        let cluster = self.config.cluster.clone();
        let key = DhtKey::File(file.info_hash.clone()).text(&cluster);
        let peer_id = self.network.local_peer().to_string();
        let value = self.sign(sequence, &FileAnnouncement { cluster, peer_id, file: file.clone() })?;
        Ok(Sealed { value, keys: vec![key.clone()], provided: key, left: false })
    }

    fn sign(&self, sequence: u64, announcement: &impl Payload) -> Result<Vec<u8>, String> {
        signed::seal(&self.config.keypair, self.network.secrets(), sequence, announcement)
            .map_err(|error| error.to_string())
    }
}
