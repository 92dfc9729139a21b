//! What moves model files: requests and answers of `/torrent/1.0`, and the manifest.

use std::collections::HashSet;

use shard_wire::manifest::{MAX_HEADER, Manifest, PIECE_SIZE, TOKENIZER, shard_name};
use shard_wire::torrent::{self, MAX_DATA, Request, decode_answer, encode_answer};

use crate::targets::assert_short;

/// The bytes in front of a request or an answer. Those that are kept for later versions are not looked at.
pub fn torrent(data: &[u8]) -> bool {
    let unreserved = |bytes: &[u8]| [&bytes[..2], &[0, 0], &bytes[4..]].concat();
    let mut read = false;
    if let Some(bytes) = data.first_chunk()
        && let Ok(request) = Request::decode(bytes)
    {
        assert!(request.length <= MAX_DATA);
        assert_eq!(request.encode()[..], unreserved(bytes));
        read = true;
    }
    if let Some(bytes) = data.first_chunk::<{ torrent::ANSWER_LEN }>()
        && let Ok((status, length)) = decode_answer(bytes)
    {
        assert!(length <= MAX_DATA);
        assert_eq!(encode_answer(status, length)[..], unreserved(bytes));
        read = true;
    }
    read
}

/// A manifest: of a whole model, and with pieces that hold every byte of every tensor once.
pub fn manifest(data: &[u8]) -> bool {
    let manifest = match Manifest::from_bytes(data) {
        Ok(manifest) => manifest,
        Err(error) => {
            assert_short(error);
            return false;
        }
    };
    assert_eq!(manifest.to_bytes().expect("data of ours"), data);

    let shards = manifest.shards();
    assert_eq!(shards.first().map(|layers| layers.start), Some(0));
    assert_eq!(shards.last().map(|layers| layers.end), Some(manifest.total_layers));
    assert!(shards.windows(2).all(|pair| pair[0].end == pair[1].start));
    let names = (0..shards.len()).map(shard_name).chain([TOKENIZER.to_owned()]);
    assert!(manifest.files.iter().map(|file| file.name.clone()).eq(names));

    for file in &manifest.files {
        let header = file.header_bytes();
        assert!((1..=MAX_HEADER).contains(&header) && header <= file.size);
        let mut pieces = file.pieces.iter().map(|piece| (piece.offset, piece.offset + piece.size));
        assert_eq!(pieces.next(), Some((0, header)));
        let mut end = header;
        for tensor in &file.tensors {
            assert!(tensor.offset >= end && tensor.offset < end + PIECE_SIZE);
            end = tensor.offset;
            while end < tensor.offset + tensor.size {
                let (from, to) = pieces.next().expect("a piece for every byte");
                assert!(from == end && to > from && to - from <= PIECE_SIZE);
                end = to;
            }
            assert_eq!(end, tensor.offset + tensor.size);
        }
        assert_eq!(pieces.next(), None);
        assert!(end <= file.size && file.size < end + PIECE_SIZE);
        assert_eq!(
            file.tensors.iter().map(|tensor| &tensor.name).collect::<HashSet<_>>().len(),
            file.tensors.len()
        );
    }
    true
}
