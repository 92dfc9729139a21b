//! What our HTTP servers have in common. Connections: at most so many at once, none that never sends its request or never reads its answer, and an end to
//! all of them at shutdown.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::patient::Patient;

mod patient;

/// Pause after an accept that failed, which is when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What bounds the connections of one server.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    /// Served at once; more wait in the kernel's backlog.
    pub at_once: usize,
    /// How long the head of a request may take to arrive, the first one and any later one.
    pub head: Duration,
    /// How long a client may read nothing of what it asked for.
    pub write: Duration,
    /// How long connections may go on after the shutdown began.
    pub drain: Duration,
}

/// Serves `app` until `shutdown` is ready, then lets connections finish within the limit for that.
/// A failed accept is logged and tried again.
pub async fn serve(
    listener: TcpListener,
    app: axum::Router,
    limits: Connections,
    shutdown: impl Future<Output = ()>,
) {
    let room = Arc::new(Semaphore::new(limits.at_once));
    let (closing, closed) = watch::channel(());
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let stream = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            stream = accept(&listener, &room) => stream,
        };
        let (stream, permit) = match stream {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (app, closed, head) = (app.clone(), closed.clone(), limits.head);
        let stream = Patient::new(stream, limits.write);
        connections.spawn(async move {
            connection(stream, app, head, closed).await;
            drop(permit);
        });
    }
    drop(listener);
    drop(closing);
    let drained = timeout(limits.drain, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(open = connections.len(), "connections cut off at shutdown");
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Tokens are small and each one is waited for.
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

async fn connection(stream: Patient, app: axum::Router, head: Duration, mut closed: watch::Receiver<()>) {
    let service = TowerToHyperService::new(app);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        _ = closed.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}
