//! One function for every decoder of bytes that come from outside, with what must hold whatever the bytes are.
//!
//! ```text
//! fuzz_targets/*.rs  ─ libFuzzer's bytes ─┐
//! ../tests/decoders  ─ corpus, mutations ─┴▶ TARGETS ─▶ frames, messages, swarm, records, gguf, text, openai
//! ```
//! A function returns whether the bytes were read as what they claim to be, so that the tests can tell a corpus that
//! has gone stale, and panics where an invariant is broken: what was read is written as the same bytes, keeps to
//! every bound, and took no more memory than its target allows for input of that length.

mod frames;
mod gguf;
mod messages;
mod openai;
mod records;
mod swarm;
pub mod text;

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// A decoder to try.
pub struct Target {
    /// The name of its file in `fuzz_targets/` and of its folder in `corpus/`.
    pub name: &'static str,
    body: fn(&[u8]) -> bool,
    /// Bytes of memory that it may take for nothing …
    base: usize,
    /// … and for each byte of input.
    per_byte: usize,
}

/// What a template's variables hold: its instructions are counted and its text is bounded, but minijinja knows no bound
/// for `{% set x = x ~ x %}`, again and again.
const UNBOUNDED: usize = 1 << 40;

/// Every decoder. JSON takes some 50 bytes a byte where it is read as a [`serde_json::Value`]: `[[],[],…]`.
pub const TARGETS: &[Target] = &[
    target("frame", frames::frame, 4 << 10, 16),
    target("session", frames::session, 4 << 10, 128),
    target("request", messages::request, 16 << 10, 256),
    target("response", messages::response, 16 << 10, 256),
    target("torrent", swarm::torrent, 4 << 10, 4),
    target("manifest", swarm::manifest, 4 << 10, 64),
    target("record", records::record, 64 << 10, 64),
    target("announcement", records::announcement, 64 << 10, 64),
    target("key", records::key, 4 << 10, 16),
    target("address", records::address, 4 << 10, 32),
    target("gguf", gguf::gguf, 32 << 10, 128),
    // Expressions of pre-tokenizers and tables of characters.
    target("tokenizer", text::tokenizer, 32 << 20, 1024),
    target("template", text::template, UNBOUNDED, 0),
    target("openai", openai::openai, 4 << 20, 1024),
];

const fn target(name: &'static str, body: fn(&[u8]) -> bool, base: usize, per_byte: usize) -> Target {
    Target { name, body, base, per_byte }
}

impl Target {
    /// Tries the decoder on `data`, alone in its process. Whether they were read as what they claim to be.
    pub fn run(&self, data: &[u8]) -> bool {
        ALLOCATOR.reset_peak_usage();
        let before = ALLOCATOR.current_usage();
        let read = (self.body)(data);
        let taken = ALLOCATOR.peak_usage().saturating_sub(before);
        let allowed = self.base + self.per_byte * data.len();
        assert!(
            taken <= allowed,
            "{} took {taken} bytes for {}: allowed are {allowed}",
            self.name,
            data.len()
        );
        read
    }
}

/// What is told to people stays short, whatever was sent.
fn assert_short(error: impl std::fmt::Display) {
    let text = error.to_string();
    assert!(text.len() <= 2048, "an error of {} bytes: {:.200}", text.len(), text);
}

/// What is read from JSON is written so that the next one reads the same.
fn json<T>(data: &[u8]) -> Option<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let read: T = serde_json::from_slice(data).ok()?;
    let written = serde_json::to_vec(&read).expect("data of ours");
    match serde_json::from_slice::<T>(&written) {
        Ok(again) => assert_eq!(read, again, "written as {}", String::from_utf8_lossy(&written)),
        Err(error) => panic!("{read:?} is written as {}: {error}", String::from_utf8_lossy(&written)),
    }
    Some(read)
}
