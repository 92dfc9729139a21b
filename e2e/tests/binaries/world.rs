//! A world for the script: publishers, a Go and a cache that a test makes.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A publisher whose files are in `$PUBLISHED` by their last names; no such file: as curl says of an unknown host.
const CURL: &str = r#"#!/bin/sh
for url; do :; done
echo "$url" >>"$PUBLISHED.log"
while [ "$1" != --output ]; do shift; done
[ -e "$PUBLISHED/${url##*/}" ] || { echo "curl: (6) Could not resolve host" >&2; exit 6; }
cp "$PUBLISHED/${url##*/}" "$2"
"#;
/// Builds what `$BUILT` says, once `$GATE` is there; nothing where it says nothing.
const GO: &str = r#"#!/bin/sh
[ "$1" = list ] && exit 0
echo "$@" >>"$PUBLISHED.log"
[ -n "$BUILT" ] || { echo "go: no module" >&2; exit 1; }
while [ "$1" != -o ]; do shift; done
while [ ! -e "$GATE" ]; do sleep 0.02; done
echo "$BUILT" >"$2"
"#;

pub(crate) struct World {
    pub(crate) folder: TempDir,
    /// Ours, or a test's variant of it.
    pub(crate) script: PathBuf,
}

impl World {
    pub(crate) fn new() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("binaries");
        let world = Self { folder: tempfile::tempdir().unwrap(), script };
        for folder in ["bin", "published", "assets"] {
            fs::create_dir(world.at(folder)).unwrap();
        }
        world.program("bin/curl", CURL);
        world.program("bin/go", GO);
        world
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn program(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
        fs::set_permissions(self.at(name), Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn command(&self, built: &str, tools: &[&str]) -> Command {
        let mut command = Command::new(&self.script);
        let path = format!("{}:{}", self.at("bin").display(), std::env::var("PATH").unwrap());
        command.args(tools).env("PATH", path).env("BUILT", built).env("PUBLISHED", self.at("published"));
        command
            .env("GATE", self.folder.path())
            .env("SHARDCLUSTER_CACHE", self.at("cache"))
            .env_remove("KUBEBUILDER_ASSETS");
        command.env_remove("E2E_NO_DOWNLOAD");
        command
    }

    /// What was fetched and built.
    pub(crate) fn done(&self) -> String {
        fs::read_to_string(self.at("published.log")).unwrap_or_default()
    }
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What it found, by tool: the file's text.
pub(crate) fn found(output: &Output, tool: &str) -> String {
    assert!(output.status.success(), "{}", said(output));
    let paths = String::from_utf8_lossy(&output.stdout);
    let path = paths.lines().find_map(|line| line.strip_prefix(&format!("{tool} "))).expect("its path");
    fs::read_to_string(path).unwrap().trim().to_owned()
}
