//! The test models, their reference outputs, and a pipeline of shards in one process.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};

use serde_json::Value;
use shard_engine::{Input, LoadOptions, Output, Rows, Session, ShardModel};

/// Layers of the test models.
pub const LAYERS: usize = 8;

/// The file of the test model in this quantisation (`f16`, `q8_0`, `q4_0`, `q4_k_m`).
pub fn model(kind: &str) -> PathBuf {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR"));
    match kind {
        "f16" => engine.join("../../models_cache/tiny-tales-f16.gguf"),
        kind => engine.join(format!("tests/data/tiny-tales-{kind}.gguf")),
    }
}

pub fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/golden/{name}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// One prompt with llama.cpp's greedy continuation.
#[derive(Clone, Debug)]
pub struct Case {
    pub prompt: Vec<u32>,
    pub ids: Vec<u32>,
    /// Best logit minus second best, at every step.
    pub lead: Vec<f64>,
}

pub fn cases(name: &str) -> Vec<Case> {
    let ids = |v: &Value| v.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let case = |v: &Value| Case {
        prompt: ids(&v["prompt_ids"]),
        ids: ids(&v["ids"]),
        lead: v["lead"].as_array().unwrap().iter().map(|l| l.as_f64().unwrap()).collect(),
    };
    golden(name)["cases"].as_array().unwrap().iter().map(case).collect()
}

/// All layers of a model, cut into shards as evenly as can be.
pub struct Pipeline {
    pub shards: Vec<ShardModel>,
}

/// One request's sessions, one per shard.
pub struct Request {
    pub sessions: Vec<Session>,
}

impl Pipeline {
    pub fn load(kind: &str, shards: usize, options: &LoadOptions) -> Self {
        let start = |i: usize| LAYERS * i / shards;
        let load = |i: usize| {
            ShardModel::load_range(&model(kind), start(i)..start(i + 1), options, &mut |_, _| {}).unwrap()
        };
        Self { shards: (0..shards).map(load).collect() }
    }

    pub fn request(&self) -> Request {
        Request { sessions: self.shards.iter().map(|shard| shard.session(256).unwrap()).collect() }
    }

    /// Sends the tokens of several requests through all shards in one batch; logits after the last token of those that
    /// want them, nothing for the others.
    pub fn forward(&mut self, batch: &mut [(&mut Request, &[u32], bool)]) -> Vec<Vec<f32>> {
        let mut hidden: Vec<Vec<f32>> = Vec::new();
        let last = self.shards.len() - 1;
        for (i, shard) in self.shards.iter_mut().enumerate() {
            let mut rows: Vec<Rows> = Vec::new();
            for (n, (request, tokens, logits)) in batch.iter_mut().enumerate() {
                let session = &mut request.sessions[i];
                let position = session.position();
                let input = if i == 0 { Input::Tokens(tokens) } else { Input::Hidden(&hidden[n]) };
                rows.push(Rows { session, position, input, logits: *logits });
            }
            let outputs = shard.forward(&mut rows).unwrap();
            let values = |output| match output {
                Output::Hidden(values) if i < last => values,
                Output::Logits(values) if i == last => values,
                Output::Nothing if i == last => Vec::new(),
                other => panic!("shard {i} gave {other:?}"),
            };
            hidden = outputs.into_iter().map(values).collect();
        }
        hidden
    }

    /// One request alone, its tokens in chunks of `chunk`.
    pub fn feed(&mut self, request: &mut Request, tokens: &[u32], chunk: usize) -> Vec<f32> {
        let mut logits = Vec::new();
        for some in tokens.chunks(chunk) {
            logits = self.forward(&mut [(request, some, true)]).remove(0);
        }
        logits
    }
}

impl Request {
    pub fn position(&self) -> usize {
        self.sessions[0].position()
    }

    pub fn truncate(&mut self, position: usize) {
        self.sessions.iter_mut().for_each(|session| session.truncate(position).unwrap());
    }
}

/// The first of the largest logits.
pub fn greedy(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
    best as u32
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}
