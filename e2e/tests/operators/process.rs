//! `operator run` as a process: this test program, started anew.

use std::fmt::Write;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use serde_json::Value;
use shard_e2e::until;
use shard_operator::cli::Cli;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const WORDS: &str = "OPERATOR_PROCESS_WORDS";
const PATIENCE: Duration = Duration::from_secs(5);

/// The other side: asked for by [`Process::start`] alone.
#[test]
#[ignore = "asked for by the others"]
fn operator_process() {
    let Ok(words) = std::env::var(WORDS) else { return };
    // Whoever started it is gone when its standard input ends.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(9);
    });
    Cli::parse_from(words.split(' ')).run().unwrap();
}

pub(crate) struct Process {
    name: &'static str,
    child: Child,
    _alive: ChildStdin,
    said: Arc<Mutex<Vec<String>>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.name, self.said.lock().unwrap().join("\n"));
        }
    }
}

impl Process {
    /// Its lease and its ShardClusters are in this namespace, and its API server is at this port.
    pub(crate) fn start(name: &'static str, namespace: &str, port: u16, folder: &Path) -> Self {
        let config = folder.join(name);
        let mut text = String::from("apiVersion: v1\nkind: Config\ncurrent-context: a\n");
        let _ = writeln!(text, "clusters: [{{name: a, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]");
        text.push_str(
            "users: [{name: a, user: {}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n",
        );
        std::fs::write(&config, text).unwrap();
        let words = format!(
            "operator run --namespace={namespace} --watch-namespace={namespace} --pod-name={name} \
             --listen=127.0.0.1:0 --log-format=json"
        );
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "operators::process::operator_process", "--ignored", "--nocapture"]);
        command.env("KUBECONFIG", config).env("RUST_LOG", "info").env(WORDS, words);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&said));
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line));
        });
        let alive = child.stdin.take().unwrap();
        Self { name, child, _alive: alive, said }
    }

    /// What it has logged.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let said = self.said.lock().unwrap();
        said.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub(crate) async fn until_says(&self, message: &str) -> Value {
        until(&format!("{} says {message:?}", self.name), || async {
            self.lines()
                .into_iter()
                .find(|line| line["fields"]["message"].as_str().is_some_and(|said| said.contains(message)))
        })
        .await
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Its exit code, when it has ended by itself.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let child = Mutex::new(&mut self.child);
        until("it has ended", || async { child.lock().unwrap().try_wait().unwrap() }).await.code()
    }

    /// Code and text of a path of its HTTP server.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let starts = self.until_says("the operator starts").await;
        let mut stream = TcpStream::connect(starts["fields"]["address"].as_str().unwrap()).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.trim_end().to_owned())
    }

    /// The value of a metric, with its labels as they are written.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("shardcluster_operator_{name} ")));
        line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
    }

    pub(crate) async fn until_ready(&self, text: &str) {
        until(&format!("{} is ready: {text}", self.name), || async {
            let (code, said) = self.get("/readyz").await;
            (code == 200 && said.starts_with(text)).then_some(())
        })
        .await;
    }
}
