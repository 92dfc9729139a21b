use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use clap::{Args, Command, FromArgMatches};
use libp2p::{Multiaddr, PeerId};
use shard_wire::layers::LayerRange;

use super::bar::{Pace, blocks, percent};
use super::console::record;
use super::status::{Cluster, Local, LocalShard, Presence, Status, status};
use super::*;
use crate::config::args::{ListenerArgs, ServerArgs};
use crate::config::{LogFormat, Transport};

const NODE: &str = "12D3KooWLc2gCgHfwhTLciZDnD6TfJ6e8UtwrVyRpvKtPQwtL8wa";
const SERVER: &str = "12D3KooWKk3zSVNqbNdPFsNXQkWVSAKrhJFXwGubV7WZ13fh6wBt";
const HASH: &str = "e40aeb34da87db79b01406cf03d83344a80815b9a7bfc1ed2f9e90d1db542fc7";
/// The documents' shard: 13290.52 MB.
const BYTES: u64 = 13_936_120_299;

fn address(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn peers() -> (PeerId, PeerId) {
    (NODE.parse().unwrap(), SERVER.parse().unwrap())
}

/// A node's life, with the values of the connection log that the lines come from.
fn life() -> Vec<Notice> {
    [starting(), seeding(), joining(), fetching(), serving(), ending()].concat()
}

fn parsed<T: Args + FromArgMatches>(arguments: &[&str]) -> T {
    let command = T::augment_args(Command::new("program").no_binary_name(true));
    T::from_arg_matches(&command.get_matches_from(arguments)).unwrap()
}

fn node_configuration(shard_ids: &str, known: &Known) -> Notice {
    let arguments = ["--bootstrap", "rendezvous.example.org:51820", "--shard-id", shard_ids];
    configuration(&parsed::<ListenerArgs>(&arguments).resolve().unwrap(), known)
}

fn starting() -> Vec<Notice> {
    let (node, server) = peers();
    let layers = |starts: &[u32]| starts.iter().map(|&start| LayerRange { start, end: start + 4 }).collect();
    let known =
        |starts| Known { total_shards: Some(8), model: Some("llama-8b".into()), layers: layers(starts) };
    let file = Path::new("models_cache/shards/shard-0.gguf");
    vec![
        server_configuration(&parsed::<ServerArgs>(&[]).resolve().unwrap()),
        node_configuration("0", &known(&[0])),
        node_configuration("0,3", &known(&[0, 12])),
        node_configuration("0", &Known::default()),
        peer_id(&node),
        tensor_load_begun(0, BYTES),
        tensor_load_progress(0, 45),
        tensor_load_progress(0, 100),
        tensor_load_done(0),
        shard_loaded(0, file, BYTES),
        shard_missing(0, file),
        plan_not_used(
            Path::new("models_cache/shards"),
            "0123456789abcdef",
            "--shard-id says 5, the manifest has 4 shards: ids go from 0 to 3",
        ),
        shard_not_loaded(0, "models_cache/shards/shard-0.gguf: SHA-256 is 1c…, the manifest says e4…"),
        spare_waiting(),
        shard_assigned(3, &server),
        shard_loaded_later(3, Path::new("models_cache/shards/shard-3.gguf"), BYTES, Source::Download),
        shard_loaded_later(3, Path::new("models_cache/shards/shard-3.gguf"), BYTES, Source::Command),
        shard_given_up(0, "moved to shard 3"),
    ]
}

fn seeding() -> Vec<Notice> {
    let (node, server) = peers();
    vec![
        files_found(17),
        seeding_primary("shard-0.gguf", HASH),
        found_additional("shard-0-new.gguf"),
        not_seeding("shard-9.gguf", "permission denied"),
        seeding_complete(4, 4, 13),
        registering_files(17),
        file_registered("shard-0.gguf", HASH),
        file_not_registered("shard-1.gguf", "no peer took it"),
        files_registered(17),
        sync_begun(&server),
        sync_done(&server, 17, 3, 1),
        sync_failed(&server, "no answer within 10 s"),
        sync_changed(&node, 1),
    ]
}

fn joining() -> Vec<Notice> {
    let (node, server) = peers();
    let quic = address("/ip4/203.0.113.9/udp/51820/quic-v1");
    vec![
        transport(Transport::Dual, &quic),
        transport(Transport::Tcp, &address("/ip4/203.0.113.9/tcp/51820")),
        listening(&address("/ip4/0.0.0.0/udp/0/quic-v1")),
        listening(&address("/ip4/0.0.0.0/tcp/0")),
        listening(&address("/ip4/192.168.1.27/udp/61490/quic-v1")),
        listening(&address("/ip4/192.168.1.27/tcp/61023")),
        connecting(),
        connect_failed("connection refused", Duration::from_millis(500)),
        connected(&server, &quic),
        dht_started(&server, Duration::from_secs(15)),
        routing_updated(&server, true),
        routing_updated(&node, false),
        dht_bootstrapped(0),
        fallback_announcement(Duration::from_secs(15)),
        announced("llama-cluster", 0, &node, LayerRange { start: 0, end: 4 }, true),
        announced("llama-cluster", 1, &node, LayerRange { start: 4, end: 8 }, false),
        announce_failed(0, "no peer took it"),
        quorum_failed(5, "llama-cluster/shard/0", 0, 1),
        record_not_found(21, "llama-cluster/shard/1"),
        peer_connected(&node, &quic, false),
        peer_disconnected(&node, Some("the peer closed the connection")),
        peer_disconnected(&node, None),
    ]
}

fn fetching() -> Vec<Notice> {
    let (node, _) = peers();
    let name = "shard-1.gguf";
    vec![
        download_begun(name, 30_513_561, 0),
        download_begun(name, 30_513_561, 12_897_484),
        downloading(&half_way()),
        downloading(&Download { rate: 0, peers: 0, ..half_way() }),
        download_done(name, 17_616_077, 12_897_484, Duration::from_millis(2074), 3),
        download_failed(name, "no peer has it", Some(Duration::from_secs(5))),
        download_failed(name, "no space left on device", None),
        leftover_removed("shard-9.gguf", 30_513_561),
        peer_banned(name, &node, "piece 7 does not have its hash"),
    ]
}

fn half_way() -> Download {
    Download { file: "shard-1.gguf".into(), done: 12_897_484, total: 30_513_561, rate: 8_493_465, peers: 3 }
}

fn serving() -> Vec<Notice> {
    let (node, server) = peers();
    let sync = br#"{"command":"SYNC_TORRENTS","request_id":"req-1769056243763609700","params":{}}"#;
    let ours =
        Message { peer: &server, command: "SYNC_TORRENTS", request_id: "OutboundRequestId(1)", body: sync };
    let theirs =
        Message { peer: &node, command: "LIST_FILES", request_id: "InboundRequestId(7)", body: b"{}" };
    let prompt = Message { command: "INFERENCE", body: br#"{"prompt": "Dear diary"}"#, ..theirs };
    vec![
        message_sent(&ours),
        response_received(&ours),
        message_received(&theirs),
        response_sent(&theirs),
        message_received(&prompt),
        listener_started(),
        gateway_started(&"127.0.0.1:8080".parse().unwrap()),
        server_started(),
        status(&report()),
        status(&several()),
        status(&spare()),
    ]
}

fn report() -> Status {
    let file = "models_cache/shards/shard-0.gguf".into();
    Status {
        local: Local {
            peer_id: NODE.into(),
            shards: vec![LocalShard { shard_id: 0, loaded: true, file, bytes: BYTES }],
            active_requests: 0,
            max_requests: 4,
            total_requests: 0,
            successful_requests: 0,
            downloads: Vec::new(),
        },
        cluster: Cluster {
            name: "llama-cluster".into(),
            expected_shards: 4,
            online: vec![Presence::Local, Presence::Online, Presence::Downloading(42), Presence::Offline],
            swarm_ready: false,
        },
    }
}

fn several() -> Status {
    let mut report = report();
    let file = "models_cache/shards/shard-1.gguf".into();
    report.local.shards.push(LocalShard { shard_id: 1, loaded: false, file, bytes: 30_513_561 });
    report.local.downloads = vec![half_way()];
    (report.local.total_requests, report.local.successful_requests) = (12, 11);
    report.cluster.online = vec![Presence::Local, Presence::Local, Presence::Online, Presence::Online];
    report.cluster.swarm_ready = true;
    report
}

fn spare() -> Status {
    let mut report = report();
    report.local.shards.clear();
    report.cluster.online = vec![Presence::Offline; 4];
    report
}

fn ending() -> Vec<Notice> {
    vec![leaving(2), withdrawn(0), stopped(Duration::from_secs(4_210))]
}

fn on_a_terminal(variables: &'static [(&str, &str)]) -> Console {
    Console::on(LogFormat::Text, true, |name| {
        let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
        Some(OsString::from(value))
    })
}

#[test]
fn the_lines_are_those_that_scripts_look_for() {
    let lines: Vec<String> = life().into_iter().map(|notice| notice.text).collect();
    insta::assert_snapshot!("text", lines.join("\n"));
}

#[test]
fn on_a_terminal_the_same_lines_have_colours() {
    let console = on_a_terminal(&[("TERM", "xterm"), ("NO_COLOR", "")]);
    let plain: Vec<String> = life().into_iter().map(|notice| notice.text).collect();
    let lines = console.paint(&plain.join("\n"));
    assert_eq!(::console::strip_ansi_codes(&lines), plain.join("\n"));
    insta::assert_snapshot!("colours", lines.replace('\x1b', "␛"));
}

#[test]
fn a_record_has_the_values_of_its_lines() {
    let records: Vec<String> =
        life().iter().map(|notice| record(notice, "2026-01-22T04:30:43.763609Z")).collect();
    insta::assert_snapshot!("json", records.join("\n"));
}

#[test]
fn names_of_events_and_values_fit_the_log() {
    for Notice { event, fields, text, .. } in life() {
        let snake =
            |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        assert!(snake(event), "{event}");
        for name in fields.keys() {
            assert!(
                snake(name) && !["timestamp", "level", "event"].contains(&name.as_str()),
                "{event}: {name}"
            );
        }
        assert!(!text.is_empty() && !text.ends_with('\n'), "{event}");
    }
    let events: BTreeSet<&str> = life().iter().map(|notice| notice.event).collect();
    assert!(events.len() > 40, "{events:?}");
}

#[test]
fn colours_and_bars_are_for_terminals_that_want_them() {
    type Case = (bool, LogFormat, &'static [(&'static str, &'static str)], bool, bool);
    let cases: [Case; 8] = [
        (true, LogFormat::Text, &[], true, true),
        (true, LogFormat::Text, &[("TERM", "xterm-256color")], true, true),
        (true, LogFormat::Text, &[("NO_COLOR", "")], true, true),
        (true, LogFormat::Text, &[("NO_COLOR", "1")], true, false),
        (true, LogFormat::Text, &[("TERM", "dumb")], false, false),
        (true, LogFormat::Json, &[], false, false),
        (false, LogFormat::Text, &[("CLICOLOR_FORCE", "1")], false, false),
        (false, LogFormat::Json, &[], false, false),
    ];
    for (terminal, format, variables, redraws, colours) in cases {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| v.into());
        let console = Console::on(format, terminal, variable);
        assert_eq!(console.redraws, redraws, "{terminal} {format:?} {variables:?}");
        assert_eq!(console.paint("✓") != "✓", colours, "{terminal} {format:?} {variables:?}");
    }
}

#[test]
fn what_a_peer_says_neither_ends_a_line_nor_steers_the_terminal() {
    let (node, _) = peers();
    let evil = "x\n[SHARD] ✓✓✓ SHARD 0 LOADED ✓✓✓\r\x1b[2J\u{9b}31m\u{202e}";
    let message = Message { peer: &node, command: evil, request_id: evil, body: evil.as_bytes() };
    let download = Download { file: evil.into(), ..half_way() };
    let told = [
        announce_failed(0, evil),
        connect_failed(evil, Duration::ZERO),
        download_begun(evil, 1, 0),
        download_failed(evil, evil, None),
        downloading(&download),
        download_done(evil, 1, 0, Duration::ZERO, 1),
        file_registered(evil, evil),
        found_additional(evil),
        not_seeding(evil, evil),
        peer_banned(evil, &node, evil),
        peer_disconnected(&node, Some(evil)),
        quorum_failed(1, evil, 0, 1),
        seeding_primary(evil, evil),
        shard_given_up(0, evil),
        shard_missing(0, Path::new(evil)),
        shard_not_loaded(0, evil),
        sync_failed(&node, evil),
        message_received(&message),
    ];
    for notice in told {
        let steers = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
        assert!(!notice.text.contains(steers), "{notice:?}");
        for line in notice.text.lines() {
            assert!(line.starts_with('[') && !line.starts_with("[SHARD] ✓✓✓"), "{line}");
        }
        assert_eq!(record(&notice, "").lines().count(), 1);
    }
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let (node, _) = peers();
    for (body, says) in [
        ("é".repeat(240).into_bytes(), None),
        ("é".repeat(241).into_bytes(), Some("… (482 bytes)")),
        ("🦉".repeat(1000).into_bytes(), Some("… (4000 bytes)")),
        (vec![0xff; 1 << 20], Some("… (1048576 bytes)")),
    ] {
        let bytes = body.len();
        let notice = message_sent(&Message { peer: &node, command: "X", request_id: "1", body: &body });
        let shown = notice.text.lines().last().unwrap();
        assert!(shown.chars().count() < 300, "{bytes}: {shown}");
        match says {
            Some(end) => assert!(shown.ends_with(end), "{bytes}: {shown}"),
            None => assert!(shown.ends_with('é'), "{bytes}: {shown}"),
        }
    }
}

#[test]
fn lines_about_progress_are_few_and_the_last_is_always_there() {
    // Seconds, percent, whether a line is due.
    let told = |steps: &[(f64, u64, bool)]| {
        let mut pace = Pace::default();
        for &(at, percent, due) in steps {
            assert_eq!(pace.due(Duration::from_secs_f64(at), percent), due, "{at} s, {percent} %");
        }
    };
    // A small file has one line, however many pieces it has.
    told(&[(0.0, 0, false), (0.1, 30, false), (0.2, 90, false), (0.3, 100, true), (0.4, 100, false)]);
    // One that goes on has one for ten percent, one that crawls one for ten seconds.
    told(&[(1.9, 40, false), (2.0, 40, true), (5.0, 49, false), (5.1, 50, true), (6.0, 70, false)]);
    told(&[(9.9, 1, false), (10.0, 1, true), (19.0, 1, false), (20.0, 1, true), (20.1, 100, true)]);
}

#[test]
fn percents_are_whole_and_never_too_many() {
    for (done, total, expected) in [
        (0, 10, 0),
        (1, 3, 33),
        (99, 100, 99),
        (10, 10, 100),
        (11, 10, 100),
        (0, 0, 100),
        (u64::MAX, u64::MAX, 100),
    ] {
        assert_eq!(percent(done, total), expected, "{done} of {total}");
    }
    assert_eq!(blocks(0, 4), "░░░░");
    assert_eq!(blocks(50, 4), "██░░");
    assert_eq!(blocks(99, 4), "███░");
    assert_eq!(blocks(100, 4), "████");
}
