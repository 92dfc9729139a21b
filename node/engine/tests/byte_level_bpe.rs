//! Byte-level BPE on a vocabulary made here; `vocabularies.rs` has the real ones. And what is refused.

#![allow(clippy::expect_used, reason = "a test may panic, its helpers too")]

use proptest::prelude::*;
use shard_engine::gguf::{Gguf, HeaderWriter};
use shard_engine::tokenizer::{Start, Tokenizer, TokenizerError};

/// The character that GPT-2's alphabet has for a byte.
fn letter(byte: u8) -> char {
    let printable = |b: &u8| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let code = if printable(&byte) {
        u32::from(byte)
    } else {
        0x100 + (0..byte).filter(|b| !printable(b)).count() as u32
    };
    char::from_u32(code).expect("a character")
}

fn written(text: &str) -> String {
    text.bytes().map(letter).collect()
}

struct Vocabulary {
    tokens: Vec<String>,
    types: Vec<i32>,
    merges: Vec<String>,
}

/// Token `b` is the byte `b`; from 256 on the results of the merges, then special tokens.
fn vocabulary(merges: &[(&str, &str)], specials: &[(&str, i32)]) -> Vocabulary {
    let mut tokens: Vec<_> = (0..=u8::MAX).map(|byte| letter(byte).to_string()).collect();
    tokens.extend(merges.iter().map(|(left, right)| written(left) + &written(right)));
    let mut types = vec![1; tokens.len()];
    tokens.extend(specials.iter().map(|(name, _)| (*name).to_owned()));
    types.extend(specials.iter().map(|(_, kind)| kind));
    let merges = merges.iter().map(|(left, right)| format!("{} {}", written(left), written(right))).collect();
    Vocabulary { tokens, types, merges }
}

fn header(vocabulary: &Vocabulary, pre: &str) -> HeaderWriter {
    let texts = |list: &[String]| list.iter().map(|text| &*text.clone().leak()).collect::<Vec<&str>>();
    let mut header = HeaderWriter::default();
    header.put("tokenizer.ggml.model", "gpt2").put("tokenizer.ggml.pre", pre);
    header.put("tokenizer.ggml.tokens", &texts(&vocabulary.tokens)[..]);
    header.put("tokenizer.ggml.token_type", &vocabulary.types[..]);
    header.put("tokenizer.ggml.merges", &texts(&vocabulary.merges)[..]);
    header
}

fn read(header: HeaderWriter) -> Result<Tokenizer, TokenizerError> {
    let bytes = header.finish().bytes;
    Tokenizer::from_gguf(&Gguf::read(&*bytes, bytes.len() as u64).expect("a header that we wrote"))
}

#[test]
fn merges_go_by_rank_and_then_from_the_left() {
    let vocabulary = vocabulary(&[("b", "c"), ("a", "b"), ("a", "a"), ("aa", "a"), (" ", "a")], &[]);
    let tokenizer = read(header(&vocabulary, "gpt-2")).expect("a tokenizer");
    let [bc, ab, aa, aaa, space_a] = [256, 257, 258, 259, 260];
    let a = u32::from(b'a');
    for (text, expected) in [
        ("abc", vec![a, bc]),
        ("ab", vec![ab]),
        ("aaaa", vec![aa, aa]),
        ("aaa", vec![aaa]),
        ("aaaaa", vec![aa, aaa]),
        // The merged word " a" is of a lower rank than "aa".
        (" aa", vec![32, aa]),
        ("a a", vec![a, space_a]),
        // The last blank belongs to the word behind; alone at the end all stay together.
        ("a   a", vec![a, 32, 32, space_a]),
        ("é", vec![0xC3, 0xA9]),
        ("", vec![]),
    ] {
        assert_eq!(tokenizer.encode(text, true, true), expected, "{text:?}");
    }
}

#[test]
fn a_merge_whose_result_is_no_token_falls_back_to_bytes() {
    let mut vocabulary = vocabulary(&[("x", "y")], &[]);
    vocabulary.merges.push("a b".to_owned());
    let tokenizer = read(header(&vocabulary, "gpt-2")).expect("a tokenizer");
    assert_eq!(tokenizer.encode("abxy", false, false), [97, 98, 256]);
}

#[test]
fn llama_bpe_takes_whole_words_and_adds_bos() {
    let specials = [("hello", 1), ("<|begin|>", 3), ("<|eot_id|>", 3), ("<|mine|>", 4), ("<|end|>", 1)];
    let vocabulary = vocabulary(&[], &specials);
    let mut header = header(&vocabulary, "llama-bpe");
    header.put("tokenizer.ggml.bos_token_id", 257_u32).put("tokenizer.ggml.eos_token_id", 257_u32);
    let tokenizer = read(header).expect("a tokenizer");
    assert_eq!(tokenizer.encode("hello", true, false), [257, 256]);
    assert_eq!(tokenizer.encode("hello<|eot_id|><|mine|>", false, true), [256, 258, 259]);
    // A user-defined token is found always, a control token is text unless asked for.
    let ids = tokenizer.encode("<|eot_id|><|mine|>", false, false);
    assert_eq!(ids, [b"<|eot_id|>".map(u32::from).as_slice(), &[259]].concat());
    assert_eq!(tokenizer.decode(&ids, Start::Text), "<|eot_id|><|mine|>");
    // Known names end an answer, and are control tokens whatever the file says.
    assert_eq!(tokenizer.eot(), Some(258));
    assert_eq!(tokenizer.end_of_generation().collect::<Vec<_>>(), [257, 258, 260]);
    assert_eq!(tokenizer.decode(&[257, 258, 260], Start::Text), "");
}

#[test]
fn what_is_wrong_is_named() {
    let good = || vocabulary(&[("a", "b")], &[]);
    let of = |vocabulary: Vocabulary| header(&vocabulary, "gpt-2");
    let mut no_such_token = of(good());
    no_such_token.put("tokenizer.ggml.eos_token_id", 257_u32);
    let mut nothing_to_add = of(good());
    nothing_to_add.put("tokenizer.ggml.add_bos_token", true);
    let broken = |change: fn(&mut Vocabulary)| {
        let mut vocabulary = good();
        change(&mut vocabulary);
        of(vocabulary)
    };
    let model = |name: &'static str| {
        let mut header = HeaderWriter::default();
        header.put("tokenizer.ggml.model", name).put("tokenizer.ggml.tokens", &["a", "b"][..]);
        header
    };
    let mut scores = model("llama");
    scores.put("tokenizer.ggml.scores", &[1.0_f32, f32::NAN][..]);
    for (header, message) in [
        (HeaderWriter::default(), "cannot read the tokenizer's metadata: "),
        (model("bert"), "tokenizer.ggml.model \"bert\" is not supported"),
        (model("gpt2"), "cannot read the tokenizer's metadata: "),
        (header(&good(), "qwen9"), "pre-tokenizer \"qwen9\" (tokenizer.ggml.pre) is not supported"),
        (model("llama"), "the vocabulary has no token for byte 0x00"),
        (scores, "the score of token 1 is not a number"),
        (broken(|v| v.types.truncate(9)), "tokenizer.ggml.token_type has 9 entries for 257 tokens"),
        (broken(|v| v.merges[0] = "ab".to_owned()), "merge 0 is \"ab\": it must be two parts"),
        (
            header(&vocabulary(&[], &[("x".repeat(1_048_577).leak(), 3)]), "gpt-2"),
            "the names of the special tokens have 1048577 bytes: more than the limit of 1048576",
        ),
        (no_such_token, "tokenizer.ggml.eos_token_id is 257, but there are 257 tokens"),
        (
            nothing_to_add,
            "tokenizer.ggml.add_bos_token is true, but the file does not say which token that is",
        ),
    ] {
        let error = read(header).err().expect(message).to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

proptest! {
    /// Whatever merges there are, and whatever the words: bytes are neither lost nor made.
    #[test]
    fn text_comes_back(
        text in any::<String>(),
        pre in prop::sample::select(vec!["gpt-2", "llama-bpe", "qwen2", "deepseek-llm", "deepseek-coder", "starcoder", "falcon", "tekken", "default"]),
        merges in prop::collection::vec(("[ab ]{1,3}", "[ab ]{1,3}"), 0..8),
        blanks in "[ab\t\r\n !é1]{0,40}",
    ) {
        let merges: Vec<_> = merges.iter().map(|(left, right)| (&**left, &**right)).collect();
        let mut header = header(&vocabulary(&merges, &[]), pre);
        header.put("tokenizer.ggml.add_bos_token", false);
        let tokenizer = read(header).expect("a tokenizer");
        for text in [text, blanks] {
            prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&text, true, true), Start::Text), text);
        }
    }
}
