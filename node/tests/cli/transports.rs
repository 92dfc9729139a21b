//! `dual` where UDP does not pass, in network namespaces of the test's own: the rules of the routing table drop it, as
//! firewalls do, with an error to the sender or without a word.

use std::process::{Command, Output};

use super::process::{split, until};
use super::{Folder, default_model, text};

/// UDP that leaves is an error; what goes over TCP passes.
const REFUSED: &str = r#"
set -e
ip link set lo up
ip rule add pref 100 lookup local
ip rule del pref 0
ip rule add pref 10 ipproto udp blackhole
exec "$@"
"#;

/// A bootstrap in a namespace behind a link, which swallows the UDP that arrives, and a node that dials it.
const SWALLOWED: &str = r#"
set -e
server=$1; node=$2; shards=$3; said=$4
ip link set lo up
unshare -n sleep 60 &
far=$!
trap 'kill $far $(jobs -p) 2>/dev/null' EXIT
until [ "$(readlink /proc/$far/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
ip link add near type veth peer name far
ip link set far netns $far
ip addr add 10.77.0.1/24 dev near
ip link set near up
nsenter -t $far -n ip link set lo up
nsenter -t $far -n ip addr add 10.77.0.2/24 dev far
nsenter -t $far -n ip link set far up
nsenter -t $far -n ip rule add pref 100 lookup local
nsenter -t $far -n ip rule del pref 0
nsenter -t $far -n ip rule add pref 10 ipproto udp blackhole
nsenter -t $far -n "$server" --listen-addr 10.77.0.2 > /dev/null 2>&1 &
"$node" --bootstrap 10.77.0.2:51820 --shard-id 0 --shards-dir "$shards" --threads 1 > "$said" 2>&1 &
wait $!
"#;

/// Runs a script as root of new namespaces, which an ordinary user may be, too.
fn apart(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "bash", "-c", script, "apart"]).args(arguments);
    for setting in shard_wire::contract::SETTINGS {
        command.env_remove(setting.env);
    }
    command
}

#[test]
fn a_dual_fleet_answers_where_udp_is_refused() {
    let state = Folder::new("udp-refused");
    let model = default_model();
    let ask =
        ["up", "--shards", "2", "--transport", "dual", "--prompt", "Once upon a time", "--temperature", "0"];
    let told =
        ["--max-tokens", "8", "--model", model.to_str().unwrap(), "--state", state.0.to_str().unwrap()];
    let arguments = [&[env!("CARGO_BIN_EXE_shardctl")][..], &ask, &told].concat();
    let Output { status, stdout, stderr } = apart(REFUSED, &arguments).output().unwrap();
    assert!(status.success(), "{}", text(&stderr));
    assert!(!text(&stdout).trim().is_empty());
}

#[test]
fn a_dual_node_reaches_its_bootstrap_where_udp_is_swallowed() {
    let files = split("udp-swallowed", "1");
    let said = files.0.join("said");
    let paths = [
        env!("CARGO_BIN_EXE_server"),
        env!("CARGO_BIN_EXE_shard_listener"),
        files.0.to_str().unwrap(),
        said.to_str().unwrap(),
    ];
    let mut script = apart(SWALLOWED, &paths).spawn().unwrap();
    let lines = || std::fs::read_to_string(&said).unwrap_or_default();
    until("the node announces itself", || lines().contains("Announced shard 0 to DHT"));
    let lines = lines();
    assert!(lines.contains("will try QUIC first, TCP fallback"), "{lines}");
    assert!(lines.contains("Transport: TCP (persistent connection)"), "{lines}");
    assert!(Command::new("kill").arg(script.id().to_string()).status().unwrap().success());
    script.wait().unwrap();
}
