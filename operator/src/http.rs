//! Health, readiness and metrics over HTTP.
//!
//! 1. Accept. Where many connections are open, the oldest is cut off: who asks properly is answered long before it is that.
//! 2. One request of a connection, which has 10 s for everything: a client that is slow to ask or to read is cut off.
//! 3. Told to stop: nothing more is accepted, and what is open has a second.

mod answer;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::clock::uptime;
use crate::telemetry::Telemetry;

/// Of those who ask there are few: kubelets and Prometheus.
const OPEN: usize = 64;
/// More than a probe or a scrape waits.
const DEADLINE: Duration = Duration::from_secs(10);
/// Of a head. Hyper takes no less.
const HEAD_BYTES: usize = 8 << 10;
/// After an accept that failed, which is when file descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);
const DRAIN: Duration = Duration::from_secs(1);

/// Answers until `stop`.
pub async fn serve(listener: TcpListener, telemetry: Telemetry, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    let mut tasks = JoinSet::new();
    let mut open = VecDeque::<AbortHandle>::new();
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                sleep(PAUSE).await;
                continue;
            }
        };
        open.retain(|one| !one.is_finished());
        if open.len() >= OPEN {
            open.pop_front().inspect(AbortHandle::abort);
        }
        open.push_back(tasks.spawn(connection(stream, telemetry.clone())));
    }
    drop(listener);
    let _ = timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
}

async fn connection(stream: TcpStream, telemetry: Telemetry) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer::answer(request.method(), request.uri().path(), &telemetry, uptime());
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(DEADLINE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection ended early"),
        Err(_) => debug!("a connection took longer than {DEADLINE:?}"),
    }
}
