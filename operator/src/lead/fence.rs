//! Keeps a leader whose time is up from writing, whatever its tasks think: a process that was stopped for a while wakes
//! up in the middle of a write.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::{Method, Request};
use thiserror::Error;
use tower::{BoxError, Layer, Service};

use crate::clock::uptime;

/// How long one term of a leader lasts. Once closed it stays so: the next term has a fence of its own.
#[derive(Clone, Debug)]
pub struct Fence {
    /// Milliseconds of uptime.
    end: Arc<AtomicU64>,
}

/// Why a write was not sent.
#[derive(Debug, Error)]
#[error("this operator does not lead any more, so it writes nothing")]
struct Closed;

impl Fence {
    /// Open until this uptime, unless it is moved.
    pub(super) fn until(end: Duration) -> Self {
        Self { end: Arc::new(AtomicU64::new(millis(end))) }
    }

    /// Moves the end; a fence that is closed stays closed.
    pub(super) fn extend(&self, end: Duration) {
        let now = millis(uptime());
        let moved = |old| (old > now).then_some(millis(end).max(old));
        // Refused only where it is closed, which is what is wanted then.
        let _ = self.end.fetch_update(Ordering::SeqCst, Ordering::SeqCst, moved);
    }

    pub(super) fn close(&self) {
        self.end.store(0, Ordering::SeqCst);
    }

    /// How long it is still open.
    pub(super) fn left(&self) -> Duration {
        Duration::from_millis(self.end.load(Ordering::SeqCst)).saturating_sub(uptime())
    }

    fn is_open(&self) -> bool {
        !self.left().is_zero()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl<S> Layer<S> for Fence {
    type Service = Fenced<S>;

    fn layer(&self, inner: S) -> Fenced<S> {
        Fenced { fence: self.clone(), inner }
    }
}

/// A client's requests; those that write pass while the fence is open.
#[derive(Clone, Debug)]
pub struct Fenced<S> {
    fence: Fence,
    inner: S,
}

impl<S, B> Service<Request<B>> for Fenced<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Passing<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let reads = [Method::GET, Method::HEAD].contains(request.method());
        let fence = (!reads).then(|| self.fence.clone());
        let open = fence.as_ref().is_none_or(Fence::is_open);
        Passing { fence, inner: open.then(|| Box::pin(self.inner.call(request))) }
    }
}

/// A request on its way. One that waits for a connection when its fence is closed is not sent.
#[derive(Debug)]
pub struct Passing<F> {
    fence: Option<Fence>,
    inner: Option<Pin<Box<F>>>,
}

impl<F, T, E> Future for Passing<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let open = self.fence.as_ref().is_none_or(Fence::is_open);
        match &mut self.inner {
            Some(inner) if open => inner.as_mut().poll(context).map_err(Into::into),
            inner => {
                *inner = None;
                Poll::Ready(Err(Closed.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::FutureExt;
    use tokio::sync::Notify;
    use tower::ServiceExt;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn request(method: Method) -> Request<()> {
        Request::builder().method(method).body(()).unwrap()
    }

    async fn passes(fence: &Fence, method: Method) -> bool {
        let server = tower::service_fn(|_: Request<()>| async { Ok::<_, Infallible>(()) });
        fence.layer(server).oneshot(request(method)).await.is_ok()
    }

    #[tokio::test]
    async fn writes_pass_while_it_is_open_and_reads_always() {
        let fence = Fence::until(uptime() + LONG);
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert!(passes(&fence, method).await);
        }
        fence.close();
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert!(!passes(&fence, method).await);
        }
        assert!(passes(&fence, Method::GET).await);
        fence.extend(uptime() + LONG);
        assert!(!passes(&fence, Method::PATCH).await, "it is not opened again");
    }

    #[tokio::test]
    async fn it_ends_by_itself_unless_it_is_moved() {
        let fence = Fence::until(uptime());
        assert!(!passes(&fence, Method::PATCH).await);
        let fence = Fence::until(uptime() + LONG);
        fence.extend(uptime() + 2 * LONG);
        assert!(fence.left() > LONG);
        fence.extend(uptime() + LONG);
        assert!(fence.left() > LONG, "an answer that comes late takes nothing back");
    }

    #[tokio::test]
    async fn a_write_that_waits_goes_no_further_when_it_closes() {
        let fence = Fence::until(uptime() + LONG);
        let connected = Arc::new(Notify::new());
        let sent = Arc::new(AtomicU64::new(0));
        let server = tower::service_fn(|_: Request<()>| {
            let (connected, sent) = (Arc::clone(&connected), Arc::clone(&sent));
            async move {
                connected.notified().await;
                sent.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Infallible>(())
            }
        });
        let mut fenced = fence.layer(server);
        let mut first = fenced.call(request(Method::PATCH));
        assert!((&mut first).now_or_never().is_none());
        connected.notify_one();
        assert!(first.await.is_ok());
        let mut second = fenced.call(request(Method::PATCH));
        assert!((&mut second).now_or_never().is_none());
        fence.close();
        connected.notify_one();
        assert!(second.await.is_err());
        assert_eq!(sent.load(Ordering::SeqCst), 1);
    }
}
