use proptest::prelude::*;

use super::*;

fn sha(n: u64) -> String {
    format!("{n:064x}")
}

fn file(name: &str, layers: (u32, u32), header: u64, tensors: &[(u64, u64)], size: u64) -> File {
    let piece = |(offset, size)| Piece { offset, size, sha256: sha(offset) };
    let tensor =
        |(i, &(offset, size))| Tensor { name: format!("t{i}"), offset, size, sha256: sha(offset + 1) };
    File {
        name: name.to_owned(),
        size,
        sha256: sha(size),
        start: layers.0,
        end: layers.1,
        tensors: tensors.iter().enumerate().map(tensor).collect(),
        pieces: cut(header, tensors.iter().copied()).map(piece).collect(),
    }
}

/// Two shards of three layers; the second tensor of the first takes two pieces.
fn manifest() -> Manifest {
    Manifest {
        version: VERSION,
        model_sha256: sha(7),
        model_bytes: 2_000_000,
        total_layers: 3,
        layer_starts: vec![0, 2],
        piece_size: PIECE_SIZE,
        files: vec![
            file("shard-0.gguf", (0, 2), 96, &[(96, 10), (128, PIECE_SIZE + 5)], 128 + PIECE_SIZE + 32),
            file("shard-1.gguf", (2, 3), 64, &[(64, 32)], 96),
            file("tokenizer.gguf", (0, 0), 50, &[], 50),
        ],
    }
}

#[test]
fn pieces_are_cut_inside_tensors() {
    let pieces: Vec<_> = cut(96, [(96, 10), (128, PIECE_SIZE), (2_000_000, PIECE_SIZE + 5)]).collect();
    let expected =
        [(0, 96), (96, 10), (128, PIECE_SIZE), (2_000_000, PIECE_SIZE), (2_000_000 + PIECE_SIZE, 5)];
    assert_eq!(pieces, expected);
}

#[test]
fn the_bytes_are_canonical() {
    let bytes = manifest().to_bytes().unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let begin = format!(
        r#"{{"version":1,"model_sha256":"{}","model_bytes":2000000,"total_layers":3,"layer_starts":[0,2],"piece_size":1048576,"files":[{{"name":"shard-0.gguf","size":1048736,"sha256":"{}","start":0,"end":2,"tensors":[{{"name":"t0","offset":96,"size":10,"sha256":"{}"}},"#,
        sha(7),
        sha(1_048_736),
        sha(97)
    );
    assert!(text.starts_with(&begin), "{text}");
    assert!(text.contains(&format!(r#""pieces":[{{"offset":0,"size":96,"sha256":"{}"}},"#, sha(0))));
    assert_eq!(Manifest::from_bytes(&bytes).unwrap(), manifest());

    for other in [
        text.replace(",", ", "),
        text.replacen(r#""version":1,"#, "", 1).replacen("]}]}", r#"]}],"version":1}"#, 1),
    ] {
        assert!(
            matches!(Manifest::from_bytes(other.as_bytes()), Err(ManifestError::NotCanonical)),
            "{other}"
        );
    }
}

#[test]
fn what_cannot_be_is_named() {
    type Change = fn(&mut Manifest);
    let table: &[(Change, &str)] = &[
        (|m| m.version = 2, "the manifest has version 2: only 1 is supported"),
        (|m| m.piece_size = 0, "piece_size is 0: it must be 1048576"),
        (
            |m| m.model_sha256 = "XY".into(),
            r#"model_sha256 is "XY": it must be 64 lower-case hexadecimal digits"#,
        ),
        (|m| m.total_layers = 2, "layer start 2 is not a layer of the model, which has 2 (0 to 1)"),
        (|m| m.total_layers = u32::MAX, "4294967295 layers: 1 to 1024 are valid"),
        (|m| m.layer_starts = vec![0, 1], "layer range of shard-0.gguf is 0-2: it must be 0-1"),
        (|m| m.layer_starts = vec![], "0 shards of 3 layers"),
        (|m| drop(m.files.pop()), "number of files is 2: it must be 3: 2 shards and tokenizer.gguf"),
        (
            |m| m.files[0].name = "../shard-0.gguf".into(),
            r#"file name is "../shard-0.gguf": it must be "shard-0.gguf""#,
        ),
        (
            |m| m.files[2].name = "/etc/passwd".into(),
            r#"file name is "/etc/passwd": it must be "tokenizer.gguf""#,
        ),
        (|m| m.files.swap(0, 1), r#"file name is "shard-1.gguf": it must be "shard-0.gguf""#),
        (|m| m.files[1].end = 4, "layer range of shard-1.gguf is 2-4: it must be 2-3"),
        (|m| m.files[1].sha256 = sha(1) + "0", "sha256 of shard-1.gguf is"),
        (|m| m.files[1].size = 95, "end of tensor \"t0\" of shard-1.gguf is 96: it must be in the file's 95"),
        (|m| m.files[1].size = u64::MAX, "size of shard-1.gguf is 18446744073709551615"),
        (
            |m| m.files[1].size += PIECE_SIZE,
            "size of shard-1.gguf is 1048672: it must be its tensors' end at 96, padded",
        ),
        (|m| m.files[2].size = 0, "header size of tokenizer.gguf is 0"),
        (|m| m.files[2].size = 51, "place of piece 0 of tokenizer.gguf is 0+50: it must be 0+51"),
        (
            |m| m.files[0].tensors[1].offset = 90,
            "offset of tensor \"t1\" of shard-0.gguf is 90: it must be at or a little above 106",
        ),
        (
            |m| m.files[0].tensors[1].offset = u64::MAX,
            "offset of tensor \"t1\" of shard-0.gguf is 18446744073709551615",
        ),
        (|m| m.files[0].tensors[1].size = 0, "size of tensor \"t1\" of shard-0.gguf is 0"),
        (
            |m| m.files[0].tensors[1].size = u64::MAX,
            "size of tensor \"t1\" of shard-0.gguf is 18446744073709551615",
        ),
        (
            |m| m.files[0].tensors[1].name = "t0".into(),
            "tensor name of shard-0.gguf is \"t0\": it must be different",
        ),
        (|m| m.files[0].tensors[1].name = "x".repeat(65), "it must be 1 to 64 bytes long"),
        (
            |m| m.files[0].pieces[2].size -= 1,
            "place of piece 2 of shard-0.gguf is 128+1048575: it must be 128+1048576",
        ),
        (
            |m| drop(m.files[0].pieces.pop()),
            "number of pieces of shard-0.gguf is 3: it must be higher: 1048704+5 is in none",
        ),
        (
            |m| m.files[1].pieces.push(Piece { offset: 96, size: 1, sha256: sha(0) }),
            "place of piece 2 of shard-1.gguf is 96+1: it must be absent",
        ),
        (|m| m.files[1].pieces[1].sha256.clear(), "sha256 of piece 1 of shard-1.gguf is \"\""),
    ];
    for (change, message) in table {
        let mut manifest = manifest();
        change(&mut manifest);
        let error = Manifest::from_bytes(&manifest.to_bytes().unwrap()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}\n  should contain\n{message}");
    }
}

proptest! {
    #[test]
    fn changed_bytes_never_panic_and_never_pass_unnoticed(at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = manifest().to_bytes().unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = Manifest::from_bytes(&bytes) {
            prop_assert_eq!(read.to_bytes().unwrap(), bytes);
        }
    }

    #[test]
    fn pieces_cover_every_tensor_once(header in 1u64..5_000_000, sizes in prop::collection::vec(1u64..5_000_000, 0..6)) {
        let mut end = header;
        let tensors: Vec<_> = sizes.iter().map(|&size| {
            let offset = end.next_multiple_of(32);
            end = offset + size;
            (offset, size)
        }).collect();
        let pieces: Vec<_> = cut(header, tensors.iter().copied()).collect();
        prop_assert_eq!(pieces[0], (0, header));
        prop_assert!(pieces.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0));
        prop_assert!(pieces[1..].iter().all(|&(_, size)| size <= PIECE_SIZE));
        for (offset, size) in tensors {
            let inside: Vec<_> = pieces.iter().filter(|p| (offset..offset + size).contains(&p.0)).collect();
            prop_assert_eq!(inside[0].0, offset);
            prop_assert_eq!(inside.iter().map(|p| p.1).sum::<u64>(), size);
        }
    }
}
