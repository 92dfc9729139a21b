//! `operator run` as a process of its own: this test's program, started once more.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use clap::Parser;
use shard_e2e::until;
use shard_operator::cli::Cli;

/// Its arguments, a line each.
const ARGS: &str = "E2E_OPERATOR_ARGS";
/// Of its log, what is shown where a test fails.
const SHOWN: usize = 40;

pub(crate) struct Operator {
    child: Child,
    log: PathBuf,
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = said.lines().collect();
            eprintln!("the operator:\n{}", lines[lines.len().saturating_sub(SHOWN)..].join("\n"));
        }
    }
}

impl Operator {
    /// `args` as a shell would give them; its log is named after the test.
    pub(crate) fn start(test: &str, args: &[&str], kubeconfig: &Path) -> Self {
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}.log"));
        let file = File::create(&log).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_operator", "--ignored", "--nocapture"]).env(ARGS, args.join("\n"));
        command.env("KUBECONFIG", kubeconfig).env("POD_NAME", "operator-0").env_remove("RUST_LOG");
        // Its usual port may be somebody's.
        command.env("OPERATOR_LISTEN", "127.0.0.1:0").stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(file);
        Self { child: command.spawn().unwrap(), log }
    }

    /// As Kubernetes ends a pod.
    pub(crate) async fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let child = std::sync::Mutex::new(&mut self.child);
        let ended = until("the operator ends", || async { child.lock().unwrap().try_wait().unwrap() }).await;
        assert!(ended.success(), "{ended}");
    }
}

/// What the process does. It goes with whoever has started it.
pub(crate) fn run() {
    let Ok(args) = std::env::var(ARGS) else { return };
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
    let args = ["operator"].into_iter().chain(args.lines());
    if let Err(error) = Cli::try_parse_from(args).unwrap().run() {
        let _ = writeln!(std::io::stderr(), "operator: {error:?}");
        std::process::exit(1);
    }
}
