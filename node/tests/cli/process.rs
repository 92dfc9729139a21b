//! Processes of a test, started by flags as on several machines, and what they answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Folder, default_model, program, run, text};

pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A process that ends with the test, and what it has said on standard output.
pub(crate) struct Running {
    process: Child,
    said: Arc<(Mutex<String>, Condvar)>,
}

impl Running {
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = program(name);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let said = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let mut lines = heard.0.lock().unwrap();
                *lines += &line;
                *lines += "\n";
                heard.1.notify_all();
            }
        });
        Self { process, said }
    }

    /// Waits until it has said this; all that it has said by then.
    pub(crate) fn says(&self, text: &str) -> String {
        let lines = self.said.0.lock().unwrap();
        let (lines, timeout) =
            self.said.1.wait_timeout_while(lines, SOON, |lines| !lines.contains(text)).unwrap();
        assert!(!timeout.timed_out(), "it never said {text:?}, but:\n{lines}");
        lines.clone()
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that nobody has for TCP or UDP, below those that the system gives to whoever asks for any: a connection of
/// another test cannot take it before the program does.
pub(crate) fn free_port() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = ("127.0.0.1", 12_000 + (number % 20_000) as u16);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address.1.to_string();
        }
    }
}

/// Sends a request and reads until `enough` is in the answer, or it ends; empty where nobody listens.
pub(crate) fn ask(port: &str, request: &str, enough: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(format!("127.0.0.1:{port}")) else { return String::new() };
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let (mut answer, mut buffer) = (String::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        answer += &String::from_utf8_lossy(&buffer[..read]);
        if answer.contains(enough) {
            break;
        }
    }
    answer
}

pub(crate) fn get(port: &str, path: &str, enough: &str) -> String {
    ask(port, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"), enough)
}

pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A folder with the default model in so many shards.
pub(crate) fn split(name: &str, shards: &str) -> Folder {
    let folder = Folder::new(name);
    let (model, out) = (default_model(), folder.0.to_str().unwrap().to_owned());
    let split = run("shardctl", &["split", model.to_str().unwrap(), "--shards", shards, "--out", &out]);
    assert!(split.status.success(), "{}", text(&split.stderr));
    folder
}

/// A bootstrap that listens.
pub(crate) struct Bootstrap {
    /// Where nodes and gateways look for it.
    pub(crate) address: String,
    _process: Running,
}

impl Bootstrap {
    pub(crate) fn start(transport: &str, more: &[&str]) -> Self {
        Self::at(&format!("127.0.0.1:{}", free_port()), transport, more)
    }

    /// On an address of 127.0.0.1 or [::1].
    pub(crate) fn at(address: &str, transport: &str, more: &[&str]) -> Self {
        let (ip, port) = address.rsplit_once(':').unwrap();
        let diagnostics = free_port();
        let own = ["--listen-addr", ip.trim_matches(['[', ']']), "--transport", transport, "--port", port];
        let process =
            Running::start("server", &[&own[..], &["--diagnostics-port", &diagnostics], more].concat());
        process.says("Bootstrap server started!");
        Self { address: address.to_owned(), _process: process }
    }

    /// A node that joins here.
    pub(crate) fn node(&self, transport: &str, dir: &Folder, more: &[&str]) -> Node {
        let (port, diagnostics) = (free_port(), free_port());
        let dir = dir.0.to_str().unwrap();
        let own = ["--listen-addr", "127.0.0.1", "--transport", transport, "--port", &port];
        let join = ["--bootstrap", &self.address, "--shards-dir", dir, "--threads", "1"];
        let process = Running::start(
            "shard_listener",
            &[&own[..], &join, &["--diagnostics-port", &diagnostics], more].concat(),
        );
        Node { address: format!("127.0.0.1:{port}"), transport: transport.to_owned(), diagnostics, process }
    }

    /// A gateway that finds its shards here; its port.
    pub(crate) fn gateway(&self, transport: &str) -> (Running, String) {
        self.gateway_with(transport, &[])
    }

    pub(crate) fn gateway_with(&self, transport: &str, more: &[&str]) -> (Running, String) {
        let http = free_port();
        let own = ["--listen-addr", "127.0.0.1", "--transport", transport, "--http-port", &http];
        (Running::start("web_server", &[&own[..], &["--bootstrap", &self.address], more].concat()), http)
    }
}

/// A node of a test.
pub(crate) struct Node {
    address: String,
    transport: String,
    pub(crate) diagnostics: String,
    pub(crate) process: Running,
}

impl Node {
    /// Where it listens, as `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The whole response to a command.
    pub(crate) fn call(&self, command: &str, params: &str) -> Value {
        self.call_as(command, params, &[])
    }

    /// As [`Self::call`], with further flags.
    pub(crate) fn call_as(&self, command: &str, params: &str, more: &[&str]) -> Value {
        let call = ["call", &self.address, command, params, "--transport", &self.transport];
        let output = run("shardctl", &[&call[..], &["--output", "json", "--timeout", "60"], more].concat());
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{command}: {}", text(&output.stderr)))
    }
}

/// Waits until the gateway's pipeline is complete.
pub(crate) fn complete(http: &str) {
    let complete = "\"pipeline_complete\":true";
    until("the pipeline is complete", || get(http, "/api/v1/pipeline", complete).contains(complete));
}
