//! `shardctl fetch` as a user runs it.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use shard_node::store::hash::sha256;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::source::{Answer, File, Source};
use crate::{models, names, tls};

fn shardctl(arguments: &[&str], out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardctl"));
    command.arg("fetch").args(arguments).arg("--out").arg(out).kill_on_drop(true);
    for setting in shard_wire::contract::SETTINGS {
        command.env_remove(setting.env);
    }
    for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(proxy).env_remove(proxy.to_lowercase());
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Exit code, standard output, standard error.
async fn run(mut command: Command) -> (i32, String, String) {
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn tiny() -> (Vec<u8>, Source) {
    let model = fs::read(models::quantised("q4_0")).unwrap();
    let file = File::new(model.clone());
    (model, Source::start(move |_, _| Answer::File(file.clone())).await)
}

#[tokio::test]
async fn a_model_is_fetched_and_cut_and_the_second_time_nothing_is_done() {
    let (model, source) = tiny().await;
    let out = TempDir::new().unwrap();
    let url = source.url("/m.gguf");
    let arguments = [&url, "--shards", "3", "--sha256", &sha256(&model).to_uppercase(), "--output", "json"];
    let (code, text, error) = run(shardctl(&arguments, out.path())).await;
    assert_eq!(code, 0, "{error}");
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(said["model_sha256"], sha256(&model));
    assert_eq!((&said["received_bytes"], &said["model_bytes"]), (&model.len().into(), &model.len().into()));
    assert_eq!(
        (&said["split"]["reused"], &said["split"]["layer_starts"]),
        (&false.into(), &[0, 3, 6][..].into())
    );
    assert_eq!(
        names(out.path()),
        [
            "m.gguf",
            "m.gguf.source.json",
            "manifest.json",
            "shard-0.gguf",
            "shard-1.gguf",
            "shard-2.gguf",
            "tokenizer.gguf"
        ]
    );
    let manifest = fs::read(out.path().join("manifest.json")).unwrap();
    assert_eq!(said["split"]["manifest_sha256"], sha256(&manifest));

    let (code, text, error) = run(shardctl(&[&url, "--layers", "0,3,6"], out.path())).await;
    assert_eq!(code, 0, "{error}");
    assert!(text.contains("already there\n") && text.contains("already there, verified"), "{text}");
    assert!(error.contains("m.gguf: 3.16 MiB are there, going on behind them"), "{error}");
    assert_eq!(source.requests().len(), 1);
}

#[tokio::test]
async fn a_file_here_is_used_where_it_lies_and_checked() {
    let out = TempDir::new().unwrap();
    let model = models::quantised("q4_0");
    let path = model.to_str().unwrap();
    let (code, text, error) = run(shardctl(&[path, "--shards", "2", "--output", "json"], out.path())).await;
    assert_eq!(code, 0, "{error}");
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(said["model"], serde_json::json!([path]));
    assert_eq!(names(out.path()), ["manifest.json", "shard-0.gguf", "shard-1.gguf", "tokenizer.gguf"]);
    let (code, _, error) = run(shardctl(&[path, "--sha256", &"1".repeat(64)], out.path())).await;
    assert_eq!(code, 1);
    assert!(error.contains("it is another file, or the checksum is wrong"), "{error}");
}

#[tokio::test]
async fn an_interrupt_keeps_what_has_arrived() {
    let model = fs::read(models::quantised("q4_0")).unwrap();
    let pace = Arc::new(Semaphore::new(20));
    let source = Source::start({
        let model = model.clone();
        move |_, before| {
            let pace = (before == 0).then(|| Arc::clone(&pace));
            Answer::File(File { pace, ..File::new(model.clone()) })
        }
    })
    .await;
    let out = TempDir::new().unwrap();
    let url = source.url("/m.gguf");
    let child = shardctl(&[&url], out.path()).spawn().unwrap();
    let there = 20 * (64 << 10);
    let part = out.path().join("m.gguf.part");
    let arrived = async {
        while fs::metadata(&part).map_or(0, |about| about.len()) < there {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), arrived).await.unwrap();
    let id = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output =
        tokio::time::timeout(Duration::from_secs(20), child.wait_with_output()).await.unwrap().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{error}");
    assert!(error.contains("stopped: 1.25 MiB are kept, the same command goes on from there"), "{error}");

    let (code, text, error) = run(shardctl(&[&url, "--output", "json"], out.path())).await;
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("m.gguf: 1.25 MiB are there, going on behind them"), "{error}");
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(said["received_bytes"], model.len() as u64 - there);
    assert!(fs::read(out.path().join("m.gguf")).unwrap() == model);
}

#[tokio::test]
async fn a_hub_gets_its_token_from_the_variable_and_a_url_another() {
    let (_, hub) = tiny().await;
    let out = TempDir::new().unwrap();
    let mut command = shardctl(&["hf:owner/name/q/m.gguf@v1", "--hf-endpoint", &hub.url("")], out.path());
    command.env("LLAMA_HF_TOKEN", "hf_secret").env("LLAMA_MODEL_TOKEN", "other");
    let (code, text, error) = run(command).await;
    assert_eq!(code, 0, "{error}");
    assert!(!text.contains("hf_secret") && !error.contains("hf_secret"));
    let mut command = shardctl(&[&hub.url("/u.gguf")], out.path());
    command.env("LLAMA_HF_TOKEN", "hf_secret").env("LLAMA_MODEL_TOKEN", "other");
    assert_eq!(run(command).await.0, 0);
    let seen: Vec<_> = hub
        .requests()
        .iter()
        .map(|request| (request.target.clone(), request.header("authorization").unwrap().to_owned()))
        .collect();
    assert_eq!(
        seen,
        [
            ("/owner/name/resolve/v1/q/m.gguf".to_owned(), "Bearer hf_secret".to_owned()),
            ("/u.gguf".to_owned(), "Bearer other".to_owned())
        ]
    );
}

#[tokio::test]
async fn proxies_are_those_of_the_variables() {
    let (model, target) = tiny().await;
    let (acceptor, pem) = tls();
    let file = File::new(model);
    let secure = Source::with(Some(acceptor), {
        let file = file.clone();
        move |_, _| Answer::File(file.clone())
    })
    .await;
    let address = secure.address;
    let proxy = Source::start(move |request, _| match request.method.as_str() {
        "CONNECT" => Answer::Tunnel(address),
        _ => Answer::File(file.clone()),
    })
    .await;
    for (variable, url, asked) in [
        ("HTTP_PROXY", "http://models.example/a.gguf", Some("http://models.example/a.gguf")),
        ("http_proxy", "http://models.example/b.gguf", Some("http://models.example/b.gguf")),
        ("HTTPS_PROXY", "https://models.example/c.gguf", Some("models.example:443")),
        ("https_proxy", "https://models.example/c.gguf", Some("models.example:443")),
        // NO_PROXY
        ("HTTP_PROXY", &target.url("/d.gguf"), None),
    ] {
        let out = TempDir::new().unwrap();
        let ca_file = out.path().join("ca.pem");
        fs::write(&ca_file, &pem).unwrap();
        let before = proxy.requests().len();
        let mut command = shardctl(&[url, "--ca-file", ca_file.to_str().unwrap()], out.path());
        command.env(variable, proxy.url("")).env("NO_PROXY", "127.0.0.1");
        command.env("LLAMA_MODEL_TOKEN", "secret");
        let (code, _, error) = run(command).await;
        assert_eq!(code, 0, "{variable} {url}: {error}");
        let seen = proxy.requests().get(before).cloned();
        assert_eq!(seen.as_ref().map(|request| request.target.as_str()), asked, "{variable} {url}");
        // The token is for the source, not for who opens a tunnel to it.
        let is_tunnel = seen
            .is_some_and(|request| request.method == "CONNECT" && request.header("authorization").is_none());
        assert_eq!(is_tunnel, url.starts_with("https:"));
    }
    assert_eq!(target.requests().last().unwrap().target, "/d.gguf");
    assert_eq!(secure.requests().len(), 2);
    assert_eq!(secure.requests()[0].header("authorization"), Some("Bearer secret"));
}

/// A file system that takes no more, by the limit on file sizes.
#[tokio::test]
async fn a_full_disk_is_named_and_what_has_arrived_is_kept() {
    let (model, source) = tiny().await;
    let out = TempDir::new().unwrap();
    let script = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" fetch \"$1\" --out \"$2\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_shardctl"), &source.url("/m.gguf")]).arg(out.path());
    for proxy in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(proxy);
    }
    let (code, _, error) = run(command).await;
    assert_eq!(code, 1, "{error}");
    assert!(
        error.contains("m.gguf.part: File too large") && error.contains("bytes are still to come"),
        "{error}"
    );
    assert_eq!(names(out.path()), ["m.gguf.part", "m.gguf.part.json"]);
    let (code, text, error) = run(shardctl(&[&source.url("/m.gguf"), "--output", "json"], out.path())).await;
    assert_eq!(code, 0, "{error}");
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(said["received_bytes"].as_u64().unwrap() < model.len() as u64, "{text}");
    assert_eq!(said["model_sha256"], sha256(&model));
}

#[tokio::test]
async fn wrong_arguments_say_what_is_right() {
    let out = TempDir::new().unwrap();
    for (arguments, reason) in [
        (&["ftp://host/m.gguf"][..], "a file, an http(s) URL, or hf:OWNER/NAME/FILE.gguf[@REVISION]"),
        (&["m.gguf", "--sha256", "abc"], "64 hexadecimal digits"),
        (
            &["m.gguf", "--shards", "2", "--layers", "0,1,2"],
            "--shards 2 does not fit --layers, which names 3 shards",
        ),
    ] {
        let (code, _, error) = run(shardctl(arguments, out.path())).await;
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(reason), "{error}");
    }
    let (code, _, error) = run(shardctl(&["no-such.gguf"], out.path())).await;
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("no-such.gguf: cannot be opened: No such file"), "{error}");
}
