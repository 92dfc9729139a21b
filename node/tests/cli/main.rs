//! The programs as users run them: real processes, their output and their exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod arguments;
mod bench;
#[path = "../common/mod.rs"]
mod common;
mod console;
mod documents;
mod fleet;
mod floods;
mod foreign;
mod gateway_killed;
mod nodes;
mod plans;
mod probes;
mod process;
mod programs;
mod settings;
mod transports;

use std::process::{Command, Output};

/// A program of this build.
fn program(name: &str) -> Command {
    let path = match name {
        "shardctl" => env!("CARGO_BIN_EXE_shardctl"),
        "server" => env!("CARGO_BIN_EXE_server"),
        "shard_listener" => env!("CARGO_BIN_EXE_shard_listener"),
        "web_server" => env!("CARGO_BIN_EXE_web_server"),
        other => panic!("no program {other}"),
    };
    let mut command = Command::new(path);
    for setting in shard_wire::contract::SETTINGS {
        command.env_remove(setting.env);
    }
    command
}

fn run(name: &str, arguments: &[&str]) -> Output {
    program(name).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A folder of one test, gone after it.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn default_model() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models_cache/tiny-tales-f16.gguf")
}
