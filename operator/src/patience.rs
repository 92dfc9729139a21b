//! Ends requests that nobody answers: an API server ends by itself what takes it a minute, so that one which takes longer
//! than that will never be answered, and whoever waits for it would wait for ever.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper::Request;
use thiserror::Error;
use tokio::time::timeout;
use tower::{BoxError, Layer, Service};

/// What an API server takes at most, and the way there and back.
const LIMIT: Duration = Duration::from_secs(75);

/// Why a request has failed.
#[derive(Debug, Error)]
#[error("the API server has not answered within {LIMIT:?}")]
struct Unanswered;

/// A layer of a client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience;

impl<S> Layer<S> for Patience {
    type Service = Patient<S>;

    fn layer(&self, inner: S) -> Patient<S> {
        Patient(inner)
    }
}

/// A client whose requests end.
#[derive(Clone, Debug)]
pub struct Patient<S>(S);

impl<S, B> Service<Request<B>> for Patient<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async {
            timeout(LIMIT, answer)
                .await
                .map_or_else(|_| Err(Unanswered.into()), |done| done.map_err(Into::into))
        })
    }
}
