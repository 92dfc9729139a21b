//! What the console looks like, on a terminal and elsewhere.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;

use super::{Folder, default_model, program, run, text};

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What comes before a line that is drawn in place of itself.
const AGAIN: &str = "\r\x1b[2K";

fn server() -> Command {
    let mut command = program("server");
    command.args([
        "--listen-addr",
        "127.0.0.1",
        "--transport",
        "tcp",
        "--port",
        "0",
        "--diagnostics-port",
        "0",
    ]);
    command.env_remove("NO_COLOR").env("TERM", "xterm");
    command
}

/// A node with a shard and no network: it loads, listens and dials in vain.
fn node(shards: &Folder) -> Command {
    let mut command = program("shard_listener");
    command.args(["--bootstrap", "/ip4/127.0.0.1/tcp/1", "--transport", "tcp", "--listen-addr", "127.0.0.1"]);
    command.args(["--port", "0", "--shard-id", "0", "--shards-dir"]).arg(&shards.0);
    command.env_remove("NO_COLOR").env("TERM", "xterm");
    command
}

fn shards(name: &str) -> Folder {
    let folder = Folder::new(name);
    let (model, out) = (default_model(), folder.0.clone());
    let split = ["split", model.to_str().unwrap(), "--shards", "2", "--out", out.to_str().unwrap()];
    assert_eq!(run("shardctl", &split).status.code(), Some(0));
    folder
}

/// Runs it on a terminal until it says `last`; what it wrote.
fn on_a_terminal(mut command: Command, last: &str) -> String {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let path = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = File::options().read(true).write(true).open(path).unwrap();
    tcsetwinsize(&theirs, Winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    command.stdin(Stdio::null()).stdout(theirs.try_clone().unwrap()).stderr(theirs);
    let running = Running(command.spawn().unwrap());
    // Its ends of the terminal: when the program goes, reading ends.
    drop(command);
    let (mut terminal, mut written, mut buffer) = (File::from(ours), Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&written).contains(last) {
        let count = terminal.read(&mut buffer).expect("the program ended early");
        written.extend_from_slice(&buffer[..count]);
    }
    drop(running);
    text(&written)
}

/// Runs it on a pipe until it says `last`; its lines.
fn on_a_pipe(mut command: Command, last: &str) -> Vec<String> {
    let mut running = Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut lines = Vec::new();
    for line in BufReader::new(running.0.stdout.take().unwrap()).lines() {
        lines.push(line.unwrap());
        if lines.last().unwrap().contains(last) {
            return lines;
        }
    }
    panic!("the program ended early: {lines:?}");
}

#[test]
fn only_a_terminal_gets_colours_and_not_where_no_color_is_set() {
    let (last, ok) = ("Waiting for connections...", "\x1b[32m✓\x1b[0m");
    let shards = shards("console-colours");
    let coloured = on_a_terminal(node(&shards), last);
    assert!(coloured.contains(&format!("{ok} Tensor file loaded")), "{coloured}");

    for mut plain in [server(), node(&shards)] {
        plain.env("NO_COLOR", "1");
        let plain = on_a_terminal(plain, last).replace(AGAIN, "");
        assert!(plain.contains("Peer ID: ") && !plain.contains('\x1b'), "{plain:?}");
    }

    for mut forced in [server(), node(&shards)] {
        forced.env("CLICOLOR_FORCE", "1");
        let lines = on_a_pipe(forced, last);
        assert!(!lines.concat().contains('\x1b'), "{lines:?}");
    }
}

#[test]
fn on_a_terminal_a_bar_is_drawn_in_place_and_leaves_one_line() {
    let shards = shards("console-bar");
    let mut command = node(&shards);
    command.env("NO_COLOR", "1");
    let written = on_a_terminal(command, "Waiting for connections...");
    let bars: Vec<&str> = written.lines().filter(|line| line.contains("Progress: [")).collect();
    let [bar] = bars.as_slice() else { panic!("{written:?}") };
    let drawn: Vec<&str> = bar.split(AGAIN).collect();
    assert!(drawn.len() > 1, "{bar:?}");
    assert!(drawn[0].contains('░') && drawn[0].contains("%"), "{bar:?}");
    assert_eq!(drawn.last().unwrap().trim_end(), "[TENSOR_LOAD]   Progress: [████████████████████] 100%");
}

#[test]
fn a_pipe_gets_the_lines_of_the_documents_when_a_shard_is_loaded() {
    let shards = shards("console-load");
    let lines = on_a_pipe(node(&shards), "LOADED BEFORE JOINING NETWORK");
    let begun =
        lines.iter().position(|line| line.contains("Status: Reading tensor file metadata...")).unwrap();
    let after: Vec<&str> = lines[begun + 1..].iter().map(String::as_str).collect();
    assert_eq!(
        after,
        [
            "[TENSOR_LOAD]   Progress: [████████████████████] 100%",
            "[TENSOR_LOAD]   ✓ Tensor file loaded successfully for shard 0",
            "[SHARD] ✓✓✓ SHARD 0 LOADED BEFORE JOINING NETWORK ✓✓✓",
        ]
    );
}

#[test]
fn in_json_every_line_is_an_event_with_its_values() {
    let shards = shards("console-json");
    let mut json = node(&shards);
    json.args(["--log-format", "json"]);
    let lines = on_a_pipe(json, r#""event":"started""#);
    let records: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for record in &records {
        assert!(record["timestamp"].as_str().unwrap().ends_with('Z'), "{record}");
        assert!(["INFO", "WARN", "ERROR"].contains(&record["level"].as_str().unwrap()), "{record}");
    }
    let event = |name: &str| records.iter().find(|record| record["event"] == name).unwrap();
    assert_eq!(event("configuration")["total_shards"], 2);
    assert_eq!(event("tensor_load_progress")["percent"], 100);
    assert_eq!(event("shard_loaded")["bytes"], event("tensor_load_begun")["bytes"]);
    assert_eq!(event("listening")["protocol"], "TCP");
}
