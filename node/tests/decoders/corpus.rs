//! The good files of the corpus, each made by the encoder that a peer or client would use.

use libp2p::identity::Keypair;
use serde_json::{Value, json};
use shard_engine::config::{ModelConfig, Rope, RopeFactors, ShardInfo, expected_tensors};
use shard_engine::gguf::{GgmlType, Gguf, HeaderWriter};
use shard_node::net::signed;
use shard_wire::announce::{Capabilities, ReplicaState, ShardAnnouncement, ShardInfo as Shard};
use shard_wire::command::{TorrentFile, TorrentPlan, Torrents};
use shard_wire::frame::{Dtype, Frame, Header, Kind, LAST, StageTime, TO_GATEWAY};
use shard_wire::keys::DhtKey;
use shard_wire::layers::LayerRange;
use shard_wire::manifest::{self, File, Manifest, PIECE_SIZE, Piece, TOKENIZER, Tensor, shard_name};
use shard_wire::message::{ErrorCode, Request, Response};
use shard_wire::pipeline::Download;
use shard_wire::session::{Failure, Finish, Open, Opened, Refusal, RouteStage, Sampled, Sampling};
use shard_wire::torrent::{self, Status, encode_answer};

use crate::targets::text;

type Good = (&'static str, &'static str, Vec<u8>);

const PEER: &str = "12D3KooWKk3zSVNqbNdPFsNXQkWVSAKrhJFXwGubV7WZ13fh6wBt";

/// Target, name and bytes of every file.
pub fn good() -> Vec<Good> {
    [
        frames(),
        sessions(),
        requests(),
        responses(),
        swarm(),
        records(),
        addresses(),
        gguf(),
        texts(),
        openai(),
    ]
    .concat()
}

fn bytes(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

fn open() -> Open {
    Open {
        gateway: PEER.into(),
        route: (0..2).map(|shard| RouteStage { peer: PEER.into(), shard }).collect(),
        plan: "0123456789abcdef".into(),
        sampling: Sampling {
            temperature: 0.7,
            logit_bias: vec![(5, -1.5)],
            logprobs: Some(2),
            ..Sampling::default()
        },
        eos: vec![2],
        max_tokens: 64,
        reuse: 0,
        recovering: false,
    }
}

fn frames() -> Vec<Good> {
    let header = |kind, dtype, count, width, flags| Header {
        dtype,
        count,
        width,
        flags,
        remaining_ms: 60_000,
        ..Header::control(kind, 7, 2, 1)
    };
    let trace = vec![StageTime { queue_us: 10, compute_us: 1000 }];
    let open = Frame {
        header: header(Kind::Open, Dtype::U32, 3, 1, 0),
        values: vec![1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0],
        trace: vec![],
        body: bytes(&open()),
    };
    let chunk = Frame {
        header: header(Kind::Chunk, Dtype::F16, 2, 8, LAST),
        values: vec![0x3C; 32],
        trace: trace.clone(),
        body: vec![],
    };
    let token = Frame {
        header: header(Kind::Token, Dtype::U32, 1, 1, TO_GATEWAY),
        values: vec![9, 0, 0, 0],
        trace,
        body: bytes(&Sampled { finish: Some(Finish::Eos), ..Sampled::default() }),
    };
    let close = Frame::control(Header::control(Kind::Close, 7, 2, 0));
    let stream = [&chunk, &token, &close].map(Frame::encode).concat();
    vec![("frame", "open", open.encode()), ("frame", "stream", stream)]
}

fn sessions() -> Vec<Good> {
    let sampled =
        Sampled { finish: Some(Finish::Length), logprob: Some(-0.25), top: vec![(3, -0.25), (9, -2.0)] };
    vec![
        ("session", "open", bytes(&open())),
        ("session", "opened", bytes(&Opened { reuse: 3 })),
        ("session", "refused", bytes(&Refusal::TooLong { positions: 70, limit: 64 })),
        ("session", "token", bytes(&sampled)),
        ("session", "failed", bytes(&Failure { message: "the next stage is gone".into() })),
    ]
}

fn torrents() -> Torrents {
    let file = TorrentFile {
        name: shard_name(1),
        size: 1 << 30,
        info_hash: "0f".repeat(32),
        seeders: vec![PEER.into()],
    };
    let plan = TorrentPlan { plan: "0123456789abcdef".into(), origin: true, seeders: vec![PEER.into()] };
    Torrents { files: vec![file], plans: vec![plan], origin: None }
}

fn requests() -> Vec<Good> {
    let request = |name: &'static str, command: &str, params: Value| {
        let request = Request { command: command.into(), request_id: "req-1".into(), params };
        ("request", name, bytes(&request))
    };
    vec![
        request("capabilities", "GET_CAPABILITIES", Value::Null),
        request("load", "LOAD_SHARD", json!({"shard_id": 3, "replace": true, "plan": "p", "wait_s": 5})),
        request(
            "inference",
            "INFERENCE",
            json!({"prompt": "Hi", "max_tokens": 8, "temperature": 0.5, "seed": 7}),
        ),
        request("files", "LIST_FILES", json!({"name": "shard-1.gguf"})),
        request("metrics", "GET_METRICS", Value::Null),
        request("torrents", "SYNC_TORRENTS", json!(torrents())),
    ]
}

fn responses() -> Vec<Good> {
    let ok = |name: &'static str, data: Value| ("response", name, bytes(&Response::ok("req-1", data)));
    vec![
        ok("loaded", json!({"shard_id": 3, "state": "ready", "percent": 99.5})),
        ok("inferred", json!({"text": "yes", "prompt_tokens": 3, "completion_tokens": 1, "finish": "eos"})),
        ok("files", json!({"files": torrents().files})),
        ok("torrents", json!(torrents())),
        ("response", "error", bytes(&Response::error("req-1", ErrorCode::Busy, "full"))),
    ]
}

fn swarm() -> Vec<Good> {
    let request =
        |kind, length, offset| torrent::Request { kind, length, offset, what: [0xA5; 32] }.encode().to_vec();
    vec![
        ("torrent", "manifest", request(torrent::Kind::Manifest, 0, 0)),
        ("torrent", "piece", request(torrent::Kind::Piece, 1 << 20, 1 << 40)),
        ("torrent", "answer", encode_answer(Status::Ok, 1 << 20).to_vec()),
        ("torrent", "not-found", encode_answer(Status::NotFound, 0).to_vec()),
        ("manifest", "two-shards", manifest().to_bytes().unwrap()),
    ]
}

/// Two shards of one tensor each; the first one's takes two pieces.
fn manifest() -> Manifest {
    let hash = |digit: &str| digit.repeat(64);
    let file = |name: String, layers: LayerRange, tensors: &[(&str, u64, u64)], size| File {
        name,
        size,
        sha256: hash("1"),
        start: layers.start,
        end: layers.end,
        tensors: tensors
            .iter()
            .map(|&(name, offset, size)| Tensor { name: name.into(), offset, size, sha256: hash("2") })
            .collect(),
        pieces: manifest::cut(
            tensors.first().map_or(size, |tensor| tensor.1),
            tensors.iter().map(|&(_, offset, size)| (offset, size)),
        )
        .map(|(offset, size)| Piece { offset, size, sha256: hash("3") })
        .collect(),
    };
    Manifest {
        version: manifest::VERSION,
        model_sha256: hash("0"),
        model_bytes: 3 << 20,
        total_layers: 4,
        layer_starts: vec![0, 2],
        piece_size: PIECE_SIZE,
        files: vec![
            file(
                shard_name(0),
                LayerRange { start: 0, end: 2 },
                &[("a", 96, PIECE_SIZE + 5)],
                PIECE_SIZE + 128,
            ),
            file(shard_name(1), LayerRange { start: 2, end: 4 }, &[("b", 64, 32), ("c", 96, 7)], 128),
            file(TOKENIZER.into(), LayerRange::default(), &[], 500),
        ],
    }
}

fn announcement(peer_id: &str, state: ReplicaState) -> ShardAnnouncement {
    ShardAnnouncement {
        cluster: "llama-cluster".into(),
        peer_id: peer_id.into(),
        incarnation: 1_764_000_000_000,
        listen_addresses: vec!["/ip4/192.0.2.7/tcp/4001".into(), "/ip4/192.0.2.7/udp/4001/quic-v1".into()],
        external_addresses: vec![],
        shard: Shard {
            state,
            shard_id: 1,
            total_shards: 4,
            total_layers: 8,
            layers: LayerRange { start: 2, end: 4 },
            plan: "0123456789abcdef".into(),
            model_name: "tiny-tales".into(),
            model_sha256: "00".repeat(32),
            download: (state == ReplicaState::Downloading).then_some(Download {
                percent: 12.5,
                bytes_per_s: 1_000_000,
                peers: 3,
            }),
            capabilities: Capabilities {
                shard_loaded: state == ReplicaState::Ready,
                context_length: 2048,
                ..Capabilities::default()
            },
        },
    }
}

fn records() -> Vec<Good> {
    let keypair = Keypair::ed25519_from_bytes([7; 32]).unwrap();
    let peer = keypair.public().to_peer_id().to_string();
    let ready = announcement(&peer, ReplicaState::Ready);
    let downloading = announcement(&peer, ReplicaState::Downloading);
    let sealed = |announcement| signed::seal(&keypair, None, 5, announcement).unwrap();
    let key = |key: DhtKey| key.text("llama-cluster").into_bytes();
    vec![
        ("record", "ready", sealed(&ready)),
        ("record", "downloading", sealed(&downloading)),
        ("announcement", "ready", bytes(&ready)),
        ("announcement", "downloading", bytes(&downloading)),
        ("key", "shard", key(DhtKey::Shard(255))),
        ("key", "replica", key(DhtKey::Replica(3, PEER.into()))),
    ]
}

fn addresses() -> Vec<Good> {
    [
        ("ip4", "192.0.2.1:51820".to_owned()),
        ("ip6", "[2001:db8::1]:51820".to_owned()),
        ("name", "bootstrap.llm.svc:51820".to_owned()),
        ("tcp", format!("/ip4/192.0.2.1/tcp/51820/p2p/{PEER}")),
        ("quic", format!("/dns4/bootstrap.example/udp/51820/quic-v1/p2p/{PEER}")),
        ("dns", "/dns/bootstrap.example/tcp/51820".to_owned()),
    ]
    .into_iter()
    .map(|(name, text)| ("address", name, text.into_bytes()))
    .collect()
}

/// One layer of a model of width 32 whose vocabulary the file does not have.
fn config(shard: Option<ShardInfo>) -> ModelConfig {
    ModelConfig {
        name: "tiny".into(),
        block_count: if shard.is_some() { 2 } else { 1 },
        embedding_length: 32,
        feed_forward_length: 64,
        head_count: 2,
        head_count_kv: 1,
        head_dim: 16,
        rope: Rope { dims: 16, base: 10_000.0, linear_factor: 1.0, factors: RopeFactors::None },
        rms_eps: 1e-5,
        context_length: 64,
        vocab_size: 32,
        layers: shard.as_ref().map_or(0..1, |shard| shard.layers.clone()),
        shard,
        tied_head: false,
    }
}

/// The header of that model, or of a shard of it; tensors without their data.
fn header(config: &ModelConfig) -> Vec<u8> {
    let mut writer = HeaderWriter::default();
    writer.put("general.architecture", "llama").put("general.name", &*config.name);
    for (key, value) in [
        ("block_count", config.block_count),
        ("embedding_length", config.embedding_length),
        ("feed_forward_length", config.feed_forward_length),
        ("attention.head_count", config.head_count),
        ("attention.head_count_kv", config.head_count_kv),
        ("context_length", config.context_length),
        ("vocab_size", config.vocab_size),
    ] {
        writer.put(&format!("llama.{key}"), value);
    }
    writer.put("llama.attention.layer_norm_rms_epsilon", config.rms_eps);
    if let Some(shard) = &config.shard {
        writer.put("shardcluster.shard_id", shard.id).put("shardcluster.shard_count", shard.count);
        writer.put("shardcluster.layer_start", shard.layers.start);
        writer.put("shardcluster.layer_end", shard.layers.end);
        writer.put("shardcluster.model_sha256", &*shard.model_sha256);
    }
    for tensor in expected_tensors(config).filter(|tensor| !tensor.optional) {
        let matrix = tensor.dims.len() > 1;
        let ty = if matrix { GgmlType::Q4_0 } else { GgmlType::F32 };
        writer.tensor(&tensor.name, &tensor.dims, ty).unwrap();
    }
    let header = writer.finish();
    let gguf = Gguf::read(&*header.bytes, header.file_bytes).unwrap();
    ModelConfig::read(std::slice::from_ref(&gguf)).unwrap();
    header.bytes
}

fn gguf() -> Vec<Good> {
    let shard = ShardInfo { id: 1, count: 2, layers: 1..2, model_sha256: "0".repeat(64) };
    let values = {
        let mut writer = HeaderWriter::new(64);
        writer.put("u8", 200_u8).put("u16", 60_000_u16).put("u64", 1_u64 << 40).put("yes", true);
        writer.put("texts", &["a", ""][..]).put("nested", &[&[1_u32, 2][..], &[]][..]);
        writer.finish().bytes
    };
    vec![
        ("gguf", "model", header(&config(None))),
        ("gguf", "shard", header(&config(Some(shard)))),
        ("gguf", "values", values),
    ]
}

fn texts() -> Vec<Good> {
    let bpe = {
        let mut writer = HeaderWriter::default();
        writer.put("tokenizer.ggml.model", "gpt2").put("tokenizer.ggml.pre", "llama-bpe");
        let texts = ["<|begin_of_text|>", "<|eot_id|>", "a", "b", "Ġ", "ab", "Ġab", "Ã", "©"];
        writer.put("tokenizer.ggml.tokens", &texts[..]);
        writer.put("tokenizer.ggml.token_type", &[3, 3, 1, 1, 1, 1, 1, 1, 4][..]);
        writer.put("tokenizer.ggml.merges", &["a b", "Ġ ab", "Ã ©"][..]);
        writer.put("tokenizer.ggml.bos_token_id", 0_u32).put("tokenizer.ggml.eos_token_id", 1_u32);
        writer.finish().bytes
    };
    let template = |name: &'static str, source: &str| ("template", name, source.as_bytes().to_vec());
    vec![
        ("tokenizer", "spm", text::header(Some("{{ messages[0].content }}"))),
        ("tokenizer", "bpe", bpe),
        template("chatml", include_str!("../../engine/tests/data/chat/chatml.jinja")),
        template("llama-2", include_str!("../../engine/tests/data/chat/llama-2.jinja")),
        template("phi-3", include_str!("../../engine/tests/data/chat/phi-3.jinja")),
        template("date", "{{ bos_token }}{{ strftime_now('%d %b %Y') }}{% generation %}x{% endgeneration %}"),
    ]
}

fn openai() -> Vec<Good> {
    let chat = json!({
        "model": "tiny-tales",
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "<|im_end|>\nHi"}]},
        ],
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "seed": -7, "n": 2, "stop": ["\n", "."],
        "logprobs": true, "top_logprobs": 3, "logit_bias": {"5": -100}, "max_completion_tokens": 16,
        "stream": true, "stream_options": {"include_usage": true},
    });
    let completion = json!({"prompt": ["Once", "upon"], "max_tokens": 8, "echo": true, "min_p": 0.05});
    let ids = json!({"prompt": [1, 2, 4_294_967_295_u32], "logprobs": 5, "repetition_penalty": 1.1});
    vec![
        ("openai", "chat", bytes(&chat)),
        ("openai", "completion", bytes(&completion)),
        ("openai", "ids", bytes(&ids)),
    ]
}
