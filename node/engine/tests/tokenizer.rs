//! The tokenizer of the default model against the ids that llama.cpp gave, and what must hold for any text.

#![allow(clippy::expect_used, reason = "a test may panic, its helpers too")]

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::Value;
use shard_engine::gguf::Gguf;
use shard_engine::tokenizer::{Start, Tokenizer};

const UNKNOWN: u32 = 0;
const BOS: u32 = 1;
const EOS: u32 = 2;
const IM_START: u32 = 3;
const IM_END: u32 = 4;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
        let gguf =
            Gguf::open(&root().join("../../models_cache/tiny-tales-f16.gguf")).expect("the default model");
        Tokenizer::from_gguf(&gguf).expect("its tokenizer")
    });
    &TOKENIZER
}

fn golden(name: &str) -> Value {
    let text = std::fs::read(root().join("tests/data/golden").join(name)).expect("committed");
    serde_json::from_slice(&text).expect("JSON")
}

fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().expect("a list").iter();
    ids.map(|id| id.as_u64().and_then(|id| id.try_into().ok()).expect("an id")).collect()
}

#[test]
fn ids_and_text_are_those_of_llama_cpp() {
    let tokenizer = tokenizer();
    for case in golden("tokenizer.json").as_array().expect("cases") {
        let text = case["text"].as_str().expect("text");
        assert_eq!(tokenizer.encode(text, true, false), ids(&case["ids"]), "{text:?}");
        assert_eq!(tokenizer.decode(&ids(&case["ids"]), Start::Text), text);
    }
}

/// Prompts of both styles, and the answers: text is complete although the ids came one by one.
#[test]
fn prompts_and_answers_are_those_of_llama_cpp() {
    let tokenizer = tokenizer();
    for file in ["f16.json", "f32.json", "q8_0.json", "q4_k_m.json", "q4_0.json"] {
        for case in golden(file)["cases"].as_array().expect("cases") {
            let prompt = case["prompt"].as_str().expect("a prompt");
            let chat = case["style"] == "chat";
            assert_eq!(tokenizer.encode(prompt, true, chat), ids(&case["prompt_ids"]), "{file}: {prompt:?}");
            let answer = tokenizer.decode(&ids(&case["ids"]), Start::Text);
            assert_eq!(Some(&*answer), case["text"].as_str(), "{file}: {prompt:?}");
        }
    }
}

#[test]
fn special_tokens() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.vocab_size(), 2048);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.eot()), (Some(BOS), Some(EOS), Some(IM_END)));
    assert_eq!(tokenizer.end_of_generation().collect::<Vec<_>>(), [EOS, IM_END]);
    assert_eq!(tokenizer.encode("", true, false), [BOS]);
    assert!(tokenizer.encode("", false, false).is_empty());
    assert_eq!(tokenizer.encode("<s><unk></s><|im_start|><|im_end|>", false, true), [1, 0, 2, 3, 4]);
    assert_eq!(tokenizer.token_bytes(IM_END), Some(&b"<|im_end|>"[..]));
    assert_eq!(tokenizer.token_bytes(15), Some(&b"\n"[..]));
    assert_eq!(tokenizer.token_bytes(2048), None);
    assert_eq!(tokenizer.decode(&[BOS, UNKNOWN, IM_START, u32::MAX, IM_END], Start::Text), "");
}

#[test]
fn special_tokens_in_a_users_text_stay_text() {
    let tokenizer = tokenizer();
    let special = |ids: &[u32]| ids.iter().any(|id| [UNKNOWN, BOS, EOS, IM_START, IM_END].contains(id));
    for text in
        ["<|im_end|>", "a</s>b", "<s>", "<unk>", "<|im_<|im_end|>end|>", "<<s>s>", "<|im_end|><|im_start|>"]
    {
        let plain = tokenizer.encode(text, false, false);
        assert!(!special(&plain), "{text:?}");
        assert_eq!(tokenizer.decode(&plain, Start::Text), text);
        // The same inside of a prompt in which special tokens are wanted.
        assert!(special(&tokenizer.encode(text, false, true)), "{text:?}");
        assert_eq!(tokenizer.encode(&tokenizer.shield(text), false, true), plain, "{text:?}");
    }
}

#[test]
fn a_continuation_keeps_its_space() {
    let tokenizer = tokenizer();
    let ids = tokenizer.encode("Rusty lived", false, false);
    assert_eq!(tokenizer.decode(&ids, Start::Text), "Rusty lived");
    assert_eq!(tokenizer.decode(&ids, Start::Continuation), " Rusty lived");
}

/// A megabyte without any place to cut: n log n, not n².
#[test]
fn long_runs_take_no_time() {
    let tokenizer = tokenizer();
    for text in ["a", " ", "the ", "é", "\u{1F600}", "<"] {
        let text = text.repeat(1_000_000 / text.len());
        let ids = tokenizer.encode(&text, false, true);
        assert_eq!(tokenizer.decode(&ids, Start::Text).len(), text.len());
    }
}

fn texts() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        any::<String>(),
        "[ \t\r\n]{0,6}",
        "[a-zA-Z ,.!?'0-9]{0,20}",
        Just(" ▁ ".to_owned()),
        Just("fn main() {\n    println!(\"{}\", 1_000);\n}\n".to_owned()),
        Just("👩‍👩‍👧 naïve 東京 ﷽ e\u{301}".to_owned()),
        Just("<|im_start|>".to_owned()),
        Just("<0x0A>".to_owned()),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn text_comes_back(text in texts()) {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode(&text, false, false);
        // SentencePiece cannot tell its own mark from a space.
        prop_assert_eq!(tokenizer.decode(&ids, Start::Text), text.replace('▁', " "));
    }

    /// Any ids: bytes in any order, broken characters, special tokens, ids that are none.
    #[test]
    fn the_stream_is_the_whole_answer_decoded(ids in prop::collection::vec(0_u32..400, 0..60)) {
        let tokenizer = tokenizer();
        let mut bytes = Vec::new();
        for &id in ids.iter().filter(|&&id| id > IM_END) {
            bytes.extend_from_slice(tokenizer.token_bytes(id).expect("a token"));
        }
        let mut decoder = tokenizer.decoder(Start::Continuation);
        let mut text: String = ids.iter().map(|&id| decoder.push(tokenizer, id)).collect();
        text.push_str(&decoder.finish());
        prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_shield_hides_every_special_token(text in "(<s>|<|im_end\\|>|\\|im_start\\|>|</s>|<unk>|[a<s]|\u{FDD0}){0,12}") {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode(&tokenizer.shield(&text), false, true);
        prop_assert!(ids.iter().all(|&id| id > IM_END));
        prop_assert_eq!(tokenizer.decode(&ids, Start::Text), text.replace('\u{FDD0}', ""));
    }
}
