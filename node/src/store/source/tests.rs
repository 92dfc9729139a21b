use super::*;

#[test]
fn a_source_is_a_file_an_address_or_a_file_of_a_hub() {
    let hub = |repository: &str, file: &str, revision: &str| Source::Hub {
        repository: repository.into(),
        file: file.into(),
        revision: revision.into(),
    };
    let table = [
        ("model.gguf", Source::File("model.gguf".into())),
        ("/a b/hf:x", Source::File("/a b/hf:x".into())),
        ("http://host/a.gguf", Source::Url("http://host/a.gguf".parse().unwrap())),
        (
            "https://u:p@host:8443/d/a.gguf?x=1#y",
            Source::Url("https://u:p@host:8443/d/a.gguf?x=1".parse().unwrap()),
        ),
        ("hf:o/n/a.gguf", hub("o/n", "a.gguf", "main")),
        ("hf:o/n/q4/a.gguf@v1.0", hub("o/n", "q4/a.gguf", "v1.0")),
        ("hf:o/n/a.gguf@refs/pr/1", hub("o/n", "a.gguf", "refs/pr/1")),
    ];
    for (text, source) in table {
        assert_eq!(text.parse(), Ok(source), "{text}");
    }
    for (text, reason) in [
        ("", "a file, an http(s) URL"),
        ("ftp://host/a.gguf", "cannot fetch by ftp"),
        ("https://", "not a URL"),
        ("https://host", "no file name"),
        ("https://host/a/", "no file name"),
        ("https://host/a%2Fb.gguf", "cannot be a file name"),
        ("https://host/%2E%2E%2Fx", "cannot be a file name"),
        ("https://host/.bashrc", "cannot be a file name"),
        ("https://host/shard-0.gguf", "a split model's file"),
        ("https://host/manifest.json", "a split model's file"),
        ("hf:owner/name", "hf:OWNER/NAME/FILE"),
        ("hf:owner/name/", "hf:OWNER/NAME/FILE"),
        ("hf:owner/../a.gguf", "hf:OWNER/NAME/FILE"),
        ("hf:owner/name/../../a.gguf", "hf:OWNER/NAME/FILE"),
        ("hf:owner/name/a.gguf@", "hf:OWNER/NAME/FILE"),
        ("hf:owner/name/a.gguf@../x", "hf:OWNER/NAME/FILE"),
        ("hf:owner/name/tokenizer.gguf", "a split model's file"),
    ] {
        let error = text.parse::<Source>().unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn an_address_for_people_has_no_secrets() {
    let source: Source = "https://user:secret@host/a.gguf?X-Signature=secret".parse().unwrap();
    assert_eq!(source.to_string(), "https://host/a.gguf");
    assert_eq!("hf:o/n/a.gguf@main".parse::<Source>().unwrap().to_string(), "hf:o/n/a.gguf");
}

#[test]
fn a_hub_may_be_anywhere() {
    let remote = |text: &str, hub: &str| {
        text.parse::<Source>().unwrap().remote(hub).map(|r| r.map(|r| (r.url.to_string(), r.name)))
    };
    for (text, hub, url, name) in [
        ("hf:o/n/q/a.gguf", "https://hub.example", "https://hub.example/o/n/resolve/main/q/a.gguf", "a.gguf"),
        ("hf:o/n/a b@v/1", "http://[::1]:80/m/", "http://[::1]/m/o/n/resolve/v%2F1/a%20b", "a b.gguf"),
        ("https://host/d/model?download=1", "", "https://host/d/model?download=1", "model.gguf"),
    ] {
        assert_eq!(remote(text, hub).unwrap(), Some((url.to_owned(), name.to_owned())), "{text}");
    }
    assert!(remote("model.gguf", "").unwrap().is_none());
    assert!(remote("hf:o/n/a.gguf", "mailto:x").unwrap_err().to_string().contains("--hf-endpoint"));
}

#[test]
fn the_name_of_the_first_part_says_the_others() {
    let parts = |url: &str| -> Vec<String> {
        let remote = url.parse::<Source>().unwrap().remote("").unwrap().unwrap();
        remote.parts().into_iter().map(|part| part.url.to_string()).collect()
    };
    assert_eq!(
        parts("https://host/d/m-00001-of-00003.gguf?x=1"),
        [
            "https://host/d/m-00001-of-00003.gguf?x=1",
            "https://host/d/m-00002-of-00003.gguf?x=1",
            "https://host/d/m-00003-of-00003.gguf?x=1",
        ]
    );
    for whole in [
        "m.gguf",
        "m-00001-of-00001.gguf",
        "m-00002-of-00003.gguf",
        "m-00001-of-3.gguf",
        "m-00001-of-65535.gguf",
    ] {
        assert_eq!(parts(&format!("https://host/{whole}")).len(), 1, "{whole}");
    }
}
