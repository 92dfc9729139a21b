//! Nodes by flags: what they do without their files, and the commands that change what they serve.

use serde_json::{Value, json};

use super::process::{Bootstrap, complete, get, split, until};
use super::{Folder, run, text};

const PROMPT: &str = "Once upon a time";

pub(crate) fn generate(http: &str) -> String {
    let url = format!("http://127.0.0.1:{http}");
    let ask = ["generate", "--url", &url, "--prompt", PROMPT, "--temperature", "0", "--max-tokens", "24"];
    let output = run("shardctl", &ask);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn code(response: &Value) -> &str {
    response["error"]["code"].as_str().unwrap_or("none")
}

fn shards(node: &super::process::Node) -> Vec<(u64, String)> {
    let response = node.call("GET_CAPABILITIES", "{}");
    let shard =
        |shard: &Value| (shard["shard_id"].as_u64().unwrap(), shard["state"].as_str().unwrap().to_owned());
    response["data"]["shards"].as_array().unwrap().iter().map(shard).collect()
}

#[test]
fn a_shard_is_added_and_moved_by_command_while_the_node_runs() {
    let files = split("load-shard", "3");
    let bootstrap = Bootstrap::start("tcp", &[]);
    let node = bootstrap.node("tcp", &files, &["--shard-id", "0"]);
    node.process.says("Announced shard 0 to DHT");
    let (_gateway, http) = bootstrap.gateway("tcp");

    let loaded = node.call("LOAD_SHARD", r#"{"shard_id":2}"#);
    assert_eq!(loaded["data"]["state"], "ready", "{loaded}");
    let spare = bootstrap.node("tcp", &files, &[]);
    spare.process.says("Shard listener started!");
    assert_eq!(shards(&spare), []);
    let loaded = spare.call("LOAD_SHARD", r#"{"shard_id":1}"#);
    assert_eq!(loaded["data"]["state"], "ready", "{loaded}");
    node.process.says("Announced shard 2 to DHT");
    spare.process.says("Announced shard 1 to DHT");
    // The route passes the first node twice.
    complete(&http);
    let answer = generate(&http);

    let moved = spare.call("LOAD_SHARD", r#"{"shard_id":2,"replace":true}"#);
    assert_eq!(moved["data"]["state"], "ready", "{moved}");
    assert_eq!(shards(&spare), [(2, "ready".to_owned())]);
    let missing = "has no replica";
    until("shard 1 is missed", || get(&http, "/api/v1/pipeline", missing).contains(missing));
    node.call("LOAD_SHARD", r#"{"shard_id":1}"#);
    complete(&http);
    assert_eq!(generate(&http), answer);
    let metrics = node.call("GET_METRICS", "{}");
    assert_eq!(metrics["data"]["requests"]["failed"], 0, "{metrics}");
    assert!(metrics["data"]["requests"]["successful"].as_u64().unwrap() >= 2, "{metrics}");
}

#[test]
fn a_command_that_cannot_be_carried_out_says_why() {
    let files = split("commands", "2");
    let bootstrap = Bootstrap::start("tcp", &[]);
    let node = bootstrap.node("tcp", &files, &["--shard-id", "0"]);
    node.process.says("Announced shard 0 to DHT");
    let table = [
        ("REBOOT", "{}", "unknown_command", "LOAD_SHARD"),
        ("LOAD_SHARD", "{}", "bad_params", "shard_id"),
        ("LOAD_SHARD", r#"{"shard_id":2}"#, "out_of_range", "shard 2 of a plan of 2 shards"),
        ("LOAD_SHARD", r#"{"shard_id":1,"plan":"other"}"#, "bad_params", "not of other"),
        ("LIST_FILES", r#"{"name":"shard-9.gguf"}"#, "not_found", "shard-9.gguf"),
        ("INFERENCE", r#"{"prompt":"Hi","max_tokens":1}"#, "unavailable", "the pipeline is incomplete"),
    ];
    for (command, params, expected, words) in table {
        let response = node.call(command, params);
        assert_eq!(code(&response), expected, "{command} {params}: {response}");
        assert!(response["error"]["message"].as_str().unwrap().contains(words), "{response}");
        assert_eq!(response["request_id"], "shardctl");
    }
    std::fs::remove_file(files.0.join("shard-1.gguf")).unwrap();
    let response = node.call("LOAD_SHARD", r#"{"shard_id":1}"#);
    assert!(["not_found", "failed"].contains(&code(&response)), "{response}");
    assert!(response["error"]["message"].as_str().unwrap().contains("shard-1.gguf"), "{response}");
}

#[test]
fn a_node_without_its_file_joins_all_the_same_and_is_not_ready() {
    let files = split("no-file", "2");
    std::fs::remove_file(files.0.join("shard-1.gguf")).unwrap();
    let bootstrap = Bootstrap::start("tcp", &[]);
    let node = bootstrap.node("tcp", &files, &["--shard-id", "1"]);
    node.process.says("Announced shard 1 to DHT");
    assert!(get(&node.diagnostics, "/readyz", "shard 1").contains("503"));
    assert!(get(&node.diagnostics, "/healthz", "ok").contains("200"));

    let empty = Folder::new("no-manifest");
    let other = bootstrap.node("tcp", &empty, &["--shard-id", "0"]);
    // The plan comes from the first node, whose manifest names it; the file is nowhere.
    let manifest = empty.0.join("manifest.json");
    until("the manifest is fetched", || manifest.is_file());
    let same = |folder: &Folder| std::fs::read(folder.0.join("manifest.json")).unwrap();
    assert_eq!(same(&empty), same(&files));
    other.process.says("Announced shard 0 to DHT");
}

#[test]
fn bootstraps_come_and_go_and_the_node_finds_its_way_back() {
    let files = split("bootstraps", "1");
    let (first, second) = (Bootstrap::start("tcp", &[]), Bootstrap::start("tcp", &[]));
    let address = first.address.clone();
    let node = first.node("tcp", &files, &["--shard-id", "0", "--bootstrap", &second.address]);
    node.process.says("Announced shard 0 to DHT");
    // Whoever joins by the other one finds the shard as well.
    let (_gateway, http) = second.gateway("tcp");
    complete(&http);

    drop((first, second));
    node.process.says("No bootstrap node answered");
    let back = Bootstrap::at(&address, "tcp", &[]);
    let (_gateway, http) = back.gateway("tcp");
    complete(&http);
}

#[test]
fn a_bootstrap_is_found_by_name_and_over_ipv6() {
    let files = split("names", "1");
    for (listen, dial) in [("[::1]", "[::1]"), ("127.0.0.1", "localhost"), ("[::1]", "/dns6/localhost")] {
        let port = super::process::free_port();
        let mut bootstrap = Bootstrap::at(&format!("{listen}:{port}"), "dual", &[]);
        bootstrap.address =
            if dial.starts_with('/') { format!("{dial}/tcp/{port}") } else { format!("{dial}:{port}") };
        let node = bootstrap.node("dual", &files, &["--shard-id", "0"]);
        node.process.says("Announced shard 0 to DHT");
    }
}

/// The operator starts no shard before it knows how much memory one needs.
#[test]
fn a_gateway_knows_the_plan_of_an_origin_before_anybody_serves_it() {
    let model = super::default_model();
    let bootstrap =
        Bootstrap::start("tcp", &["--model-source", model.to_str().unwrap(), "--layers", "0,3,5"]);
    let (_gateway, http) = bootstrap.gateway("tcp");
    let mut pipeline = Value::Null;
    until("the gateway knows the manifest", || {
        let answer = get(&http, "/api/v1/pipeline", "]}");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        pipeline = serde_json::from_str(body).unwrap_or_default();
        pipeline["manifest"].is_object()
    });
    assert_eq!(pipeline["origin"]["percent"], 100.0, "{pipeline}");
    assert_eq!(pipeline["origin"]["bytes"], model.metadata().unwrap().len(), "{pipeline}");
    assert_eq!(
        (&pipeline["total_layers"], &pipeline["expected_shards"]),
        (&json!(8), &json!(3)),
        "{pipeline}"
    );
    assert_eq!(pipeline["missing_layers"], json!([{"start": 0, "end": 8}]), "{pipeline}");
    assert_eq!(pipeline["manifest"]["layer_starts"], json!([0, 3, 5]), "{pipeline}");
    assert!(pipeline["manifest"]["shards"][2]["weight_bytes"].as_u64() > Some(1 << 20), "{pipeline}");
    assert_eq!(pipeline["shards"][1]["layers"], json!({"start": 3, "end": 5}), "{pipeline}");
    assert_eq!(
        (&pipeline["pipeline_complete"], &pipeline["reason"]),
        (&json!(false), &json!("no shard has announced itself"))
    );
}

#[test]
fn empty_nodes_get_their_shards_from_an_origin_and_from_one_another() {
    let model = super::default_model();
    let kept = Folder::new("origin");
    let source = ["--model-source", model.to_str().unwrap(), "--shards", "2", "--shards-dir"];
    let bootstrap = Bootstrap::start("tcp", &[&source[..], &[kept.0.to_str().unwrap()]].concat());
    let folders = ["empty-0", "empty-1", "empty-all"].map(Folder::new);
    let nodes = [
        bootstrap.node("tcp", &folders[0], &["--shard-id", "0"]),
        bootstrap.node("tcp", &folders[1], &["--shard-id", "1"]),
    ];
    for node in &nodes {
        let said = node.process.says("LOADED ✓✓✓");
        assert!(said.contains("NOT FOUND LOCALLY") && said.contains("downloaded from peers"), "{said}");
    }
    let (_gateway, http) = bootstrap.gateway("tcp");
    complete(&http);
    let answer = generate(&http);
    assert!(answer.split_whitespace().count() > 10, "{answer}");

    // A third one wants everything, and finds it on the nodes as well.
    let all = bootstrap.node("tcp", &folders[2], &["--replicate", "all"]);
    let whole = |name: &str| folders[2].0.join(name).is_file();
    until("every file is here", || {
        ["shard-0.gguf", "shard-1.gguf", "tokenizer.gguf"].iter().all(|n| whole(n))
    });
    until("they are listed", || {
        all.call("LIST_FILES", "{}")["data"]["files"].as_array().is_some_and(|files| files.len() == 3)
    });
}

#[test]
fn a_fleet_of_nothing_but_spares_comes_up_by_itself_and_replaces_who_is_gone() {
    let model = super::default_model();
    let kept = Folder::new("origin-of-spares");
    let source = ["--model-source", model.to_str().unwrap(), "--shards", "2", "--shards-dir"];
    let bootstrap = Bootstrap::start("tcp", &[&source[..], &[kept.0.to_str().unwrap()]].concat());
    let folders = ["spare-0", "spare-1", "spare-2"].map(Folder::new);
    let mut nodes: Vec<_> = folders.iter().map(|folder| bootstrap.node("tcp", folder, &[])).collect();
    let (_gateway, http) = bootstrap.gateway_with("tcp", &["--recovery-timeout", "2"]);
    complete(&http);
    let answer = generate(&http);

    let serving = nodes.iter().position(|node| !shards(node).is_empty()).unwrap();
    drop(nodes.remove(serving));
    until("the loss is seen", || !get(&http, "/api/v1/pipeline", "x").contains("\"pipeline_complete\":true"));
    complete(&http);
    assert_eq!(generate(&http), answer);
}

/// In Kubernetes policies know one port only.
#[test]
fn a_gateway_with_a_port_is_reached_at_it() {
    let bootstrap = Bootstrap::start("dual", &[]);
    let port = super::process::free_port();
    let (gateway, _) = bootstrap.gateway_with("dual", &["--port", &port]);
    gateway.says("Gateway started!");
    for transport in ["tcp", "quic"] {
        let address = format!("127.0.0.1:{port}");
        let call = ["call", &address, "LIST_FILES", "{}", "--transport", transport, "--output", "json"];
        let answer = text(&run("shardctl", &call).stdout);
        assert!(answer.contains("this is a gateway: it serves no shard"), "{transport}: {answer}");
    }
    let taken = run(
        "web_server",
        &["--listen-addr", "127.0.0.1", "--http-port", &super::process::free_port(), "--port", &port],
    );
    assert_eq!(taken.status.code(), Some(1));
    let error = text(&taken.stderr);
    assert!(error.contains(&port) && error.contains("give another one with --port"), "{error}");
}
