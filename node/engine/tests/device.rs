//! The path for GPUs, on candle's own CPU backend or on the device that `TEST_DEVICE` names: llama.cpp's continuations,
//! and our kernels' logits.

#![cfg(feature = "candle")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};

use common::{Case, LAYERS, bits, cases, greedy, model};
use shard_engine::config::{ModelConfig, Rope, RopeFactors};
use shard_engine::gguf::GgmlType;
use shard_engine::random::{self, Mix};
use shard_engine::{
    Device, DeviceModel, ForwardError, Input, KvDtype, LoadError, LoadOptions, Output, Rows, Session,
    ShardModel,
};

/// Below this lead of the reference's best logit another kernel may choose the other token.
const CLOSE: f64 = 0.02;

fn options(kv_dtype: KvDtype) -> LoadOptions {
    LoadOptions { threads: 2, kv_dtype, ..LoadOptions::default() }
}

/// The device that is held against the reference.
fn tested() -> Device {
    std::env::var("TEST_DEVICE").map_or(Device::Cpu, |name| name.parse().unwrap())
}

/// A model cut into shards, and the sessions of one request for each case.
struct Pipeline {
    shards: Vec<DeviceModel>,
}

/// One session per shard.
type Request = Vec<Session>;

impl Pipeline {
    fn load(kind: &str, shards: usize) -> Self {
        let start = |i: usize| LAYERS * i / shards;
        let load = |i: usize| {
            let layers = Some(start(i)..start(i + 1));
            DeviceModel::load(&model(kind), layers, tested(), &options(KvDtype::F16), &mut |_, _| {}).unwrap()
        };
        Self { shards: (0..shards).map(load).collect() }
    }

    fn request(&self) -> Request {
        self.shards.iter().map(|shard| shard.session(256).unwrap()).collect()
    }

    /// Logits after the last token of every entry.
    fn forward(&mut self, batch: &mut [(&mut Request, &[u32])]) -> Vec<Vec<f32>> {
        let mut values: Vec<Vec<f32>> = Vec::new();
        for (i, shard) in self.shards.iter_mut().enumerate() {
            let mut rows = Vec::new();
            for (n, (request, tokens)) in batch.iter_mut().enumerate() {
                let session = &mut request[i];
                let position = session.position();
                let input = if i == 0 { Input::Tokens(tokens) } else { Input::Hidden(&values[n]) };
                rows.push(Rows { session, position, input, logits: true });
            }
            let outputs = shard.forward(&mut rows).unwrap();
            let inner = |output| match output {
                Output::Hidden(values) | Output::Logits(values) => values,
                Output::Nothing => panic!("shard {i} gave nothing"),
            };
            values = outputs.into_iter().map(inner).collect();
        }
        values
    }
}

/// Greedy continuations of all cases, in one batch: prompts in chunks beside the single tokens of those further on.
fn continuations(pipeline: &mut Pipeline, cases: &[Case], chunk: usize) -> Vec<Vec<u32>> {
    let mut requests: Vec<Request> = cases.iter().map(|_| pipeline.request()).collect();
    let mut tokens: Vec<Vec<u32>> = cases.iter().map(|case| case.prompt.clone()).collect();
    loop {
        let (mut batch, mut who) = (Vec::new(), Vec::new());
        for (i, (request, case)) in requests.iter_mut().zip(cases).enumerate() {
            let fed = request[0].position();
            let next = (fed + chunk).min(tokens[i].len());
            if tokens[i].len() < case.prompt.len() + case.ids.len() {
                batch.push((request, &tokens[i][fed..next]));
                who.push((i, next));
            }
        }
        if batch.is_empty() {
            return cases.iter().zip(tokens).map(|(case, ids)| ids[case.prompt.len()..].to_vec()).collect();
        }
        let logits = pipeline.forward(&mut batch);
        for ((i, fed), logits) in who.into_iter().zip(logits) {
            if fed == tokens[i].len() {
                tokens[i].push(greedy(&logits));
            }
        }
    }
}

#[test]
fn f16_weights_give_the_reference_ids_whole_and_in_two_shards() {
    let cases = cases("f16");
    let whole = continuations(&mut Pipeline::load("f16", 1), &cases, 512);
    for (n, (case, ids)) in cases.iter().zip(&whole).enumerate() {
        let Some(step) = (0..case.ids.len()).find(|&i| ids[i] != case.ids[i]) else { continue };
        println!("case {n} departs at step {step}, where the reference leads by {}", case.lead[step]);
        assert!(case.lead[step] < CLOSE, "case {n}, step {step}: lead {}", case.lead[step]);
    }
    let split = continuations(&mut Pipeline::load("f16", 2), &cases, 512);
    assert_eq!(split, whole);
}

/// Fed with the reference's own tokens, at most 1 % of the steps choose otherwise, each a close call.
fn quantised_is_near_llama_cpp(kind: &str) {
    let cases = cases(kind);
    let mut pipeline = Pipeline::load(kind, 1);
    let mut requests: Vec<Request> = cases.iter().map(|_| pipeline.request()).collect();
    let (mut steps, mut departures) = (0, Vec::new());
    for step in 0..cases.iter().map(|case| case.ids.len()).max().unwrap() {
        // The prompt, then the reference's tokens one by one, all cases together.
        let fed = |case: &Case| if step == 0 { case.prompt.clone() } else { vec![case.ids[step - 1]] };
        let going: Vec<usize> = (0..cases.len()).filter(|&n| step < cases[n].ids.len()).collect();
        let tokens: Vec<Vec<u32>> = going.iter().map(|&n| fed(&cases[n])).collect();
        let active = requests.iter_mut().enumerate().filter(|(n, _)| going.contains(n));
        let mut batch: Vec<_> =
            active.zip(&tokens).map(|((_, request), ids)| (request, ids.as_slice())).collect();
        for (logits, &n) in pipeline.forward(&mut batch).iter().zip(&going) {
            steps += 1;
            if greedy(logits) != cases[n].ids[step] {
                departures.push((n, step, cases[n].lead[step]));
            }
        }
    }
    println!("{kind}: {} of {steps} steps differ (case, step, lead): {departures:?}", departures.len());
    assert!(steps > 600 && departures.len() * 100 <= steps, "{kind}: {} of {steps} differ", departures.len());
    assert!(departures.iter().all(|&(_, _, lead)| lead < 0.25), "{kind}: {departures:?}");
}

#[test]
fn q8_0_is_near_llama_cpp() {
    quantised_is_near_llama_cpp("q8_0");
}

#[test]
fn q4_0_is_near_llama_cpp() {
    quantised_is_near_llama_cpp("q4_0");
}

#[test]
fn q4_k_m_is_near_llama_cpp() {
    quantised_is_near_llama_cpp("q4_k_m");
}

/// A small model of an unusual shape.
fn shape() -> ModelConfig {
    ModelConfig {
        name: "device".to_owned(),
        block_count: 3,
        embedding_length: 40,
        feed_forward_length: 72,
        head_count: 6,
        head_count_kv: 2,
        head_dim: 20,
        rope: Rope { dims: 20, base: 10_000.0, linear_factor: 1.0, factors: RopeFactors::None },
        rms_eps: 1e-5,
        context_length: 256,
        vocab_size: 97,
        layers: 0..3,
        shard: None,
        tied_head: false,
    }
}

/// A file that is gone when the test is over.
struct File(PathBuf);

impl File {
    fn new(name: &str, config: &ModelConfig, mix: Mix) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("device-{name}.gguf"));
        random::write(&path, config, mix, 42, &mut |_, _| {}).unwrap();
        Self(path)
    }

    /// Loaded by another thread than the one that computes, as a node does it.
    fn on_device(&self, kv_dtype: KvDtype) -> DeviceModel {
        let load = || DeviceModel::load(&self.0, None, tested(), &options(kv_dtype), &mut |_, _| {}).unwrap();
        std::thread::scope(|scope| scope.spawn(load).join().unwrap())
    }

    fn on_kernels(&self, kv_dtype: KvDtype) -> ShardModel {
        ShardModel::load(&self.0, &options(kv_dtype), &mut |_, _| {}).unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const TOKENS: [u32; 30] = [
    3, 96, 0, 17, 17, 5, 80, 41, 2, 9, 33, 12, 64, 1, 0, 95, 7, 28, 50, 50, 6, 19, 72, 88, 4, 23, 61, 90, 11,
    3,
];

type Forward<'a> = &'a mut dyn FnMut(&mut [Rows<'_>]) -> Result<Vec<Output>, ForwardError>;

/// Logits after the last of `tokens`, which `forward` is given in pieces cut at `cuts`.
fn logits(session: &mut Session, tokens: &[u32], cuts: &[usize], forward: Forward<'_>) -> Vec<f32> {
    let mut last = Vec::new();
    for end in cuts.iter().copied().chain([tokens.len()]) {
        let position = session.position();
        let input = Input::Tokens(&tokens[position..end]);
        match forward(&mut [Rows { session, position, input, logits: true }]).unwrap().remove(0) {
            Output::Logits(logits) => last = logits,
            other => panic!("{other:?}"),
        }
    }
    last
}

/// Largest difference, as part of the size of `expect`.
fn difference(got: &[f32], expect: &[f32]) -> f32 {
    assert_eq!(got.len(), expect.len());
    let size = (expect.iter().map(|e| e * e).sum::<f32>() / expect.len() as f32).sqrt();
    assert!(size > 0.1, "logits of size {size} say nothing");
    got.iter().zip(expect).map(|(g, e)| (g - e).abs()).fold(0.0, f32::max) / size
}

/// Our kernels are held against double precision in `reference.rs`; here the device is held against them.
fn check(name: &str, config: &ModelConfig, mix: Mix, kv_dtype: KvDtype, tolerance: f32) {
    let file = File::new(name, config, mix);
    let mut kernels = file.on_kernels(kv_dtype);
    let mut session = kernels.session(TOKENS.len()).unwrap();
    let expect = logits(&mut session, &TOKENS, &[], &mut |rows| kernels.forward(rows));
    let mut device = file.on_device(kv_dtype);
    let mut session = device.session(TOKENS.len()).unwrap();
    let got = logits(&mut session, &TOKENS, &[7, 8], &mut |rows| device.forward(rows));
    let off = difference(&got, &expect);
    println!("{name}: largest difference {off:.1e} of the logits' size");
    assert!(off < tolerance, "{name}: {off}");
}

const F32: Mix = Mix::Uniform(GgmlType::F32);

#[test]
fn heads_ropes_and_float_types_are_those_of_our_kernels() {
    check("odd-heads", &shape(), F32, KvDtype::F32, 1e-4);
    check("tied", &ModelConfig { tied_head: true, ..shape() }, F32, KvDtype::F32, 1e-4);
    check("bf16", &shape(), Mix::Uniform(GgmlType::Bf16), KvDtype::F32, 1e-4);
    check("f16-cache", &shape(), Mix::Uniform(GgmlType::F16), KvDtype::F16, 1e-2);
    let part = Rope { dims: 8, base: 500.0, linear_factor: 3.5, ..shape().rope };
    check("rope-part", &ModelConfig { rope: part, ..shape() }, F32, KvDtype::F32, 1e-4);
    let factors = RopeFactors::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 64,
    };
    let llama3 = Rope { factors, ..shape().rope };
    check("rope-llama3", &ModelConfig { rope: llama3, ..shape() }, F32, KvDtype::F32, 1e-4);
}

/// Activations of 8 bits, rounded by either in its own way; a wrong block gives 1 and more.
const ROUNDED: f32 = 0.2;

#[test]
fn quantised_types_are_those_of_our_kernels() {
    let rope = |dims| Rope { dims, ..shape().rope };
    let by_64 = ModelConfig {
        embedding_length: 192,
        feed_forward_length: 320,
        head_dim: 32,
        rope: rope(32),
        ..shape()
    };
    for ty in [GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q5_0, GgmlType::Q5_1] {
        check(ty.name(), &by_64, Mix::Uniform(ty), KvDtype::F32, ROUNDED);
    }
    let by_32 = ModelConfig { embedding_length: 96, head_dim: 16, rope: rope(16), ..by_64 };
    check("expanded", &by_32, Mix::Uniform(GgmlType::Q4_1), KvDtype::F32, ROUNDED);
    let by_256 = ModelConfig {
        embedding_length: 256,
        feed_forward_length: 768,
        head_count: 4,
        head_dim: 64,
        rope: rope(64),
        ..shape()
    };
    for ty in [GgmlType::Q2K, GgmlType::Q3K, GgmlType::Q4K, GgmlType::Q5K, GgmlType::Q6K] {
        check(ty.name(), &by_256, Mix::Uniform(ty), KvDtype::F32, ROUNDED);
    }
}

#[test]
fn a_session_goes_back_and_past_a_pass() {
    let file = File::new("back", &shape(), F32);
    let mut model = file.on_device(KvDtype::F32);
    let tokens: Vec<u32> = (0..200).map(|i| i * 31 % 97).collect();
    let mut session = model.session(tokens.len()).unwrap();
    let mut feed = |session: &mut Session, cuts: &[usize]| {
        logits(session, &tokens, cuts, &mut |rows| model.forward(rows))
    };
    let whole = feed(&mut session, &[]);
    session.truncate(150).unwrap();
    let again = feed(&mut session, &[151]);
    assert!(difference(&again, &whole) < 1e-4);
    session.reset();
    assert_eq!(bits(&feed(&mut session, &[])), bits(&whole), "the same forwards give the same bits");
}

fn rows<'a>(session: &'a mut Session, position: usize, tokens: &'a [u32]) -> Rows<'a> {
    Rows { session, position, input: Input::Tokens(tokens), logits: true }
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let file = File::new("refused", &shape(), F32);
    let (mut device, mut kernels) = (file.on_device(KvDtype::F32), file.on_kernels(KvDtype::F32));
    assert!(device.session(0).is_err());
    assert_eq!(
        device.session(257).unwrap_err().to_string(),
        "a session of 257 positions exceeds the context of 256"
    );
    let (mut on_device, mut on_kernels) = (device.session(4).unwrap(), kernels.session(4).unwrap());
    let foreign = ForwardError::Foreign { entry: 0 };
    assert_eq!(device.forward(&mut [rows(&mut on_kernels, 0, &[1])]).unwrap_err(), foreign);
    assert_eq!(kernels.forward(&mut [rows(&mut on_device, 0, &[1])]).unwrap_err(), foreign);
    for (position, tokens) in [(0, &[97][..]), (1, &[1]), (0, &[1; 5]), (0, &[])] {
        assert!(
            device.forward(&mut [rows(&mut on_device, position, tokens)]).is_err(),
            "{position} {tokens:?}"
        );
    }
    let input = Input::Hidden(&[0.0; 40]);
    assert!(
        device.forward(&mut [Rows { session: &mut on_device, position: 0, input, logits: true }]).is_err()
    );
    assert_eq!(on_device.position(), 0);
    assert!(device.forward(&mut [rows(&mut on_device, 0, &[1; 4])]).is_ok());

    let load = |layers, device| {
        DeviceModel::load(&file.0, layers, device, &options(KvDtype::F32), &mut |_, _| {}).err().unwrap()
    };
    assert!(matches!(load(Some(1..4), tested()), LoadError::Layers { .. }));
    if !cfg!(feature = "metal") {
        assert!(load(None, Device::Metal).to_string().starts_with("cannot open the device metal: "));
        assert!(Device::Metal.check().unwrap_err().to_string().starts_with("cannot open the device metal: "));
    }
    assert_eq!(tested().check(), Ok(()));
}
