//! One gateway, asked for as long as it is there.

use std::future::Future;
use std::time::Duration;

use shard_wire::pipeline::PipelineStatus;
use tokio::time::{Instant, sleep};

use super::link::{GatewayError, Link};

/// Between an answer and the next question: changes that come together are one.
const PAUSE: Duration = Duration::from_millis(250);
/// After an answer that says nothing new, and yet came at once: this gateway does not wait.
const PATIENCE: Duration = Duration::from_secs(2);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Tells each answer that differs from the last one, and a silence once.
pub(super) async fn poll<T, F>(mut link: Link, tell: T)
where
    T: Fn(Result<PipelineStatus, GatewayError>) -> F + Send,
    F: Future<Output = ()> + Send,
{
    let mut last: Option<PipelineStatus> = None;
    let (mut silent, mut retry) = (false, FIRST_RETRY);
    // A connection that lay idle may have been closed by then: only the second failure in a row is one.
    let mut failed = false;
    loop {
        let asked = Instant::now();
        let since = last.as_ref().map(|last| last.revision.as_str());
        match link.pipeline(since).await {
            Ok(answer) => {
                let news = silent || last.as_ref() != Some(&answer);
                if news {
                    tell(Ok(answer.clone())).await;
                    last = Some(answer);
                }
                (silent, failed, retry) = (false, false, FIRST_RETRY);
                sleep(if news || asked.elapsed() > PATIENCE { PAUSE } else { PATIENCE }).await;
            }
            Err(error) => {
                let told = failed || error.is_sure();
                if told && !silent {
                    silent = true;
                    tell(Err(error)).await;
                }
                failed = true;
                sleep(retry).await;
                retry = (2 * retry).min(LAST_RETRY);
                // Whatever it says next, it says at once.
                if silent {
                    last = None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    /// Answers each connection's first request with the next of these, then closes it; `None` closes it at once. What was
    /// asked is kept.
    async fn gateway(answers: Vec<Option<&'static str>>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let (mut answers, kept) = (VecDeque::from(answers), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Some(answer) = answers.pop_front() {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                let head = String::from_utf8_lossy(&request[..length]).lines().next().unwrap().to_owned();
                kept.lock().unwrap().push(head);
                if let Some(revision) = answer {
                    let status = PipelineStatus { revision: revision.into(), ..PipelineStatus::default() };
                    let body = serde_json::to_string(&status).unwrap();
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                        body.len()
                    );
                    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
                }
            }
        });
        (at, asked)
    }

    #[tokio::test]
    async fn one_failure_is_none_silence_is_told_once_and_an_answer_ends_it() {
        let answers = vec![Some("a"), None, Some("b"), None, None, None, Some("b")];
        let (at, asked) = gateway(answers).await;
        let (told, mut heard) = mpsc::channel(16);
        let tell = move |answer: Result<PipelineStatus, GatewayError>| {
            let told = told.clone();
            async move { told.send(answer.map(|status| status.revision).ok()).await.unwrap() }
        };
        let polls = tokio::spawn(poll(Link::new(at, None), tell));
        let mut all = Vec::new();
        while all.len() < 4 {
            all.push(timeout(Duration::from_secs(60), heard.recv()).await.unwrap().unwrap());
        }
        polls.abort();
        assert_eq!(all, [Some("a".to_owned()), Some("b".to_owned()), None, Some("b".to_owned())]);
        let asked = asked.lock().unwrap();
        let since = |revision: &str| format!("GET /api/v1/pipeline?since={revision}&wait=25 HTTP/1.1");
        assert_eq!(asked[..3], ["GET /api/v1/pipeline HTTP/1.1".to_owned(), since("a"), since("a")]);
        assert_eq!(asked[6], "GET /api/v1/pipeline HTTP/1.1", "after a silence it says at once what it has");
    }
}
