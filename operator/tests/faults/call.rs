//! A request, as an API server understands it.

use std::fmt;

use http_body_util::BodyExt;
use hyper::{Method, Request};
use kube::client::Body;
use serde_json::Value;

use crate::objects::Place;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Apply,
    Merge,
    Delete,
}

impl Verb {
    pub(crate) fn reads(self) -> bool {
        matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) verb: Verb,
    pub(crate) place: Place,
    pub(crate) subresource: String,
    /// Of a watch: after which version.
    pub(crate) since: u64,
    /// Of a list or a watch: with which label.
    pub(crate) label: String,
    pub(crate) body: Value,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { kind, namespace, name } = &self.place;
        write!(f, "{:?} {namespace}/{kind}/{name}/{} {}", self.verb, self.subresource, self.body)
    }
}

impl Call {
    pub(crate) fn is(&self, verb: Verb, kind: &str, name: &str) -> bool {
        self.verb == verb && self.place.kind == kind && self.place.name == name && self.subresource.is_empty()
    }

    /// The status of a ShardCluster is written.
    pub(crate) fn is_status(&self) -> bool {
        self.subresource == "status"
    }

    pub(crate) async fn read(request: Request<Body>) -> Self {
        let (head, body) = request.into_parts();
        let query = |key: &str| {
            let pairs =
                head.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            let mut values = pairs.filter(|(name, _)| *name == key).map(|(_, value)| value);
            values.next().unwrap_or_default().replace("%3D", "=").replace("%2F", "/")
        };
        // /api/v1/… and /apis/GROUP/VERSION/…
        let mut rest = head.uri.path().split('/').skip(1).peekable();
        let group = if rest.next() == Some("api") { 1 } else { 2 };
        let mut rest = rest.skip(group).peekable();
        let namespaced = rest.next_if_eq(&"namespaces").is_some();
        let namespace = if namespaced { rest.next() } else { None };
        let mut next = || rest.next().unwrap_or_default().to_owned();
        let (kind, mut name, subresource) = (next(), next(), next());
        let bytes = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let content = head.headers.get("content-type").map(|value| value.to_str().unwrap());
        let verb = match head.method {
            Method::GET if query("watch") == "true" => Verb::Watch,
            Method::GET if name.is_empty() => Verb::List,
            Method::GET => Verb::Get,
            Method::POST => Verb::Create,
            Method::DELETE => Verb::Delete,
            Method::PATCH if content.is_some_and(|content| content.contains("apply-patch")) => Verb::Apply,
            Method::PATCH => Verb::Merge,
            other => panic!("no client of ours sends {other}"),
        };
        if verb == Verb::Create {
            name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        }
        let place = Place { kind, namespace: namespace.unwrap_or_default().to_owned(), name };
        let since = query("resourceVersion").parse().unwrap_or(0);
        Self { verb, place, subresource, since, label: query("labelSelector"), body }
    }
}
