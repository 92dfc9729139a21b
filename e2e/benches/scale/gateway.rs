//! One server for the gateways of all ShardClusters: every one has four shards of the same model.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::Query;
use axum::routing::get;
use axum::{Json, Router};
use shard_wire::contract::HTTP_PORT;
use shard_wire::pipeline::{ManifestShard, ManifestSummary, PATH, PipelineStatus};
use tokio::net::TcpListener;

use crate::fleet::SHARDS;

const REVISION: &str = "1-1";

/// Where pods are said to be.
pub(crate) async fn serve() {
    let listener = TcpListener::bind(("127.0.0.1", HTTP_PORT)).await.unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().route(PATH, get(answer))).await });
}

/// Nothing changes: whoever knows that waits.
async fn answer(Query(query): Query<HashMap<String, String>>) -> Json<PipelineStatus> {
    if query.get("since").is_some_and(|since| since == REVISION) {
        let seconds = query.get("wait").and_then(|wait| wait.parse().ok()).unwrap();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
    let shard = |id| ManifestShard {
        shard_id: id,
        start: 8 * id,
        end: 8 * id + 8,
        weight_bytes: 1 << 30,
        kv_bytes_per_token: 16384,
    };
    Json(PipelineStatus {
        revision: REVISION.into(),
        plan: "1a2b3c4d5e6f7081".into(),
        model_sha256: "ab".repeat(32),
        model_bytes: 4 << 30,
        total_layers: 8 * SHARDS,
        expected_shards: SHARDS,
        manifest: Some(ManifestSummary {
            manifest_sha256: "cd".repeat(32),
            layer_starts: (0..SHARDS).map(|id| 8 * id).collect(),
            shards: (0..SHARDS).map(shard).collect(),
        }),
        ..PipelineStatus::default()
    })
}
