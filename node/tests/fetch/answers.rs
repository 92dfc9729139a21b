//! What is fetched whole, and what every refusal says.

use std::fs;
use std::sync::Arc;

use shard_node::store::hash::sha256;
use shard_node::store::source::{Access, Class, Patience, Token};
use tempfile::TempDir;

use crate::source::{Answer, File, Request, Source, redirect, status};
use crate::{access, fetched, models, names, patience, tls};

fn tiny() -> Vec<u8> {
    fs::read(models::quantised("q4_0")).unwrap()
}

#[tokio::test]
async fn a_model_comes_whole_and_is_not_fetched_twice() {
    let model = tiny();
    let source = Source::start({
        let model = model.clone();
        move |_, _| Answer::File(File::new(model.clone()))
    })
    .await;
    let dir = TempDir::new().unwrap();
    let url = source.url("/d/m.gguf?download=1");
    let (told, done) = fetched(&url, dir.path(), Some(&sha256(&model)), &access()).await;
    let done = done.unwrap();
    assert_eq!(told, [""; 0]);
    assert_eq!((done.bytes, done.received), (model.len() as u64, model.len() as u64));
    assert_eq!(done.sha256, sha256(&model));
    assert_eq!(done.paths, [dir.path().join("m.gguf")]);
    assert!(fs::read(&done.paths[0]).unwrap() == model);
    assert_eq!(names(dir.path()), ["m.gguf", "m.gguf.source.json"]);

    let (told, again) = fetched(&url, dir.path(), None, &access()).await;
    assert_eq!(again.unwrap().received, 0);
    assert_eq!(told, [format!("m.gguf: {} are there", model.len())]);
    assert_eq!(source.requests().len(), 1);
    assert_eq!(source.requests()[0].target, "/d/m.gguf?download=1");
    assert_eq!(source.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn what_passes_is_tried_again_and_what_lasts_is_named() {
    let model = tiny();
    let table: [(&'static str, u32, bool, &[&str]); 7] = [
        ("500 Internal Server Error", 3, true, &["the source answers 500"]),
        ("429 Too Many Requests", 3, true, &["the source answers 429"]),
        ("503 Service Unavailable", 4, false, &["the source answers 503"]),
        ("401 Unauthorized", 1, false, &["401", "--token-file", "LLAMA_HF_TOKEN"]),
        ("403 Forbidden", 1, false, &["403", "the token does not allow this file"]),
        ("404 Not Found", 1, false, &["404", "there is no such file"]),
        ("204 No Content", 1, false, &["204 No Content to a request for a file"]),
    ];
    for (line, times, ends_well, words) in table {
        let file = File::new(model.clone());
        let source =
            Source::start(
                move |_, before| {
                    if before < times as usize { status(line) } else { Answer::File(file.clone()) }
                },
            )
            .await;
        let dir = TempDir::new().unwrap();
        let (told, done) = fetched(&source.url("/m.gguf"), dir.path(), None, &access()).await;
        assert_eq!(done.is_ok(), ends_well, "{line}");
        assert_eq!(source.requests().len() as u32, times + u32::from(ends_well), "{line}");
        let said = done.err().map_or_else(|| told.join("\n"), |error| error.to_string());
        for word in words {
            assert!(said.contains(word), "{line}: {said}");
        }
        assert!(said.contains(&source.url("/m.gguf")), "{line}: {said}");
        assert_eq!(names(dir.path()).contains(&"m.gguf".to_owned()), ends_well);
    }
}

#[tokio::test]
async fn a_source_says_when_to_ask_again() {
    let file = File::new(tiny());
    let source = Source::start(move |_, before| match before {
        0 => Answer::Status("503 Busy", "retry-after: 3600\r\n".into(), ""),
        _ => Answer::File(file.clone()),
    })
    .await;
    let dir = TempDir::new().unwrap();
    let begun = std::time::Instant::now();
    // An hour is more than we wait; the pause without it would be 5 ms.
    let slow = Patience { most: std::time::Duration::from_millis(300), ..patience() };
    let access = Access { patience: slow, ..access() };
    fetched(&source.url("/m.gguf"), dir.path(), None, &access).await.1.unwrap();
    assert!(begun.elapsed() >= slow.most);
}

#[tokio::test]
async fn nobody_there_a_page_and_a_wrong_checksum_are_named() {
    let dir = TempDir::new().unwrap();
    let closed = Source::start(|_, _| Answer::Silence).await.url("/m.gguf");
    let (told, done) = fetched(&closed, dir.path(), None, &access()).await;
    let error = done.unwrap_err();
    assert!(error.to_string().contains("Connection refused"), "{error}");
    assert_eq!((told.len(), error.class()), (3, Class::Passing));

    let page = Source::start(|_, _| Answer::Status("200 OK", String::new(), "<!DOCTYPE html> log in")).await;
    let (_, done) = fetched(&page.url("/m.gguf"), dir.path(), None, &access()).await;
    let error = done.unwrap_err();
    assert!(error.to_string().contains("no GGUF file: it begins with \"<!DOCTYPE html> log in\""), "{error}");
    assert_eq!(error.class(), Class::Lasting);

    let empty = Source::start(|_, _| Answer::Status("200 OK", String::new(), "")).await;
    let (_, done) = fetched(&empty.url("/m.gguf"), dir.path(), None, &access()).await;
    assert!(done.unwrap_err().to_string().contains("after 0 bytes of 0: it ended early"));

    let file = File::new(tiny());
    let other = Source::start(move |_, _| Answer::File(file.clone())).await;
    let wrong = "0".repeat(64);
    let (_, done) = fetched(&other.url("/m.gguf"), dir.path(), Some(&wrong), &access()).await;
    let error = done.unwrap_err();
    assert!(error.to_string().contains(&format!("SHA-256 is {}", sha256(&tiny()))), "{error}");
    assert!(error.to_string().contains(&format!("expected {wrong}")), "{error}");
    assert_eq!(error.class(), Class::Lasting);
    assert_eq!(names(dir.path()), [""; 0]);
}

#[tokio::test]
async fn a_stalled_source_is_left_and_asked_for_the_rest() {
    let model = tiny();
    let pace = Arc::new(tokio::sync::Semaphore::new(20));
    let source = Source::start({
        let (model, pace) = (model.clone(), Arc::clone(&pace));
        move |_, before| {
            let pace = (before == 0).then(|| Arc::clone(&pace));
            Answer::File(File { pace, ..File::new(model.clone()) })
        }
    })
    .await;
    let dir = TempDir::new().unwrap();
    let short = Patience { read: std::time::Duration::from_millis(300), ..patience() };
    let access = Access { patience: short, ..access() };
    let (told, done) = fetched(&source.url("/m.gguf"), dir.path(), None, &access).await;
    assert_eq!(done.unwrap().sha256, sha256(&model));
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("the connection broke after") && told[0].contains("time"), "{told:?}");
    assert_eq!(source.requests()[1].offset(), 20 * (64 << 10));
}

fn authorization(request: &Request) -> Option<&str> {
    request.header("authorization")
}

#[tokio::test]
async fn a_token_goes_to_its_host_and_no_further() {
    let file = File::new(tiny());
    let cdn = Source::start(move |_, _| Answer::File(file.clone())).await;
    let to = cdn.url("/blob?signature=x");
    let hub = Source::start(move |request, _| match request.target.as_str() {
        "/m.gguf" => redirect("/moved.gguf"),
        _ => redirect(&to),
    })
    .await;
    let dir = TempDir::new().unwrap();
    let token_file = dir.path().join("token");
    fs::write(&token_file, "# ours\nsecret-token\n").unwrap();
    let access = Access { token_file: Some(token_file.clone()), ..access() };
    assert!(!format!("{:?}", Access { token: Token::new("secret"), ..access.clone() }).contains("secret\""));
    fetched(&hub.url("/m.gguf"), &dir.path().join("out"), None, &access).await.1.unwrap();
    let tokens: Vec<_> =
        hub.requests().iter().map(|request| authorization(request).unwrap().to_owned()).collect();
    assert_eq!(tokens, ["Bearer secret-token"; 2]);
    assert_eq!(cdn.requests().len(), 1);
    assert_eq!(authorization(&cdn.requests()[0]), None);
    assert_eq!(cdn.requests()[0].header("referer"), None);

    for (text, reason) in [("", "it is empty"), ("a\u{7}b", "control characters")] {
        fs::write(&token_file, text).unwrap();
        let (_, done) = fetched(&hub.url("/m.gguf"), dir.path(), None, &access).await;
        let error = done.unwrap_err().to_string();
        assert!(error.contains("token (--token-file)") && error.contains(reason), "{error}");
    }
    let loops = Source::start(|_, _| redirect("/m.gguf")).await;
    let error = fetched(
        &loops.url("/m.gguf"),
        dir.path(),
        None,
        &Access { patience: patience(), ..Access::default() },
    )
    .await
    .1
    .unwrap_err();
    assert!(error.to_string().contains("redirects again and again"), "{error}");
}

#[tokio::test]
async fn a_company_s_certificate_is_trusted_where_it_is_named() {
    let (acceptor, pem) = tls();
    let file = File::new(tiny());
    let plain = Source::start(|_, _| Answer::Silence).await.url("/m.gguf");
    let source = Source::with(Some(acceptor), move |request, _| match request.target.as_str() {
        "/down.gguf" => redirect(&plain),
        _ => Answer::File(file.clone()),
    })
    .await;
    let at = |path: &str| format!("https://{}{path}", source.address);
    let dir = TempDir::new().unwrap();
    let (_, done) = fetched(&at("/m.gguf"), dir.path(), None, &access()).await;
    let error = done.unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    assert!(error.to_string().contains("by --ca-file"), "{error}");
    assert_eq!(error.class(), Class::Lasting);

    let ca_file = dir.path().join("ca.pem");
    fs::write(&ca_file, pem).unwrap();
    let access = Access { ca_file: Some(ca_file.clone()), ..access() };
    fetched(&at("/m.gguf"), dir.path(), Some(&sha256(&tiny())), &access).await.1.unwrap();
    let (_, done) = fetched(&at("/down.gguf"), dir.path(), None, &access).await;
    let error = done.unwrap_err().to_string();
    assert!(error.contains("it redirects from https to http"), "{error}");

    for (text, reason) in [("", "it has none"), ("-----BEGIN CERTIFICATE-----\nAA\n", "no certificates in")] {
        fs::write(&ca_file, text).unwrap();
        let (_, done) = fetched(&at("/m.gguf"), dir.path(), None, &access).await;
        let error = done.unwrap_err().to_string();
        assert!(error.contains("--ca-file") && error.contains(reason), "{error}");
    }
}
