//! When a watch that has ended is opened again, and what it watches listed again. kube waits after an error, and after an
//! end without one it does not: an API server that ends each watch as soon as it is open, or a proxy before it, would be
//! asked without end. After a list that fails kube's wait does not grow.

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
    let (inner, paces) = (client.clone(), Arc::new(Mutex::new(Paces::default())));
    let send = move |request: Request<Body>| {
        let (inner, paces) = (inner.clone(), Arc::clone(&paces));
        async move {
            let at = paces.lock().unwrap_or_else(PoisonError::into_inner).next(&request, Instant::now());
            sleep_until(at).await;
            inner.send(request).await
        }
    };
    Client::new(service_fn(send), client.default_namespace())
}

#[derive(Debug, Default)]
struct Paces {
    list: Pace,
    watch: Pace,
}

impl Paces {
    /// When to send it. The pages of one list follow each other at once.
    fn next(&mut self, request: &Request<Body>, now: Instant) -> Instant {
        let mut pairs = request.uri().query().unwrap_or_default().split('&');
        if pairs.clone().any(|pair| pair == "watch=true") {
            self.watch.next(now)
        } else if pairs.any(|pair| pair.starts_with("continue=")) {
            now
        } else {
            self.list.next(now)
        }
    }
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
    fn lists_and_watches_wait_for_their_own_kind_and_pages_for_nothing() {
        let (begun, mut paces) = (Instant::now(), Paces::default());
        let mut waits = |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            paces.next(&request, begun).duration_since(begun).as_millis()
        };
        let table = [
            ("/api/v1/pods?&limit=100", 0),
            ("/api/v1/pods?&limit=100&continue=abc", 0),
            ("/api/v1/pods?&watch=true&timeoutSeconds=290", 0),
            ("/api/v1/pods?&limit=100", 250),
            ("/api/v1/pods?&watch=true&timeoutSeconds=290", 250),
            ("/api/v1/pods?&limit=100&continue=abc", 0),
            ("/api/v1/pods?&limit=100", 750),
        ];
        for (path, expected) in table {
            assert_eq!(waits(path), expected, "{path}");
        }
    }
}
