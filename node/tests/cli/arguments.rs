//! Help, and what is said to wrong arguments.

use super::{program, run, text};

#[test]
fn help_teaches_and_has_no_colours_in_a_pipe() {
    let table: &[(&str, &[&str], &[&str])] = &[
        (
            "server",
            &["--help"],
            &["--port", "LLAMA_PORT", "Example:", "server --model-source https://host/model.gguf"],
        ),
        ("shard_listener", &["--help"], &["--shard-id", "--kv-dtype", "Example, the second of four shards"]),
        ("web_server", &["--help"], &["--http-port", "curl http://127.0.0.1:8080/v1/completions"]),
        (
            "shardctl",
            &["--help"],
            &["up", "fetch", "split", "inspect", "plan", "generate", "status", "call", "Examples:"],
        ),
        ("shardctl", &["up", "--help"], &["--shards", "models_cache/tiny-tales-f16.gguf", "Examples:"]),
        ("shardctl", &["generate", "--help"], &["--prompt", "--chat", "Examples:"]),
        ("shardctl", &["status", "--help"], &["--watch", "Examples:"]),
        ("shardctl", &["call", "--help"], &["GET_CAPABILITIES", "Examples:"]),
        (
            "shardctl",
            &["fetch", "--help"],
            &[
                "--sha256",
                "LLAMA_HF_TOKEN=hf_… shardctl fetch hf:owner/gated/model.gguf",
                "HTTPS_PROXY",
                "Examples:",
            ],
        ),
        ("shardctl", &["split", "--help"], &["--out", "Examples:"]),
        ("shardctl", &["inspect", "--help"], &["--tensors", "Examples:"]),
        ("shardctl", &["plan", "--help"], &["--shards", "Examples:"]),
        ("shardctl", &["bench", "engine", "--help"], &["--against", "[default: 512]", "Examples:"]),
        ("shardctl", &["bench", "fleet", "--help"], &["--balanced", "BOUNDARY", "Examples:"]),
        ("shardctl", &["bench", "swarm", "--help"], &["--only", "loopback", "2/N", "Examples:"]),
    ];
    for (name, arguments, words) in table {
        let output = run(name, arguments);
        let help = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{name} {arguments:?}");
        assert!(!help.contains('\x1b'), "{name} {arguments:?}: {help}");
        for word in *words {
            assert!(help.contains(word), "{name} {arguments:?} does not say {word}:\n{help}");
        }
    }
}

#[test]
fn wrong_arguments_end_with_2_and_say_what_is_right() {
    let table: &[(&str, &[&str], &str)] = &[
        ("server", &["--bogus"], "unexpected argument '--bogus'"),
        ("server", &["--port", "70000"], "from 0 to 65535"),
        ("server", &["--cluster", "two words"], "1 to 63 letters"),
        ("server", &["--model-source", "ftp://host/m.gguf"], "hf:OWNER/NAME/FILE.gguf[@REVISION]"),
        (
            "server",
            &["--model-source", "m.gguf", "--shards", "2", "--layers", "0"],
            "--shards 2 does not fit --layers, which names 1 shards",
        ),
        (
            "server",
            &["--model-source", "m.gguf", "--layers", "4,0"],
            "--layers 4,0: the first layer start is 4: it must be 0",
        ),
        ("server", &["--external-address", "host:1"], "invalid value 'host:1'"),
        ("shard_listener", &["--shard-id", "256"], "256 is not in 0..256"),
        ("shard_listener", &["--shard-id", "0,1,0"], "names shard 0 twice"),
        (
            "shard_listener",
            &["--shard-id", "4", "--total-shards", "4"],
            "does not exist among --total-shards 4 (0 to 3)",
        ),
        ("shard_listener", &["--shard-id", "0", "--bootstrap", "nowhere"], "expected HOST:PORT"),
        ("shard_listener", &["--shard-id", "0", "--refresh-interval", "5 min"], "30s, 5m or 1h"),
        ("shard_listener", &["--shard-id", "0", "--max-sessions", "0"], "0 is not in 1..=1024"),
        ("shard_listener", &["--shard-id", "0", "--kv-dtype", "q8"], "[possible values: f32, f16]"),
        (
            "shard_listener",
            &["--shard-id", "0", "--device", "gpu"],
            "expected cpu, cuda, cuda:N (N counts from 0) or metal",
        ),
        #[cfg(not(feature = "cuda"))]
        ("shard_listener", &["--shard-id", "0", "--device", "cuda:1"], "--features cuda"),
        #[cfg(not(feature = "metal"))]
        ("shardctl", &["up", "--device", "metal"], "--features metal"),
        ("web_server", &["--transport", "udp"], "[possible values: dual, tcp, quic]"),
        ("shardctl", &["up", "--shards", "0"], "0 is not in 1..=256"),
        ("shardctl", &["up", "--prompt", "a", "--chat", "b"], "cannot be used with"),
        ("shardctl", &["up", "--temperature", "3"], "from 0 (greedy) to 2"),
        ("shardctl", &["up", "--temperature", "NaN"], "from 0 (greedy) to 2"),
        ("shardctl", &["bench", "engine", "--rows", "1,0"], "expected a number from 1 to 1024"),
        ("shardctl", &["bench", "engine", "--model", "m", "--shape", "llama-3.2-1b"], "cannot be used with"),
        ("shardctl", &["bench", "fleet", "--shards", "257"], "expected a number from 1 to 256"),
        ("shardctl", &["bench", "swarm", "--nodes", "17"], "expected a number from 1 to 16"),
        ("shardctl", &["bench", "swarm", "--size", "9MB"], "expected a size of at least 10 MB"),
        ("shardctl", &["bench", "swarm", "--only", "everything"], "loopback, link, origin, seeding"),
        ("shardctl", &["generate"], "<--prompt <TEXT>|--chat <TEXT>>"),
        ("shardctl", &["explode"], "unrecognized subcommand 'explode'"),
    ];
    for (name, arguments, reason) in table {
        let output = run(name, arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name} {arguments:?}: {said}");
        assert!(said.contains(reason), "{name} {arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{name} {arguments:?}");
    }
}

#[test]
fn a_variable_stands_in_for_its_flag_and_is_checked_alike() {
    let said = |name: &str, env: &str, value: &str| {
        let output = program(name).env(env, value).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        text(&output.stderr)
    };
    // The flag that is missing is no longer the shard, once the variable names it: the next complaint is another.
    assert!(
        said("shard_listener", "LLAMA_SHARD_ID", "x").contains("invalid value 'x' for '--shard-id <ID>'")
    );
    let linked = said("server", "LLAMA_PORT", "tcp://10.0.0.1:51820");
    assert!(linked.contains("enableServiceLinks: false"), "{linked}");
    let linked = said("web_server", "LLAMA_HTTP_PORT", "tcp://10.0.0.1:8080");
    assert!(linked.contains("enableServiceLinks: false"), "{linked}");
}

#[test]
fn what_cannot_be_done_ends_with_1_and_a_hint() {
    let folder = super::Folder::new("no-model");
    let state = folder.0.to_str().unwrap();
    let table: &[(&[&str], &str)] = &[
        (
            &["up", "--model", "no-such.gguf", "--prompt", "x", "--state", state],
            "cannot open the model no-such.gguf",
        ),
        (&["status", "--url", "http://127.0.0.1:1"], "cannot connect to the gateway at 127.0.0.1:1"),
        (&["status", "--url", "https://127.0.0.1"], "TLS is not spoken here"),
        (
            &["generate", "--url", "http://127.0.0.1:1", "--prompt", "x"],
            "is `shardctl up` or `web_server` running",
        ),
        (&["status", "--api-key-file", "no-such-file"], "no API key in no-such-file"),
        (&["bench", "engine", "--model", "no-such.gguf"], "cannot use the model no-such.gguf"),
        (&["bench", "swarm", "--nginx", "no-such-nginx"], "--nginx no-such-nginx: there is no such file"),
        (&["call", "somebody", "GET_METRICS"], "neither a peer id nor an address"),
        (&["call", "127.0.0.1:1", "GET_METRICS", "[]"], "not a JSON object"),
        (&["call", "127.0.0.1:1", "GET_METRICS"], "cannot reach 127.0.0.1:1"),
    ];
    for (arguments, reason) in table {
        let output = run("shardctl", arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
}

#[test]
fn the_default_model_is_looked_for_near_by_and_its_absence_is_explained() {
    let folder = super::Folder::new("nowhere");
    // A copy, because the default is also looked for above the executable; by `cp`, because a file that this process
    // has written may still be open for writing in a child that another test starts just then.
    let copy = std::env::temp_dir().join(format!("shardctl-{}", std::process::id()));
    let copied =
        std::process::Command::new("cp").arg(env!("CARGO_BIN_EXE_shardctl")).arg(&copy).status().unwrap();
    assert!(copied.success());
    let output = std::process::Command::new(&copy)
        .args(["up", "--prompt", "x", "--state"])
        .arg(&folder.0)
        .current_dir(std::env::temp_dir())
        .output();
    std::fs::remove_file(&copy).unwrap();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("or give --model FILE"), "{}", text(&output.stderr));
}
