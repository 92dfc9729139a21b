//! Vocabulary and chat template of a model's file.

use std::time::SystemTime;

use shard_engine::chat::{ChatTemplate, Message};
use shard_engine::gguf::{Gguf, HeaderWriter};
use shard_engine::tokenizer::{Start, Tokenizer};

/// Of a template's text, as `shard_engine::chat` bounds it.
const MAX_TEXT: usize = 8 << 20;
/// Names of special tokens, bytes that are no whole words, white space of every kind.
const TEXTS: [&str; 4] =
    ["", "Once upon a time, 1234 there's\r\n\n  \u{3000}x", "<s> </s><|im_end|>é\u{1F600}\0\u{FDD0}", "▁a b"];

/// A vocabulary: with the one that is read any text becomes tokens, and any tokens become text.
pub fn tokenizer(data: &[u8]) -> bool {
    let Ok(gguf) = Gguf::read(data, data.len() as u64) else { return false };
    let Ok(tokenizer) = Tokenizer::from_gguf(&gguf) else { return false };
    let size = tokenizer.vocab_size();
    assert!(size > 0 && tokenizer.end_of_generation().all(|id| (id as usize) < size));
    for text in TEXTS {
        for special in [false, true] {
            let ids = tokenizer.encode(text, special, special);
            assert!(ids.iter().all(|id| (*id as usize) < size), "{text:?} becomes {ids:?} of {size}");
            let _ = tokenizer.decode(&ids, Start::Text);
        }
    }
    let some: Vec<u32> = (0..size.min(64) as u32).chain([u32::MAX]).collect();
    let mut decoder = tokenizer.decoder(Start::Continuation);
    let pieces: String = some.iter().map(|id| decoder.push(&tokenizer, *id)).collect();
    assert_eq!(pieces + &decoder.finish(), tokenizer.decode(&some, Start::Continuation));
    // It is compiled where the file has one; what it does is the other target's.
    let _ = ChatTemplate::from_gguf(&gguf, &tokenizer);
    true
}

/// A template: it ends, and what it writes is bounded.
pub fn template(data: &[u8]) -> bool {
    let Ok(source) = std::str::from_utf8(data) else { return false };
    let gguf = with_template(Some(source));
    let tokenizer = Tokenizer::from_gguf(&gguf).expect("a vocabulary of ours");
    let Ok(template) = ChatTemplate::from_gguf(&gguf, &tokenizer) else { return false };
    let messages = [message("system", "Be brief."), message("user", "Hi <s>"), message("assistant", "")];
    match template.render(&messages, true, SystemTime::UNIX_EPOCH) {
        Ok(text) => {
            assert!(text.len() <= MAX_TEXT);
            true
        }
        Err(_) => false,
    }
}

fn message(role: &str, content: &str) -> Message {
    Message { role: role.into(), content: content.into() }
}

/// A SentencePiece vocabulary of bytes, with special tokens.
pub fn with_template(template: Option<&str>) -> Gguf {
    let bytes = header(template);
    Gguf::read(&*bytes, bytes.len() as u64).expect("a header of ours")
}

/// The header of a file with that vocabulary.
pub fn header(template: Option<&str>) -> Vec<u8> {
    let named = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "▁", "a", "b", "ab", "▁a"];
    let bytes: Vec<String> = (0..=255).map(|byte| format!("<0x{byte:02X}>")).collect();
    let texts: Vec<&str> = named.into_iter().chain(bytes.iter().map(String::as_str)).collect();
    let kinds: Vec<i32> = [2, 3, 3, 3, 3, 1, 1, 1, 1, 1].into_iter().chain([6; 256]).collect();
    let scores: Vec<f32> = (0..texts.len()).map(|id| -(id as f32)).collect();
    let mut writer = HeaderWriter::default();
    writer.put("general.architecture", "llama").put("tokenizer.ggml.model", "llama");
    writer.put("tokenizer.ggml.tokens", &texts[..]).put("tokenizer.ggml.scores", &scores[..]);
    writer.put("tokenizer.ggml.token_type", &kinds[..]).put("tokenizer.ggml.bos_token_id", 1_u32);
    if let Some(template) = template {
        writer.put("tokenizer.chat_template", template);
    }
    writer.finish().bytes
}
