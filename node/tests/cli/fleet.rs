//! `shardctl up` with everything real: processes, libp2p, weights, HTTP.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Folder, default_model, program, run, text};

const PROMPT: &str = "Once upon a time";
const SOON: Duration = Duration::from_secs(60);

/// What llama.cpp writes after [`PROMPT`], greedily, 64 tokens of it.
fn reference() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/tests/data/golden/f16.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let case = golden["cases"].as_array().unwrap().iter().find(|case| case["prompt"] == PROMPT).unwrap();
    case["text"].as_str().unwrap().to_owned()
}

fn up(state: &Folder, more: &[&str]) -> Command {
    let mut command = program("shardctl");
    command.arg("up").arg("--model").arg(default_model()).arg("--state").arg(&state.0).args(more);
    command
}

/// The greedy answer of a fleet.
fn answer(state: &Folder, shards: &str, transport: &str) -> String {
    let asked = ["--prompt", PROMPT, "--temperature", "0", "--max-tokens", "64"];
    let output = up(state, &asked).args(["--shards", shards, "--transport", transport]).output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    for line in ["pipeline complete", "64 tokens at", "first token after", "STAGE"] {
        assert!(told.contains(line), "no '{line}' in {told}");
    }
    for shard in 0..shards.parse().unwrap() {
        assert!(told.contains(&format!("shard {shard} (layers ")), "{told}");
    }
    assert!(!folder_holds(&state.0, "run-"), "what only this run needed is left");
    text(&output.stdout)
}

fn folder_holds(folder: &Path, prefix: &str) -> bool {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
}

#[test]
fn the_text_is_the_reference_for_every_shard_count_and_transport() {
    let state = Folder::new("texts");
    for (shards, transport) in [("1", "dual"), ("2", "tcp"), ("4", "quic"), ("4", "dual"), ("8", "tcp")] {
        assert_eq!(answer(&state, shards, transport), reference() + "\n", "{shards} shards over {transport}");
    }
}

/// A fleet that stays up.
struct Up {
    process: Child,
    http: u16,
    bootstrap: u16,
    lines: std::iter::FromFn<Box<dyn FnMut() -> Option<String>>>,
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    super::process::free_port().parse().unwrap()
}

impl Up {
    fn start(state: &Folder) -> Self {
        let (http, bootstrap, diagnostics) = (free_port(), free_port(), free_port());
        let ports = [http, bootstrap, diagnostics].map(|port| port.to_string());
        let flags = ["--http-port", &ports[0], "--port", &ports[1], "--diagnostics-port", &ports[2]];
        let mut command = up(state, &flags);
        let mut process =
            command.args(["--shards", "2", "--transport", "tcp"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut read = BufReader::new(process.stderr.take().unwrap()).lines();
        let next: Box<dyn FnMut() -> Option<String>> = Box::new(move || read.next().map(Result::unwrap));
        let mut up = Self { process, http, bootstrap, lines: std::iter::from_fn(next) };
        let told: Vec<String> =
            up.lines.by_ref().take_while(|line| !line.contains("Ctrl-C stops everything")).collect();
        assert!(up.process.try_wait().unwrap().is_none(), "{told:#?}");
        up
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    fn pipeline(&self) -> Value {
        let output = run("shardctl", &["status", "--url", &self.url(), "--output", "json"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn signal(&self, name: &str) {
        signal(name, self.process.id());
    }

    fn ended(&mut self) -> Option<i32> {
        until("it ends", || self.process.try_wait().unwrap().is_some());
        self.process.wait().unwrap().code()
    }

    fn children(&self) -> Vec<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.process.id());
        let text = std::fs::read_to_string(path).unwrap();
        text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "{what}: not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A process that is there and no zombie.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn a_fleet_answers_the_tools_and_ends_with_ctrl_c() {
    let state = Folder::new("tools");
    let mut up = Up::start(&state);

    let pipeline = up.pipeline();
    assert_eq!((&pipeline["pipeline_complete"], &pipeline["expected_shards"]), (&true.into(), &2.into()));
    let table = text(&run("shardctl", &["status", "--url", &up.url()]).stdout);
    assert!(
        table.contains("pipeline  complete") && table.contains("0-4") && table.contains("4-8"),
        "{table}"
    );

    let asked = ["--prompt", PROMPT, "--temperature", "0", "--max-tokens", "64"];
    let output = program("shardctl").args(["generate", "--url", &up.url()]).args(asked).output().unwrap();
    assert_eq!(text(&output.stdout), reference() + "\n");
    let output = run(
        "shardctl",
        &[
            "generate",
            "--url",
            &up.url(),
            "--chat",
            "What is an owl?",
            "--temperature",
            "0",
            "--output",
            "json",
        ],
    );
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["finish_reason"], "stop");
    assert!(answer["text"].as_str().unwrap().starts_with("An owl is a bird."), "{answer}");
    assert_eq!(answer["timings"]["stages"].as_array().unwrap().len(), 2);

    let output =
        run("shardctl", &["generate", "--url", &up.url(), "--prompt", "The queen", "--temperature", "0"]);
    assert!(text(&output.stdout).starts_with("helps people who are ill."), "{}", text(&output.stdout));

    let peer = pipeline["shards"][1]["replicas"][0]["peer_id"].as_str().unwrap();
    let bootstrap = format!("127.0.0.1:{}", up.bootstrap);
    let call = ["call", "--transport", "tcp", "--bootstrap", &bootstrap, peer, "INFERENCE"];
    let params = r#"{"prompt": "Once upon a time", "max_tokens": 64}"#;
    // The fleet is closed: who does not know its secret is no member.
    let stranger = program("shardctl").args(call).arg(params).output().unwrap();
    assert_eq!(stranger.status.code(), Some(1));
    let said = text(&stranger.stderr);
    assert!(said.contains("--cluster-secret-file would give"), "{said}");
    let secret = state.0.join("cluster-secret");
    assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let mut member = program("shardctl");
    let output = member.args(call).arg(params).arg("--cluster-secret-file").arg(secret).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["text"].as_str().unwrap(), reference());

    let children = up.children();
    assert_eq!(children.len(), 4);
    up.signal("-INT");
    assert_eq!(up.ended(), Some(0));
    assert!(!children.into_iter().any(runs));
}

#[test]
fn children_do_not_outlive_a_parent_that_is_killed() {
    let state = Folder::new("orphans");
    let mut up = Up::start(&state);
    let children = up.children();
    up.signal("-KILL");
    up.ended();
    until("every child ends", || !children.iter().copied().any(runs));
}

#[test]
fn a_child_that_dies_is_named_with_its_last_lines() {
    let state = Folder::new("victim");
    let mut up = Up::start(&state);
    // The order of starting: server, shard 0, shard 1, gateway.
    let children = up.children();
    signal("-KILL", children[2]);
    assert_eq!(up.ended(), Some(1));
    let told: Vec<String> = up.lines.by_ref().collect();
    let told = told.join("\n");
    let (_, log) = told.split_once("shard_listener-1 ended with signal: 9").expect(&told);
    assert!(log.contains("ends with:\n  [") && log.lines().count() > 5, "{told}");
    assert!(!children.into_iter().any(runs));
}

/// Builds `shardctl` alone into an empty folder, as a user's first command does: it needs no other program.
/// Takes minutes; `.ci/one-executable` runs it.
#[test]
#[ignore = "builds everything once more"]
fn one_executable_is_enough() {
    let target = Folder::new("empty-target");
    let state = Folder::new("empty-state");
    let cargo = std::env::var_os("CARGO").expect("cargo runs the tests");
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--locked", "--bin", "shardctl", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
        .args(["--", "up", "--prompt", PROMPT, "--temperature", "0", "--max-tokens", "64", "--state"])
        .arg(&state.0)
        .env("CARGO_TARGET_DIR", &target.0)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), reference() + "\n");
    for absent in ["server", "shard_listener", "web_server"] {
        assert!(!target.0.join("debug").join(absent).exists(), "{absent} was built");
    }
}
