//! Counts what a client writes.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use hyper::{Method, Request, Response};
use tower::{Layer, Service};

use super::Metrics;

/// A layer of a client: requests that write are counted, by method and answer.
#[derive(Clone, Debug)]
pub struct CountWrites(pub Metrics);

impl<S> Layer<S> for CountWrites {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { metrics: self.0.clone(), inner }
    }
}

/// A client whose writes are counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    metrics: Metrics,
    inner: S,
}

impl<S, A, B> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<B>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let method = request.method().clone();
        let answer = self.inner.call(request);
        if [Method::GET, Method::HEAD].contains(&method) {
            return Box::pin(answer);
        }
        let metrics = self.metrics.clone();
        Box::pin(async move {
            let answer = answer.await;
            metrics.wrote(&method, answer.as_ref().ok().map(Response::status));
            answer
        })
    }
}
