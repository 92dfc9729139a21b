//! Signs announcements and puts them where others find them.

use futures::future::{join, join_all, join3};
use libp2p::{Multiaddr, PeerId};
use shard_wire::announce::{MAX_ADDRESSES, ReplicaState, ShardAnnouncement, ShardInfo};
use shard_wire::keys::ShardKey;
use tokio::sync::oneshot;

use super::JoinerConfig;
use crate::net::{NetError, Network, signed};

/// How the announcement of each shard went.
pub(super) type Published = Vec<(ShardInfo, Result<(), NetError>)>;

pub(super) struct Publisher {
    pub(super) network: Network,
    pub(super) config: JoinerConfig,
}

/// A signed announcement and where it belongs.
struct Sealed {
    value: Vec<u8>,
    replica: String,
    shard: String,
}

impl Publisher {
    /// What there is to announce now.
    pub(super) fn shards(&self) -> Vec<ShardInfo> {
        self.config.shards.as_ref().map(|shards| shards.borrow().clone()).unwrap_or_default()
    }

    /// Publishes every shard. `first` hears as soon as the bootstraps have answered, which is enough to be found; the
    /// walk through the DHT goes on, and may wait for peers that are gone.
    pub(super) async fn publish(
        &self,
        shards: Vec<ShardInfo>,
        sequence: u64,
        bootstraps: Vec<PeerId>,
        first: oneshot::Sender<Published>,
    ) {
        let mut sealed = Vec::with_capacity(shards.len());
        for shard in &shards {
            sealed.push(self.seal(shard, sequence).await);
        }
        let told = async {
            let stored = sealed.iter().map(|sealed| async {
                match sealed {
                    Ok(sealed) => self.store(sealed, &bootstraps).await,
                    Err(reason) => Err(NetError::Dht(reason.clone())),
                }
            });
            let stored = join_all(stored).await;
            let _ = first.send(shards.iter().cloned().zip(stored).collect());
        };
        let spread = shards.iter().zip(&sealed).filter_map(|(shard, sealed)| {
            let sealed = sealed.as_ref().ok()?;
            Some(self.spread(shard.state, sealed, bootstraps.is_empty()))
        });
        join(told, join_all(spread)).await;
    }

    /// At every bootstrap; one is enough. Without any, wherever the DHT has a place.
    async fn store(&self, sealed: &Sealed, bootstraps: &[PeerId]) -> Result<(), NetError> {
        let Sealed { value, replica, shard } = sealed;
        if bootstraps.is_empty() {
            return self.network.put_record(replica.clone(), value.clone()).await;
        }
        let stores = bootstraps.iter().map(|peer| async {
            self.network.put_record_to(*peer, replica.clone(), value.clone()).await?;
            self.network.put_record_to(*peer, shard.clone(), value.clone()).await
        });
        let stored = join_all(stores).await;
        if stored.iter().any(Result::is_ok) { Ok(()) } else { stored.into_iter().collect() }
    }

    /// At the peers nearest to the keys, whoever they are.
    async fn spread(&self, state: ReplicaState, sealed: &Sealed, alone: bool) {
        let Sealed { value, replica, shard } = sealed;
        let provided = async {
            if state == ReplicaState::Left {
                self.network.stop_providing(shard.clone()).await;
                return Ok(());
            }
            self.network.provide(shard.clone()).await
        };
        let replica = self.network.put_record(replica.clone(), value.clone());
        let last = self.network.put_record(shard.clone(), value.clone());
        let (replica, last, provided) = join3(replica, last, provided).await;
        for error in [replica, last, provided].into_iter().filter_map(Result::err) {
            tracing::debug!(%error, alone, "an announcement did not spread");
        }
    }

    async fn seal(&self, shard: &ShardInfo, sequence: u64) -> Result<Sealed, String> {
        let snapshot = self.network.snapshot().await.map_err(|error| error.to_string())?;
        let texts = |addresses: Vec<Multiaddr>| {
            addresses.iter().take(MAX_ADDRESSES).map(ToString::to_string).collect::<Vec<_>>()
        };
        let peer_id = self.network.local_peer().to_string();
        let cluster = &self.config.cluster;
        let announcement = ShardAnnouncement {
            cluster: cluster.clone(),
            peer_id: peer_id.clone(),
            incarnation: self.config.incarnation,
            listen_addresses: texts(snapshot.listen_addresses),
            external_addresses: texts(snapshot.external_addresses),
            shard: shard.clone(),
        };
        let value =
            signed::seal(&self.config.keypair, sequence, &announcement).map_err(|error| error.to_string())?;
        let replica = ShardKey::Replica(shard.shard_id, peer_id).text(cluster);
        Ok(Sealed { value, replica, shard: ShardKey::Shard(shard.shard_id).text(cluster) })
    }
}
