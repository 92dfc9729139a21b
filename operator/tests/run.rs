//! `operator run` as a process: it ends when it is told to, also where it has never reached an API server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Far below what kube gives a request, and a pod has to end.
const SOON: Duration = Duration::from_secs(10);

fn kubeconfig(test: &str, port: u16) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}.kubeconfig"));
    let config = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
         clusters: [{{name: a, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\n\
         users: [{{name: a, user: {{}}}}]\n\
         contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n"
    );
    std::fs::write(&path, config).unwrap();
    path
}

struct Operator(Child);

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Operator {
    /// Runs until it says that it has started; signals are heard by then.
    fn start(test: &str, port: u16) -> Self {
        let path = kubeconfig(test, port);
        let mut command = Command::new(env!("CARGO_BIN_EXE_operator"));
        command
            .args(["run", "--listen=127.0.0.1:0"])
            .env("KUBECONFIG", path)
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped());
        let mut operator = Self(command.spawn().unwrap());
        let mut said = BufReader::new(operator.0.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(said.any(|line| line.contains("the operator starts")), "it ended without a word");
        // Whoever logs must not wait for a reader.
        std::thread::spawn(move || said.for_each(drop));
        operator
    }

    /// Its exit code after a signal.
    fn end(mut self, signal: &str) -> Option<i32> {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        let begun = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < SOON, "it goes on after {signal}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn it_ends_where_the_api_server_says_nothing_or_is_not_there() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (server, port) in [("silent", silent.local_addr().unwrap().port()), ("refusing", nobody)] {
        for signal in ["-TERM", "-INT"] {
            let operator = Operator::start(&format!("{server}{signal}"), port);
            assert_eq!(operator.end(signal), Some(0), "{server}, {signal}");
        }
    }
}

#[test]
fn an_address_that_is_taken_ends_it_with_the_flag_that_changes_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = kubeconfig("taken", taken.local_addr().unwrap().port());
    let mut command = Command::new(env!("CARGO_BIN_EXE_operator"));
    let ended = command.args(["run", "--listen", &address]).env("KUBECONFIG", config).output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("on {address}")) && said.contains("--listen"), "{said}");
}
