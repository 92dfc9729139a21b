//! One plan after another: folders of an older plan, and a fleet that goes over to a new one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::nodes::generate;
use super::process::{Bootstrap, complete, free_port, get, split, until};
use super::{Folder, default_model};

pub(crate) fn origin(address: Option<&str>, cut: &[&str]) -> Bootstrap {
    let model = default_model();
    let more = [&["--model-source", model.to_str().unwrap()], cut].concat();
    let anywhere = format!("127.0.0.1:{}", free_port());
    Bootstrap::at(address.unwrap_or(&anywhere), "tcp", &more)
}

fn pipeline(http: &str, query: &str) -> Value {
    let answer = get(http, &format!("/api/v1/pipeline{query}"), "\0");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or_default()
}

/// The pipeline, once it is as wanted.
pub(crate) fn pipeline_when(what: &str, http: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut seen = Value::Null;
    until(what, || {
        seen = pipeline(http, "");
        wanted(&seen)
    });
    seen
}

fn names(folder: &Folder) -> Vec<String> {
    let entries = std::fs::read_dir(&folder.0).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

/// Ends what runs beside a test, also where that fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A volume that is kept while the plan changes: by shard count, by what the node is told, by which plan it is told.
#[test]
fn a_folder_of_an_older_plan_is_as_good_as_empty() {
    let bootstrap = origin(None, &["--shards", "8"]);
    for (more, why) in [
        (&["--shard-id", "5"][..], "--shard-id says 5, the manifest has 4 shards: ids go from 0 to 3"),
        (&["--shard-id", "3", "--total-shards", "8"], "--total-shards says 8, the manifest says 4"),
    ] {
        let folder = split("older-plan", "4");
        let node = bootstrap.node("tcp", &folder, more);
        let said = node.process.says("LOADED ✓✓✓");
        assert!(said.contains("[PLAN]") && said.contains(&format!("is not used: {why}")), "{said}");
        // Nothing of the four is left beside what the node needs of the eight.
        node.process.says("[PLAN] Removed shard-0.gguf");
        let own = format!("shard-{}.gguf", more[1]);
        until("the old manifest is gone", || names(&folder) == ["manifest.json", &own, "tokenizer.gguf"]);
        let files = node.call("LIST_FILES", "{}")["data"]["files"].as_array().unwrap().len();
        assert_eq!(files, 2, "what is gone is not given");
        until("it is ready", || get(&node.diagnostics, "/readyz", "\0").contains("200 OK"));
    }
}

/// A value that no plan has: the node stays, says so, and takes nothing else.
#[test]
fn a_node_waits_for_a_plan_that_fits() {
    let bootstrap = origin(None, &["--shards", "2"]);
    let folder = split("no-plan-fits", "2");
    let before = names(&folder);
    let node = bootstrap.node("tcp", &folder, &["--shard-id", "0", "--total-layers", "9"]);
    node.process.says("is not used: --total-layers says 9, the manifest says 8: leave the flag out");
    node.process.says("Announced shard 0 to DHT");
    assert!(get(&node.diagnostics, "/readyz", "\0").contains("shard 0 is Joining"));
    assert!(get(&node.diagnostics, "/healthz", "\0").contains("200 OK"));
    assert_eq!(names(&folder), before);
}

#[test]
fn what_an_origin_fails_at_reaches_its_gateway_and_so_does_the_end_of_it() {
    let folder = Folder::new("late-model");
    let model = folder.0.join("late.gguf");
    let address = format!("127.0.0.1:{}", free_port());
    let source = ["--model-source", model.to_str().unwrap(), "--shards", "2"];
    let bootstrap = Bootstrap::at(&address, "tcp", &source);
    let (_gateway, http) = bootstrap.gateway("tcp");
    let failed = pipeline_when("the failure is told", &http, |seen| {
        seen["origin"]["error"].as_str().is_some_and(|error| !error.is_empty())
    });
    let error = failed["origin"]["error"].as_str().unwrap();
    assert!(error.contains("late.gguf: cannot be opened: No such file"), "{error}");
    std::fs::copy(default_model(), &model).unwrap();
    pipeline_when("the model is there", &http, |seen| {
        seen["origin"]["error"] == "" && seen["manifest"].is_object()
    });
}

#[test]
fn a_fleet_goes_over_to_a_new_plan_when_all_of_it_is_there() {
    let old = origin(None, &["--shards", "2"]);
    let (_gateway, http) = old.gateway("tcp");
    let known = pipeline_when("the manifest is known", &http, |seen| seen["manifest"].is_object());
    let plan_a = known["plan"].as_str().unwrap().to_owned();
    assert_eq!((&known["origin"]["plan"], &known["next_plan"]), (&json!(plan_a), &Value::Null));
    let folders = ["column-0-0", "column-0-1"].map(Folder::new);
    let nodes_a: Vec<_> = ["0", "1"]
        .iter()
        .zip(&folders)
        .map(|(shard, folder)| old.node("tcp", folder, &["--shard-id", shard, "--plan", &plan_a]))
        .collect();
    complete(&http);
    let answer = generate(&http);

    // The origin comes back with another cut. Who is told the old plan keeps it, and the gateway with them.
    let address = old.address.clone();
    drop(old);
    let new = origin(Some(&address), &["--layers", "0,3,6"]);
    let (history, asked) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let over = AtomicBool::new(false);
    let note = |seen: &Value| {
        let one = (seen["plan"].clone(), seen["pipeline_complete"].clone(), seen["reason"].clone());
        let mut history = history.lock().unwrap();
        if history.last() != Some(&one) {
            history.push(one);
        }
    };
    std::thread::scope(|scope| {
        let _ends = (Ends(&over), Ends(&asked));
        // A long poll, as the operator's, and a client that always wants something.
        scope.spawn(|| {
            let mut revision = String::new();
            while !over.load(Ordering::Relaxed) {
                let seen = pipeline(&http, &format!("?since={revision}&wait=1"));
                note(&seen);
                revision = seen["revision"].as_str().unwrap_or_default().to_owned();
            }
        });
        let client = scope.spawn(|| {
            while !asked.load(Ordering::Relaxed) {
                assert_eq!(generate(&http), answer);
            }
        });
        let seen = pipeline_when("the new manifest is known", &http, |seen| {
            seen["next_plan"]["manifest"].is_object()
        });
        let plan_b = seen["next_plan"]["plan"].as_str().unwrap().to_owned();
        assert_ne!(plan_b, plan_a);
        assert_eq!((&seen["plan"], &seen["pipeline_complete"]), (&json!(plan_a), &json!(true)), "{seen}");
        assert_eq!((&seen["manifest"], &seen["model_sha256"]), (&known["manifest"], &known["model_sha256"]));
        assert_eq!((&seen["missing_layers"], &seen["expected_shards"]), (&json!([]), &json!(2)));
        assert_eq!(seen["origin"]["plan"], json!(plan_b));
        let next = &seen["next_plan"];
        assert_eq!(next["manifest"]["layer_starts"], json!([0, 3, 6]));
        assert_eq!(next["missing_layers"], json!([{"start": 0, "end": 8}]));
        assert_eq!((&next["model_sha256"], &next["total_layers"]), (&known["model_sha256"], &json!(8)));
        assert_eq!(next["reason"], "no shard has announced itself");
        assert_eq!(next["shards"][2]["layers"], json!({"start": 6, "end": 8}));

        // A pod with an empty volume, and one with the volume of another shard of the old plan.
        let fresh = Folder::new("column-1-0");
        let kept = split("column-1-2", "2");
        let told =
            |folder: &Folder, shard| new.node("tcp", folder, &["--shard-id", shard, "--plan", &plan_b]);
        let mut nodes_b = vec![told(&fresh, "0"), told(&kept, "2")];
        nodes_b[1].process.says(&format!("is not used: --plan says {plan_b}, the manifest says {plan_a}"));
        let seen = pipeline_when("two of three serve", &http, |seen| {
            seen["next_plan"]["missing_layers"] == json!([{"start": 3, "end": 6}])
        });
        assert_eq!((&seen["plan"], &seen["pipeline_complete"]), (&json!(plan_a), &json!(true)), "{seen}");
        assert_eq!(seen["next_plan"]["reason"], "shard 1 has no replica");
        let online = |seen: &Value| {
            let online = |shard: &Value| shard["online"].as_bool().unwrap();
            seen["next_plan"]["shards"].as_array().unwrap().iter().map(online).collect::<Vec<_>>()
        };
        assert_eq!(online(&seen), [true, false, true]);
        nodes_b[1].process.says("[PLAN] Removed shard-1.gguf");
        until("its folder is tidy", || names(&kept) == ["manifest.json", "shard-2.gguf", "tokenizer.gguf"]);

        // Nobody has told the old nodes anything: they serve as before.
        for node in &nodes_a {
            let has = node.call("GET_CAPABILITIES", "{}")["data"]["shards"][0].clone();
            assert_eq!((&has["state"], &has["plan"]), (&json!("ready"), &json!(plan_a)), "{has}");
        }
        let last = Folder::new("column-1-1");
        nodes_b.push(told(&last, "1"));
        let seen = pipeline_when("the new plan is served", &http, |seen| seen["plan"] == json!(plan_b));
        assert_eq!((&seen["pipeline_complete"], &seen["next_plan"]), (&json!(true), &Value::Null), "{seen}");
        assert_eq!(seen["manifest"]["layer_starts"], json!([0, 3, 6]));
        assert_eq!(generate(&http), answer);
        // The old column goes, and comes back as one of the new plan, with the volume that it had.
        for node in &nodes_a {
            node.process.signal("-TERM");
        }
        nodes_a.iter().for_each(|node| drop(node.process.says("Stopped after")));
        asked.store(true, Ordering::Relaxed);
        client.join().unwrap();
        drop(nodes_a);
        let back = told(&folders[1], "1");
        back.process.says("LOADED ✓✓✓");
        until("it is listed", || {
            let seen = pipeline(&http, "");
            seen["shards"][1]["replicas"].as_array().is_some_and(|replicas| {
                replicas
                    .iter()
                    .filter(|one| one["plan"] == json!(plan_b) && one["loaded"] == json!(true))
                    .count()
                    == 2
            })
        });
        complete(&http);
        let history = history.lock().unwrap();
        let whole = history
            .iter()
            .filter(|(plan, ..)| *plan == json!(plan_a))
            .all(|(_, complete, _)| *complete == json!(true));
        assert!(whole, "the old plan was whole until the new one was: {history:?}");
        let first_b = history.iter().find(|(plan, ..)| *plan == json!(plan_b));
        assert_eq!(first_b.map(|(_, complete, _)| complete), Some(&json!(true)), "{history:?}");
    });
}
