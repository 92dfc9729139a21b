use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::tensor::TYPES;
use super::*;
use crate::config::ModelConfig;

fn tiny() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-tales-q4_0.gguf");
    std::fs::read(path).unwrap()
}

fn read(bytes: &[u8]) -> Result<Gguf, GgufError> {
    Gguf::read(bytes, bytes.len() as u64)
}

/// Where the length-prefixed `text` ends.
fn behind(bytes: &[u8], text: &str) -> usize {
    let mut pattern = (text.len() as u64).to_le_bytes().to_vec();
    pattern.extend_from_slice(text.as_bytes());
    bytes.windows(pattern.len()).position(|window| window == pattern).unwrap() + pattern.len()
}

/// The tiny model with `new` written at `offset` bytes behind `text`.
fn patched(text: &str, offset: isize, new: &[u8]) -> Vec<u8> {
    let mut bytes = tiny();
    let at = behind(&bytes, text).checked_add_signed(offset).unwrap();
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

fn written(write: impl FnOnce(&mut HeaderWriter) -> &mut HeaderWriter) -> Vec<u8> {
    let mut writer = HeaderWriter::default();
    write(&mut writer);
    writer.finish().bytes
}

/// A header of one entry: its type and its bytes.
fn one_value(ty: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = written(|w| w);
    bytes[16] = 1;
    bytes.truncate(24);
    bytes.extend_from_slice(&1u64.to_le_bytes());
    bytes.push(b'k');
    bytes.extend_from_slice(&ty.to_le_bytes());
    bytes.extend_from_slice(value);
    bytes
}

#[test]
fn the_table_of_types_is_in_the_order_of_the_enum() {
    for (i, row) in TYPES.iter().enumerate() {
        assert_eq!(row.0 as usize, i);
        assert_eq!(GgmlType::from_number(row.1), Some(row.0));
    }
}

#[test]
fn a_copied_header_is_the_same_header() {
    let bytes = tiny();
    let gguf = read(&bytes).unwrap();
    let mut writer = HeaderWriter::default();
    for key in gguf.metadata.keys() {
        writer.copy(&gguf.metadata, key);
    }
    for tensor in &gguf.tensors {
        writer.tensor(&tensor.name, &tensor.dims, tensor.ty).unwrap();
    }
    let header = writer.finish();
    assert_eq!(header.bytes, bytes[..gguf.data_offset as usize]);
    assert_eq!(header.offsets, gguf.tensors.iter().map(|t| t.offset).collect::<Vec<_>>());
    assert_eq!(header.file_bytes, bytes.len() as u64);
}

#[test]
fn values_come_back_as_they_were_written() {
    let bytes = written(|w| {
        w.put("u8", 200u8).put("u16", 60_000u16).put("u32", 7u32).put("u64", 1u64 << 40).put("i32", -3i32);
        w.put("f32", 0.1f32).put("yes", true).put("text", "schön").put("floats", &[1.5f32, -2.0][..]);
        w.put("texts", &["a", ""][..]).put("nested", &[&[1u32, 2][..], &[]][..])
    });
    let metadata = read(&bytes).unwrap().metadata;
    assert_eq!(metadata.require::<u32>("u8").unwrap(), 200);
    assert_eq!(metadata.require::<u32>("u16").unwrap(), 60_000);
    assert_eq!(metadata.require::<u64>("u64").unwrap(), 1 << 40);
    assert_eq!(metadata.require::<i32>("i32").unwrap(), -3);
    assert_eq!(metadata.require::<f32>("f32").unwrap(), 0.1);
    assert!(metadata.require::<bool>("yes").unwrap());
    assert_eq!(metadata.require::<&str>("text").unwrap(), "schön");
    assert_eq!(metadata.require::<Vec<f32>>("floats").unwrap(), [1.5, -2.0]);
    assert_eq!(metadata.require::<Vec<&str>>("texts").unwrap(), ["a", ""]);
    assert_eq!(metadata.get::<u32>("none").unwrap(), None);
    let Some(Value::Array(nested)) = metadata.value("nested") else { panic!() };
    let inner: Vec<_> = nested.iter().map(Vec::<u32>::from_value).collect();
    assert_eq!(inner, [Some(vec![1, 2]), Some(vec![])]);
    for (error, message) in [
        (metadata.require::<u32>("none").unwrap_err(), r#"metadata key "none" is missing"#),
        (
            metadata.require::<u32>("i32").unwrap_err(),
            r#"metadata key "i32" is the i32 -3, but must be an unsigned integer of 32 bits"#,
        ),
        (
            metadata.require::<u32>("u64").unwrap_err(),
            r#"metadata key "u64" is the u64 1099511627776, but must be an unsigned integer of 32 bits"#,
        ),
        (
            metadata.require::<Vec<&str>>("floats").unwrap_err(),
            r#"metadata key "floats" is an array of 2 f32, but must be an array of strings"#,
        ),
    ] {
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn every_lie_is_named() {
    let huge = u64::MAX.to_le_bytes();
    let version = |v: u32| [b"GGUF", &v.to_le_bytes()[..], &[0; 16]].concat();
    let count = |at: usize, v: u64| {
        let mut bytes = tiny();
        bytes[at..at + 8].copy_from_slice(&v.to_le_bytes());
        bytes
    };
    let key = "tokenizer.ggml.tokens";
    let tensor = "blk.0.attn_k.weight";
    // Behind a tensor's name: dimensions, two of 8 bytes, type, offset.
    let (dims, row, rows, ty, offset) = (0, 4, 12, 20, 24);
    let nested = [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat();
    let table: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "the preamble needs 4 bytes from byte 0, but the file has 0"),
        (b"GGUF\x03\0".to_vec(), "the preamble needs 4 bytes from byte 4, but the file has 6"),
        (b"PK\x03\x04 and more".to_vec(), "not a GGUF file: it begins with [50, 4b, 03, 04]"),
        (version(1), "GGUF version 1 is not supported (2 and 3 are): convert the file anew"),
        (version(4), "GGUF version 4 is not supported (2 and 3 are)"),
        (version(3 << 24), "GGUF version 50331648 is not supported (2 and 3 are): this is a big-endian file"),
        (count(8, u64::MAX), "the tensor count is 18446744073709551615: more than the limit of 65536"),
        (count(16, 1 << 40), "the metadata count is 1099511627776: more than the limit of 65536"),
        (count(8, 76), "the name of tensor number 75 needs 13597031514977075200 bytes"),
        // The first tensor read as an entry: its two dimensions are the type u16.
        (count(16, 34), "the name of tensor number 0 needs 576460752303423488 bytes"),
        (patched("general.name", 4, &huge), "the value of \"general.name\" needs 18446744073709551615 bytes"),
        (patched("general.name", 4, &3_000_000u64.to_le_bytes()), "the value of \"general.name\""),
        (patched("general.name", 0, &[77]), "the value of \"general.name\" has the unknown type 77"),
        (patched(key, 8, &huge), "the value of \"tokenizer.ggml.tokens\" needs 18446744073709551615 bytes"),
        (patched(key, 8, &(1u64 << 33).to_le_bytes()), "needs 68719476736 bytes"),
        (patched(key, 4, &[13]), "the value of \"tokenizer.ggml.tokens\" has the unknown type 13"),
        (patched(key, 16, &huge), "the value of \"tokenizer.ggml.tokens\" needs 18446744073709551615 bytes"),
        (patched("<unk>", -5, &[0xff]), "the value of \"tokenizer.ggml.tokens\" at byte"),
        (patched("general.name", 12, &[0xc3, 0x28]), "the value of \"general.name\" at byte"),
        (patched("general.name", -3, &[0xff]), "metadata key number 2 at byte"),
        (patched("tokenizer.ggml.add_eos_token", 4, &[2]), "is a boolean of value 2"),
        (one_value(9, &nested.repeat(9)), "the value of \"k\" nests arrays more than 4 deep"),
        (written(|w| w.put("", 1u32)), "metadata key number 0 is empty"),
        (written(|w| w.put("a", 1u32).put("a", 2u32)), "metadata key \"a\" appears twice"),
        (written(|w| w.put("general.alignment", 0u32)), "general.alignment is 0: it must be a power of two"),
        (written(|w| w.put("general.alignment", 24u32)), "general.alignment is 24"),
        (written(|w| w.put("general.alignment", 1u32 << 30)), "general.alignment is 1073741824"),
        (
            written(|w| w.put("general.alignment", "32")),
            "is the string \"32\", but must be an unsigned integer",
        ),
        (patched(tensor, -8, b"q"), "tensor \"blk.0.attn_q.weight\" appears twice"),
        (patched(tensor, -1, &[0x80]), "the name of tensor number 3 at byte"),
        (patched(tensor, dims, &[0]), "tensor \"blk.0.attn_k.weight\" has 0 dimensions (1 to 4 are valid)"),
        (patched(tensor, dims, &[5]), "tensor \"blk.0.attn_k.weight\" has 5 dimensions"),
        (patched(tensor, row, &0u64.to_le_bytes()), "has the impossible shape [0, 128]: a dimension is zero"),
        (patched(tensor, row, &257u64.to_le_bytes()), "has rows of 257 values: Q4_0 needs a multiple of 32"),
        (
            patched(tensor, rows, &huge),
            "has the impossible shape [256, 18446744073709551615]: its size is beyond 64 bits",
        ),
        (
            patched(tensor, rows, &(1u64 << 40).to_le_bytes()),
            "\"blk.0.attn_k.weight\" lies outside the file: 158329674399744 bytes",
        ),
        (patched(tensor, ty, &99u32.to_le_bytes()), "tensor \"blk.0.attn_k.weight\" has the unknown type 99"),
        (patched(tensor, ty, &4u32.to_le_bytes()), "has the unknown type 4"),
        (
            patched(tensor, offset, &1u64.to_le_bytes()),
            "has the offset 1: not a multiple of the alignment 32",
        ),
        (
            patched(tensor, offset, &(u64::MAX - 31).to_le_bytes()),
            "\"blk.0.attn_k.weight\" lies outside the file",
        ),
        (
            patched(tensor, offset, &(1u64 << 40).to_le_bytes()),
            "lies outside the file: 18432 bytes at data offset 1099511627776",
        ),
        (patched(tensor, offset, &0u64.to_le_bytes()), "overlap at data offset 0"),
        (tiny()[..3_000_000].to_vec(), "lies outside the file"),
    ];
    let begin = Instant::now();
    for (bytes, message) in table {
        let error = read(&bytes).unwrap_err().to_string();
        assert!(error.contains(message), "{error}\n  should contain\n{message}");
    }
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = tiny();
    let header = read(&bytes).unwrap().data_offset as usize;
    for end in (0..header).step_by(7).chain([header, bytes.len() - 1]) {
        assert!(read(&bytes[..end]).is_err(), "{end}");
    }
}

/// Counts what is read of a file that never ends.
struct Endless {
    front: Vec<u8>,
    read: u64,
}

impl io::Read for &mut Endless {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        for byte in out.iter_mut() {
            *byte = self.front.get(self.read as usize).copied().unwrap_or(b'x');
            self.read += 1;
        }
        Ok(out.len())
    }
}

/// In a file of terabytes a claim of gigabytes may be true; it is still no header.
#[test]
fn huge_claims_take_no_memory_even_where_the_file_is_huge() {
    let gigabytes = (5u64 << 30).to_le_bytes();
    for (front, limit) in [
        (one_value(8, &gigabytes), 4096),
        (one_value(9, &[&0u32.to_le_bytes()[..], &gigabytes].concat()), 4096),
        (one_value(9, &[&8u32.to_le_bytes()[..], &gigabytes].concat()), 4096),
        (one_value(9, &[&9u32.to_le_bytes()[..], &gigabytes].concat()), 4096),
        // Strings of 4 MiB without end: stopped at the limit of the header.
        (
            one_value(
                9,
                &[&8u32.to_le_bytes()[..], &(1u64 << 20).to_le_bytes(), &(4u64 << 20).to_le_bytes()].concat(),
            ),
            MAX_HEADER,
        ),
    ] {
        let mut file = Endless { front, read: 0 };
        assert!(Gguf::read(&mut file, 1 << 42).is_err());
        assert!(file.read <= limit, "{} bytes", file.read);
    }
}

proptest! {
    #[test]
    fn damaged_headers_never_panic_and_end_quickly(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        at_the_front in any::<bool>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = tiny();
        let file_bytes = bytes.len() as u64;
        // Metadata without the vocabulary, or everything.
        let region = if at_the_front { behind(&bytes, "tokenizer.ggml.tokens") } else { 52_000 };
        bytes.truncate(52_000);
        for (at, byte) in flips {
            bytes[at.index(region)] = byte;
        }
        let begin = Instant::now();
        let result = match cut {
            Some(cut) => read(&bytes[..cut.index(bytes.len())]),
            None => Gguf::read(&bytes[..], file_bytes),
        };
        if let Ok(gguf) = result {
            let _ = ModelConfig::read(&[gguf]);
        }
        prop_assert!(begin.elapsed() < Duration::from_secs(2));
    }
}
