//! An origin of another release under a fleet that serves: what its gateway makes of a plan of another wire version.

use std::fs::File;
use std::process::Stdio;
use std::sync::Arc;

use libp2p::identity::Keypair;
use serde_json::json;
use shard_node::library::{Library, plan_name};
use shard_node::net::{self, DhtMode, NetConfig};
use shard_node::torrent::serve::{Shelf, ShelfOptions};
use shard_wire::command::{OriginProgress, TorrentPlan, Torrents};
use shard_wire::message::Response;
use shard_wire::{frame, keys};
use tokio::runtime::Runtime;

use super::common::multiaddr;
use super::nodes::generate;
use super::plans::{origin, pipeline_when};
use super::process::{complete, split, until};
use super::{Folder, program};

/// What no release speaks.
const OTHER: u8 = 9;
const CLUSTER: &str = "llama-cluster";

/// Speaks as an origin of [`OTHER`] would, on this port of loopback: it runs as long as the runtime.
async fn origin_of_another_version(port: &str, folder: &Folder, incarnation: &str) -> String {
    let library = Library::open(&folder.0).unwrap();
    let plan = plan_name(&library.manifest, &library.sha256, OTHER);
    let identify = keys::identify(CLUSTER, None);
    let config = NetConfig::new(Keypair::generate_ed25519(), CLUSTER, identify, DhtMode::Server);
    let (network, mut requests) = net::spawn(config).unwrap();
    network.listen(multiaddr(&format!("/ip4/127.0.0.1/tcp/{port}"))).await.unwrap();
    let shelf = Shelf::new(ShelfOptions::default());
    shelf.serve(network.streams()).unwrap();
    shelf.offer(&library);
    shelf.offer_manifest(&plan, Arc::new(library.bytes));
    let origin = OriginProgress {
        percent: 100,
        wire_version: OTHER,
        incarnation: incarnation.to_owned(),
        ..OriginProgress::default()
    };
    let plans = vec![TorrentPlan { plan: plan.clone(), origin: true, seeders: Vec::new() }];
    let told = Torrents { files: Vec::new(), plans, origin: Some(origin) };
    tokio::spawn(async move {
        while let Some(inbound) = requests.recv().await {
            network.keep(inbound.peer, true).await;
            inbound.responder.send(Response::ok(inbound.request.request_id, json!(told))).await;
        }
    });
    plan
}

#[test]
fn a_plan_of_another_wire_version_is_described_and_not_served() {
    let old = origin(None, &["--shards", "2", "--incarnation", "first"]);
    let (_gateway, http) = old.gateway("tcp");
    let known = pipeline_when("the manifest is known", &http, |seen| seen["manifest"].is_object());
    assert_eq!(known["wire_version"], json!(frame::VERSION));
    let told = &known["origin"];
    assert_eq!((&told["wire_version"], &told["incarnation"]), (&json!(frame::VERSION), &json!("first")));
    let plan = known["plan"].as_str().unwrap().to_owned();
    let folders = ["foreign-0", "foreign-1"].map(Folder::new);
    let told = |folder, shard| old.node("tcp", folder, &["--shard-id", shard, "--plan", &plan]);
    let nodes = [told(&folders[0], "0"), told(&folders[1], "1")];
    complete(&http);
    let answer = generate(&http);

    let address = old.address.clone();
    drop(old);
    let (runtime, cut) = (Runtime::new().unwrap(), split("foreign-cut", "3"));
    let (_, port) = address.rsplit_once(':').unwrap();
    let foreign = runtime.block_on(origin_of_another_version(port, &cut, "second"));
    let seen =
        pipeline_when("its manifest is known", &http, |seen| seen["next_plan"]["manifest"].is_object());
    let told = &seen["origin"];
    assert_eq!((&told["wire_version"], &told["incarnation"]), (&json!(OTHER), &json!("second")));
    assert_eq!((&seen["plan"], &seen["pipeline_complete"]), (&json!(plan), &json!(true)), "{seen}");
    let next = &seen["next_plan"];
    assert_eq!(next["plan"], json!(foreign));
    assert_eq!(next["manifest"]["shards"].as_array().unwrap().len(), 3);
    assert_eq!(generate(&http), answer);

    // A node that may follow any origin says what is wrong, and nothing of it is taken.
    let spare = Folder::new("foreign-2");
    let (dir, log) = (spare.0.to_str().unwrap(), spare.0.join("log"));
    let mut follower = program("shard_listener");
    follower.args(["--listen-addr", "127.0.0.1", "--transport", "tcp", "--bootstrap", &address]);
    follower.args(["--shard-id", "1", "--shards-dir", dir]).stdout(Stdio::null());
    let mut follower = follower.stderr(File::create(&log).unwrap()).spawn().unwrap();
    let refusal = format!(
        "plan {foreign} is of wire version {OTHER}, this program speaks {}: run the release of its origin",
        frame::VERSION
    );
    until("it is refused", || std::fs::read_to_string(&log).unwrap().contains(&refusal));
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert!(!spare.0.join("manifest.json").exists());
    // The plan that is served goes: the gateway says what is missing of it, and why the other is not served.
    drop(nodes);
    let seen = pipeline_when("the loss is told", &http, |seen| seen["pipeline_complete"] == json!(false));
    assert_ne!(seen["plan"], json!(foreign), "{seen}");
}
