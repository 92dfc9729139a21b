//! When a watch that has ended is opened again. kube waits after an error, and after an end without one it does not: an API
//! server that ends each watch as soon as it is open, or a proxy before it, would be asked without end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Request;
use kube::Client;
use kube::client::Body;
use tokio::time::{Instant, sleep_until};
use tower::service_fn;

/// Between the first two; from then on twice as much each time.
const FIRST: Duration = Duration::from_millis(250);
/// News is late by no more than this. A watch that has lasted as long is opened again at once.
const LONGEST: Duration = Duration::from_secs(5);

/// The client for one watch: it opens it ever later, while it does not last.
pub(super) fn paced(client: &Client) -> Client {
    let (inner, pace) = (client.clone(), Arc::new(Mutex::new(Pace::default())));
    let send = move |request: Request<Body>| {
        let (inner, pace) = (inner.clone(), Arc::clone(&pace));
        async move {
            if is_watch(&request) {
                let at = pace.lock().unwrap_or_else(PoisonError::into_inner).next(Instant::now());
                sleep_until(at).await;
            }
            inner.send(request).await
        }
    };
    Client::new(service_fn(send), client.default_namespace())
}

fn is_watch(request: &Request<Body>) -> bool {
    request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"))
}

#[derive(Debug, Default)]
struct Pace {
    /// When it was opened last.
    opened: Option<Instant>,
    /// How often in a row it has not lasted.
    short: u32,
}

impl Pace {
    /// When to open a watch that is asked for now; the one before has ended.
    fn next(&mut self, now: Instant) -> Instant {
        let recent = self.opened.filter(|opened| now < *opened + LONGEST);
        self.short = if recent.is_some() { self.short.saturating_add(1) } else { 0 };
        let pause = FIRST.saturating_mul(2_u32.saturating_pow(self.short.saturating_sub(1))).min(LONGEST);
        let at = recent.map_or(now, |opened| now.max(opened + pause));
        self.opened = Some(at);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_last_is_opened_ever_later_and_what_has_lasted_at_once() {
        let begun = Instant::now();
        let mut pace = Pace::default();
        // How long each has lasted, and what is waited then.
        let table = [
            (0, 250),
            (0, 500),
            (300, 700),
            (1500, 500),
            (4100, 0),
            (0, 5000),
            (4999, 1),
            (5000, 0),
            (0, 250),
            (300_000, 0),
        ];
        let mut opened = pace.next(begun);
        assert_eq!(opened, begun);
        for (lasted, waits) in table {
            let ended = opened + Duration::from_millis(lasted);
            opened = pace.next(ended);
            assert_eq!(opened - ended, Duration::from_millis(waits), "after {lasted} ms");
        }
    }

    #[test]
    fn lists_and_writes_do_not_wait() {
        let is = |path: &str| is_watch(&Request::get(path).body(Body::empty()).unwrap());
        assert!(is("/api/v1/pods?&watch=true&timeoutSeconds=290"));
        assert!(!is("/api/v1/pods?&limit=100") && !is("/api/v1/namespaces/n/pods/watch=true"));
    }
}
