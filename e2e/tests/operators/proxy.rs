//! Between one operator and the API server. Where it is cut, requests and answers stay on their way.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures::StreamExt;
use kube::Client;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

const MOST: usize = 4 << 20;

/// What API servers were told to change, in the order in which it came about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// Who holds the lease from now on.
    Leads(String),
    /// An operator wrote something else.
    Wrote { by: &'static str, what: String },
}

#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Vec<Event>>>);

impl Record {
    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    fn add(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }

    /// Who has led, one after the other; renewals are left out.
    pub(crate) fn leaders(&self) -> Vec<String> {
        let mut leaders: Vec<String> = Vec::new();
        for event in self.events() {
            if let Event::Leads(who) = event {
                leaders.push(who);
            }
        }
        leaders.dedup();
        leaders
    }

    pub(crate) fn writes_of(&self, operator: &str) -> usize {
        let all = self.events();
        all.iter().filter(|one| matches!(one, Event::Wrote { by, .. } if *by == operator)).count()
    }

    /// Each write is of who cut the lease at that time.
    pub(crate) fn check(&self) {
        let mut leader = String::new();
        for event in self.events() {
            match event {
                Event::Leads(who) => leader = who,
                Event::Wrote { by, what } => {
                    assert!(leader.starts_with(&format!("{by}_")), "{by} wrote {what} while {leader:?} led");
                }
            }
        }
    }
}

#[derive(Clone)]
struct Line {
    operator: &'static str,
    client: Client,
    record: Record,
    cut: watch::Receiver<bool>,
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    cut: watch::Sender<bool>,
}

impl Proxy {
    pub(crate) async fn start(operator: &'static str, client: Client, record: Record) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, cut) = watch::channel(false);
        let router = Router::new().fallback(pass).with_state(Line { operator, client, record, cut });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, cut: sender }
    }

    pub(crate) fn cut(&self) {
        self.cut.send_replace(true);
    }

    pub(crate) fn heal(&self) {
        self.cut.send_replace(false);
    }
}

async fn pass(State(line): State<Line>, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let body = to_bytes(body, MOST).await.unwrap();
    whole(line.cut.clone()).await;
    head.headers.remove("host");
    head.uri = head.uri.path_and_query().unwrap().as_str().parse().unwrap();
    let (reads, path) = (head.method == "GET", head.uri.path().to_owned());
    let what = format!("{} {path}", head.method);
    let of_lease = path.contains("/leases");
    if !reads && !of_lease {
        line.record.add(Event::Wrote { by: line.operator, what });
    }
    let answer = line.client.send(Request::from_parts(head, body.into())).await.unwrap();
    let (head, body) = answer.into_parts();
    let mut body = Body::new(body);
    if !reads && of_lease {
        let bytes = to_bytes(body, MOST).await.unwrap();
        if head.status.is_success() {
            let lease: Value = serde_json::from_slice(&bytes).unwrap();
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
            line.record.add(Event::Leads(holder.to_owned()));
        }
        body = bytes.into();
    }
    whole(line.cut.clone()).await;
    let body = body.into_data_stream().then(move |bytes| {
        let passes = whole(line.cut.clone());
        async {
            passes.await;
            bytes
        }
    });
    Response::from_parts(head, Body::from_stream(body))
}

async fn whole(mut cut: watch::Receiver<bool>) {
    let _ = cut.wait_for(|cut| !cut).await;
}
