//! What a person sees where there is no control plane: programs that end early, and programs that cannot be had.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use shard_e2e::{ControlPlane, Parts, skipped};
use tempfile::TempDir;

/// Asked for by the other tests, in a process and with variables of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "asked for by the others"]
async fn attempt() {
    match ControlPlane::start(Parts::default()).await {
        Err(error) if skipped(&error) => {}
        plane => drop(plane.unwrap()),
    }
}

fn with_programs(programs: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tmp")).unwrap();
    for (name, text) in programs {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

/// Tries with these programs first, and a cache that is empty.
fn attempted(folder: &Path, offline: bool) -> Output {
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "attempt", "--ignored", "--nocapture"]).env_remove("E2E_OFFLINE");
    command.env_remove("E2E_KEEP").env("TMPDIR", folder.join("tmp")).env("PATH", path);
    command.env("KUBEBUILDER_ASSETS", folder).env("SHARDCLUSTER_CACHE", folder.join("cache"));
    if offline {
        command.env("E2E_OFFLINE", "1");
    }
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

#[test]
fn a_program_that_ends_early_is_named_with_its_last_lines_and_nothing_stays() {
    let folder = with_programs(&[
        ("etcd", r#"echo $$ >"$KUBEBUILDER_ASSETS/etcd.pid"; while :; do sleep 1; done"#),
        (
            "kube-apiserver",
            r#"while [ ! -s "$KUBEBUILDER_ASSETS/etcd.pid" ]; do sleep 0.02; done; echo "unknown flag: --new"; exit 3"#,
        ),
        ("kubectl", "exit 1"),
    ]);
    // Also where tests may be left out: the programs are there.
    for offline in [false, true] {
        let failed = attempted(folder.path(), offline);
        let text = said(&failed);
        for part in ["kube-apiserver ended (exit status: 3)", "unknown flag: --new", "etcd:"] {
            assert!(!failed.status.success() && text.contains(part), "{part} is not in {text}");
        }
        let etcd = fs::read_to_string(folder.path().join("etcd.pid")).unwrap();
        assert!(!PathBuf::from("/proc").join(etcd.trim()).exists(), "etcd runs on: {etcd}");
        let left = fs::read_dir(folder.path().join("tmp")).unwrap().count();
        assert_eq!(left, 0, "{text}");
        fs::remove_file(folder.path().join("etcd.pid")).unwrap();
    }
}

#[test]
fn without_programs_tests_fail_and_are_left_out_only_where_the_user_says_so() {
    let folder = with_programs(&[
        ("curl", "echo 'curl: (6) no host' >&2; exit 6"),
        ("go", "echo 'go: no module' >&2; [ $1 = list ]"),
    ]);
    let failed = attempted(folder.path(), false);
    let text = said(&failed);
    for part in
        ["curl: (6) no host", "go: no module", "\"kube-apiserver\"", "E2E_OFFLINE=1 leaves these tests out"]
    {
        assert!(!failed.status.success() && text.contains(part), "{part} is not in {text}");
    }

    let skipped = attempted(folder.path(), true);
    let text = said(&skipped);
    assert!(skipped.status.success() && text.contains("e2e: skipped: "), "{text}");
}
