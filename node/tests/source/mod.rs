//! A source of models for tests: an HTTP server on loopback that does what a test's script says.

#![allow(dead_code, unreachable_pub, reason = "each test program is a crate and uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests, outside a test function")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// As in the request: a path, for a proxy a whole address.
    pub target: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// First byte that is asked for.
    pub fn offset(&self) -> u64 {
        let range = self.header("range").map(|range| range.strip_prefix("bytes=").unwrap());
        range.map_or(0, |range| range.strip_suffix('-').unwrap().parse().unwrap())
    }
}

/// A file at the source.
#[derive(Clone)]
pub struct File {
    pub body: Arc<Vec<u8>>,
    pub etag: Option<String>,
    /// It gives parts of it.
    pub ranges: bool,
    /// So many more bytes are said than sent.
    pub excess: usize,
    /// The connection breaks after so many bytes of an answer.
    pub cut: Option<usize>,
    /// One permit for every 64 KiB.
    pub pace: Option<Arc<Semaphore>>,
}

impl File {
    pub fn new(body: Vec<u8>) -> Self {
        let etag = Some("\"1\"".to_owned());
        Self { body: Arc::new(body), etag, ranges: true, excess: 0, cut: None, pace: None }
    }
}

/// What to do with a request.
#[derive(Clone)]
pub enum Answer {
    File(File),
    /// A status line with headers, each with its line's end, and a body.
    Status(&'static str, String, &'static str),
    /// A tunnel to this address, as a proxy makes it.
    Tunnel(SocketAddr),
    /// Nothing, for ever.
    Silence,
}

pub fn status(line: &'static str) -> Answer {
    Answer::Status(line, String::new(), "")
}

pub fn redirect(to: &str) -> Answer {
    Answer::Status("302 Found", format!("location: {to}\r\n"), "")
}

type Script = dyn Fn(&Request, usize) -> Answer + Send + Sync;

/// A source that answers until it is dropped.
pub struct Source {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Source {
    /// `script` gets the request and how many came before it.
    pub async fn start(script: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::with(None, script).await
    }

    pub async fn with(
        tls: Option<TlsAcceptor>,
        script: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, script): (_, Arc<Script>) = (Arc::clone(&requests), Arc::new(script));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, script, tls) = (Arc::clone(&seen), Arc::clone(&script), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &seen, &*script).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, &seen, &*script).await,
                            Err(error) => Err(error),
                        },
                    }
                });
            }
        });
        Self { address, requests, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// One request a connection.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    seen: &Mutex<Vec<Request>>,
    script: &Script,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8(head).unwrap();
    let mut lines = text.lines();
    let mut words = lines.next().unwrap().split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let request = Request { method, target, headers };
    let before = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    match script(&request, before) {
        Answer::File(file) => send(&mut stream, &request, &file).await?,
        Answer::Status(line, headers, body) => {
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {line}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).await?;
        }
        Answer::Tunnel(to) => {
            let mut other = TcpStream::connect(to).await?;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            tokio::io::copy_bidirectional(&mut stream, &mut other).await?;
        }
        Answer::Silence => std::future::pending().await,
    }
    stream.shutdown().await
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), request: &Request, file: &File) -> std::io::Result<()> {
    let same = request.header("if-range").is_none_or(|tag| Some(tag) == file.etag.as_deref());
    let offset = if file.ranges && same { request.offset() as usize } else { 0 };
    let size = file.body.len() + file.excess;
    let mut head = if offset == 0 {
        "HTTP/1.1 200 OK\r\n".to_owned()
    } else {
        format!("HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {offset}-{}/{size}\r\n", size - 1)
    };
    head += &format!("connection: close\r\ncontent-length: {}\r\n", size - offset);
    if let Some(etag) = &file.etag {
        head += &format!("etag: {etag}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    if request.method == "HEAD" {
        return Ok(());
    }
    let body = &file.body[offset..];
    let body = &body[..file.cut.unwrap_or(body.len()).min(body.len())];
    for chunk in body.chunks(64 << 10) {
        if let Some(pace) = &file.pace {
            stream.flush().await?;
            pace.acquire().await.unwrap().forget();
        }
        stream.write_all(chunk).await?;
    }
    stream.flush().await
}
