//! What a node's diagnostics say.

use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use shard_wire::announce::ShardInfo;

use super::status::Reporter;
use crate::commands::Commands;
use crate::diagnostics::Subject;
use crate::files;
use crate::net::Network;
use crate::torrent::serve::Shelf;

/// A forward that takes longer is an engine that hangs.
const HANGS: Duration = Duration::from_secs(60);

/// A node, as diagnostics see it.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) network: Network,
    pub(super) commands: Commands,
    pub(super) reporter: Reporter,
    pub(super) shelf: Shelf,
}

impl Subject for Node {
    async fn alive(&self) -> Result<(), String> {
        self.network.snapshot().await.map_err(|error| error.to_string())?;
        let busy = self.commands.stages.busy_for();
        if busy > HANGS { Err(format!("the engine has been in one forward for {busy:?}")) } else { Ok(()) }
    }

    async fn ready(&self) -> Result<(), String> {
        let snapshot = self.network.snapshot().await.map_err(|error| error.to_string())?;
        if snapshot.peers.is_empty() {
            return Err("no peer is connected".into());
        }
        let announced = self.commands.announced.borrow();
        match announced.iter().find(|shard| !shard.serves()) {
            Some(ShardInfo { shard_id, state, .. }) => Err(format!("shard {shard_id} is {state:?}")),
            None => Ok(()),
        }
    }

    async fn status(&self) -> Value {
        let snapshot = self.network.snapshot().await.unwrap_or_default();
        json!({
            "program": "shard_listener",
            "peer_id": self.commands.peer_id,
            "shards": *self.commands.announced.borrow(),
            "metrics": self.commands.metrics(),
            "report": self.reporter.now(),
            "served": files::served(&self.shelf),
            "listen_addresses": snapshot.listen_addresses,
            "peers": snapshot.peers.len(),
        })
    }

    async fn metrics(&self) -> Registry {
        let mut registry = Registry::with_prefix("shardcluster_node");
        let status = self.commands.stages.status();
        let drops = status.drops;
        let values = [
            ("sessions_active", "Slots that are taken", status.active as u64),
            ("sessions_admitted", "Sessions that were admitted", status.total),
            ("forwards", "Forwards that ended", status.forwards),
            ("forwards_failed", "Forwards that failed", status.failed),
            ("rows", "Rows of the forwards", status.rows),
            ("busy_microseconds", "Time in forwards", status.busy_us),
            (
                "frames_dropped",
                "Frames that were dropped",
                drops.unknown + drops.epoch + drops.sender + drops.position,
            ),
        ];
        for (name, help, value) in values {
            let gauge: Gauge = Gauge::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            registry.register(name, help, gauge);
        }
        registry
    }
}
