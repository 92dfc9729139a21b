//! Models fetched from sources that do what sources do: give ranges or none, break, refuse, redirect, change, lie.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

#[path = "../models/mod.rs"]
mod models;
#[path = "../source/mod.rs"]
mod source;

mod answers;
mod program;
mod resume;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shard_node::store::source::{Access, Client, Event, Fetched, Patience, SourceError, fetch};
use tokio_rustls::TlsAcceptor;

/// Quick, so that a test of retries takes no time.
fn patience() -> Patience {
    Patience {
        connect: Duration::from_secs(5),
        read: Duration::from_secs(5),
        first: Duration::from_millis(5),
        most: Duration::from_millis(20),
        attempts: 4,
    }
}

fn access() -> Access {
    Access { patience: patience(), ..Access::default() }
}

/// What happened, without the bytes, and what came of it.
async fn fetched(
    url: &str,
    dir: &Path,
    sha256: Option<&str>,
    access: &Access,
) -> (Vec<String>, Result<Fetched, SourceError>) {
    let remote = url.parse::<shard_node::store::source::Source>().unwrap().remote("").unwrap().unwrap();
    let mut told = Vec::new();
    let mut on_event = |event: Event<'_>| match event {
        Event::Bytes { done, total } => {
            assert!(total.is_none_or(|total| done <= total), "{done} of {total:?}");
        }
        Event::Resumed { name, bytes } => told.push(format!("{name}: {bytes} are there")),
        Event::Restarted { name, why } => told.push(format!("{name}: {why}")),
        Event::Retry { error, .. } => told.push(format!("again: {error}")),
    };
    let work = async { fetch(&Client::new(access)?, &remote, dir, sha256, &mut on_event).await };
    let result = tokio::time::timeout(Duration::from_secs(20), work).await.expect("within 20 s");
    (told, result)
}

/// A certificate of its own, and what to trust for it.
fn tls() -> (TlsAcceptor, String) {
    let made =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "models.example".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.key_pair.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}

/// Names of the files in a folder.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
