//! What has arrived is never fetched twice, and never mixed with another version.

use std::fs;
use std::sync::Arc;

use shard_node::store::hash::sha256;
use shard_node::store::source::{Access, Class};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use crate::source::{Answer, File, Request, Source};
use crate::{access, fetched, models, names, patience};

fn tiny() -> Vec<u8> {
    fs::read(models::quantised("q4_0")).unwrap()
}

/// Another model of the same size.
fn other() -> Vec<u8> {
    let mut bytes = tiny();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    bytes
}

const MIB: usize = 1 << 20;

#[tokio::test]
async fn a_connection_that_breaks_again_and_again_costs_nothing_twice() {
    let model = tiny();
    let source = Source::start({
        let model = model.clone();
        move |_, _| Answer::File(File { cut: Some(MIB), ..File::new(model.clone()) })
    })
    .await;
    let dir = TempDir::new().unwrap();
    let (told, done) = fetched(&source.url("/m.gguf"), dir.path(), None, &access()).await;
    let done = done.unwrap();
    assert_eq!((done.received, done.sha256), (model.len() as u64, sha256(&model)));
    let offsets: Vec<u64> = source.requests().iter().map(Request::offset).collect();
    assert_eq!(offsets, [0, MIB as u64, 2 * MIB as u64, 3 * MIB as u64]);
    assert!(source.requests()[1..].iter().all(|request| request.header("if-range") == Some("\"1\"")));
    assert_eq!(told.len(), 3);
    assert!(
        told[0].contains(&format!("the connection broke after {MIB} bytes of {}", model.len())),
        "{told:?}"
    );
}

#[tokio::test]
async fn without_ranges_it_begins_anew_and_says_so() {
    let model = tiny();
    let source = Source::start({
        let model = model.clone();
        move |_, before| {
            let cut = (before == 0).then_some(MIB);
            Answer::File(File { cut, ranges: false, ..File::new(model.clone()) })
        }
    })
    .await;
    let dir = TempDir::new().unwrap();
    let (told, done) = fetched(&source.url("/m.gguf"), dir.path(), None, &access()).await;
    let done = done.unwrap();
    assert_eq!((done.received, done.sha256), ((model.len() + MIB) as u64, sha256(&model)));
    assert_eq!(told[1..], ["m.gguf: the source gives no ranges"]);

    // One that always breaks where it broke before is given up.
    let source = Source::start(move |_, _| {
        Answer::File(File { cut: Some(MIB), ranges: false, ..File::new(model.clone()) })
    })
    .await;
    let (_, done) = fetched(&source.url("/n.gguf"), dir.path(), None, &access()).await;
    assert!(done.unwrap_err().to_string().contains("the connection broke after"));
    assert_eq!(source.requests().len() as u32, patience().attempts);
}

#[tokio::test]
async fn a_model_that_changes_meanwhile_is_fetched_as_it_is_now() {
    for etag in [Some("\"2\"".to_owned()), None] {
        let source = Source::start({
            let etag = etag.clone();
            move |_, before| match before {
                0 => Answer::File(File { cut: Some(MIB), ..File::new(tiny()) }),
                _ => Answer::File(File { etag: etag.clone(), ..File::new(other()) }),
            }
        })
        .await;
        let dir = TempDir::new().unwrap();
        let (told, done) = fetched(&source.url("/m.gguf"), dir.path(), None, &access()).await;
        assert_eq!(done.unwrap().sha256, sha256(&other()), "{etag:?}");
        assert_eq!(told[1..], ["m.gguf: it has changed at the source"]);
    }
}

#[tokio::test]
async fn a_source_that_promises_more_than_it_sends_is_given_up() {
    let source = Source::start(|_, _| Answer::File(File { excess: 1000, ..File::new(tiny()) })).await;
    let dir = TempDir::new().unwrap();
    let (_, done) = fetched(&source.url("/m.gguf"), dir.path(), None, &access()).await;
    let error = done.unwrap_err();
    let size = tiny().len();
    assert!(error.to_string().contains(&format!("broke after {size} bytes of {}", size + 1000)), "{error}");
    assert_eq!(error.class(), Class::Passing);
    assert_eq!(names(dir.path()), ["m.gguf.part", "m.gguf.part.json"]);
}

#[tokio::test]
async fn a_fetch_that_is_dropped_stops_and_the_next_goes_on_behind_it() {
    let model = tiny();
    let pace = Arc::new(Semaphore::new(20));
    let source = Source::start({
        let (model, pace) = (model.clone(), Arc::clone(&pace));
        move |_, before| {
            let pace = (before == 0).then(|| Arc::clone(&pace));
            Answer::File(File { pace, ..File::new(model.clone()) })
        }
    })
    .await;
    let dir = TempDir::new().unwrap();
    let there = 20 * (64 << 10);
    let part = dir.path().join("m.gguf.part");
    let has_arrived = async {
        while fs::metadata(&part).map_or(0, |about| about.len()) < there {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    let url = source.url("/m.gguf");
    let access = access();
    tokio::select! {
        done = fetched(&url, dir.path(), None, &access) => panic!("{done:?}"),
        () = has_arrived => {}
    }
    // The writer ends with what it was given; until then the file is its own.
    let (told, done) = loop {
        let (told, done) = fetched(&url, dir.path(), Some(&sha256(&model)), &access).await;
        match done {
            Err(error) if error.to_string().contains("another program is fetching it") => {}
            done => break (told, done.unwrap()),
        }
    };
    assert_eq!(told, [format!("m.gguf: {there} are there")]);
    assert_eq!(done.received, model.len() as u64 - there);
    assert_eq!(names(dir.path()), ["m.gguf", "m.gguf.source.json"]);
}

#[tokio::test]
async fn what_is_there_is_used_only_if_it_is_what_is_asked_for() {
    let source = Source::start(|request, _| {
        Answer::File(File::new(if request.target.starts_with("/new") { other() } else { tiny() }))
    })
    .await;
    let dir = TempDir::new().unwrap();
    let access: Access = access();
    fetched(&source.url("/old/m.gguf"), dir.path(), None, &access).await.1.unwrap();
    // Another address with the same name: the old file stays until the new one is whole.
    let (_, done) = fetched(&source.url("/new/m.gguf"), dir.path(), None, &access).await;
    assert_eq!(done.unwrap().sha256, sha256(&other()));
    assert_eq!(names(dir.path()), ["m.gguf", "m.gguf.source.json"]);

    // The same address, whose file the user says is another one now.
    let (told, done) = fetched(&source.url("/new/m.gguf"), dir.path(), Some(&sha256(&tiny())), &access).await;
    assert!(done.unwrap_err().to_string().contains("expected"));
    assert_eq!(told[1..], ["m.gguf: what is here has another checksum"]);
    assert_eq!(source.requests().len(), 3);
    assert_eq!(names(dir.path()), ["m.gguf", "m.gguf.source.json"]);

    // A part of another address is not gone on with.
    let cut =
        Source::start(|_, _| Answer::File(File { cut: Some(MIB), ranges: false, ..File::new(tiny()) })).await;
    fetched(&cut.url("/p.gguf"), dir.path(), None, &access).await.1.unwrap_err();
    fetched(&source.url("/p.gguf"), dir.path(), Some(&sha256(&tiny())), &access).await.1.unwrap();
    assert_eq!(source.requests()[3].offset(), 0);

    // A file that the user has put there.
    fs::write(dir.path().join("u.gguf"), "mine").unwrap();
    let (_, done) = fetched(&source.url("/u.gguf"), dir.path(), None, &access).await;
    assert!(done.unwrap_err().to_string().contains("was not fetched by this program: it is kept"));
    assert_eq!(fs::read(dir.path().join("u.gguf")).unwrap(), b"mine");

    // Somebody else is at it.
    let holder = fs::File::create(dir.path().join("l.gguf.part")).unwrap();
    holder.lock().unwrap();
    let (_, done) = fetched(&source.url("/l.gguf"), dir.path(), None, &access).await;
    let error = done.unwrap_err();
    assert!(error.to_string().contains("another program is fetching it"), "{error}");
    assert_eq!(error.class(), Class::Here);
}

#[tokio::test]
async fn a_model_in_parts_is_fetched_part_by_part() {
    let folder = TempDir::new().unwrap();
    let parts: Vec<Vec<u8>> =
        models::write_parts(folder.path()).iter().map(|path| fs::read(path).unwrap()).collect();
    let source = Source::start({
        let parts = parts.clone();
        move |request, before| {
            let number: usize = request.target[8..13].parse().unwrap();
            // HEAD for all three, then each; the second breaks once.
            let cut = (before == 4).then_some(MIB);
            Answer::File(File { cut, ..File::new(parts[number - 1].clone()) })
        }
    })
    .await;
    let dir = TempDir::new().unwrap();
    let url = source.url("/d/tiny-00001-of-00003.gguf");
    let all = parts.concat();
    let (told, done) = fetched(&url, dir.path(), Some(&sha256(&all)), &access()).await;
    let done = done.unwrap();
    assert_eq!((done.bytes, done.received), (all.len() as u64, all.len() as u64));
    assert_eq!((done.paths.len(), told.len()), (3, 1));
    for (path, part) in done.paths.iter().zip(&parts) {
        assert!(fs::read(path).unwrap() == *part);
    }
    // They are found beside the first, by what splits them.
    assert_eq!(shard_node::store::model::Model::open(&done.paths[0]).unwrap().paths, done.paths);

    // One that says three parts under a name for one, and the other way round.
    for (name, parts, reason) in [
        ("/d/tiny.gguf", parts[0].clone(), "has 3 parts, its name 1"),
        ("/d/tiny-00001-of-00002.gguf", tiny(), "has 1 parts, its name 2"),
    ] {
        let source = Source::start(move |_, _| Answer::File(File::new(parts.clone()))).await;
        let (_, done) = fetched(&source.url(name), dir.path(), None, &access()).await;
        let error = done.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
