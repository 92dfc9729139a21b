use proptest::prelude::*;

use super::*;

fn decode(bytes: &[u8]) -> Result<Frame, FrameError> {
    let (head, payload) = bytes.split_first_chunk().expect("a whole header");
    let envelope = Envelope::decode(head, &Limits::default())?;
    assert_eq!(envelope.payload_len(), payload.len());
    Ok(envelope.with_payload(payload.to_vec()))
}

/// The worked example of the module's page: token 547 at position 14 of session 7, epoch 2, from the third stage.
#[test]
fn worked_example() {
    let header = Header {
        dtype: Dtype::U32,
        flags: LAST,
        step: 9,
        position: 14,
        count: 1,
        width: 1,
        remaining_ms: 60_000,
        ..Header::control(Kind::Token, 7, 2, 3)
    };
    let frame = Frame {
        header,
        values: 547_u32.to_le_bytes().to_vec(),
        trace: vec![StageTime { queue_us: 10, compute_us: 1000 }],
        body: b"{}".to_vec(),
    };
    #[rustfmt::skip]
    let bytes = [
        1, 8, 1, 1,  3, 0,  1, 0,
        7, 0, 0, 0, 0, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0, 0,
        2, 0, 0, 0,  9, 0, 0, 0,  14, 0, 0, 0,  1, 0, 0, 0,  1, 0, 0, 0,  0x60, 0xEA, 0, 0,
        2, 0, 0, 0,  14, 0, 0, 0,
        0x23, 2, 0, 0,
        10, 0, 0, 0,  0xE8, 3, 0, 0,
        b'{', b'}',
    ];
    assert_eq!(frame.encode(), bytes);
    assert_eq!(decode(&bytes), Ok(frame));
}

#[test]
fn lies_are_named() {
    let good = Frame::control(Header::control(Kind::Start, 1, 1, 0)).encode();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        let head: &[u8; HEADER_LEN] = bytes.first_chunk().expect("header");
        Envelope::decode(head, &Limits::default()).map(|_| ())
    };
    assert_eq!(with(0, 2), Err(FrameError::Version(2)));
    assert_eq!(with(1, 99), Err(FrameError::Unknown { field: "kind", value: 99 }));
    assert_eq!(with(2, 9), Err(FrameError::Unknown { field: "dtype", value: 9 }));
    assert_eq!(with(7, 2), Err(FrameError::TooLarge { field: "trace", value: 512, limit: 256 }));
    assert_eq!(with(51, 1), Err(FrameError::TooLarge { field: "body", value: 1 << 24, limit: 256 << 10 }));
    assert_eq!(with(52, 1), Err(FrameError::Length { said: 1, needed: 0 }));
}

#[test]
fn a_claim_of_many_values_takes_no_memory() {
    let header = Header {
        dtype: Dtype::F32,
        count: u32::MAX,
        width: u32::MAX,
        ..Header::control(Kind::Chunk, 1, 1, 0)
    };
    let bytes = Frame::control(header).encode();
    let head: &[u8; HEADER_LEN] = bytes.first_chunk().expect("header");
    assert!(matches!(
        Envelope::decode(head, &Limits::default()),
        Err(FrameError::TooLarge { field: "values", .. })
    ));
}

proptest! {
    #[test]
    fn any_header_is_read_or_refused(bytes in prop::array::uniform32(any::<u8>()), rest in prop::array::uniform24(any::<u8>())) {
        let mut head = [0; HEADER_LEN];
        head[..32].copy_from_slice(&bytes);
        head[32..].copy_from_slice(&rest);
        // Without these three bytes nearly every input stops at the first check.
        head[0] = VERSION;
        head[1] = head[1] % 14 + 1;
        head[2] %= 5;
        if let Ok(envelope) = Envelope::decode(&head, &Limits::default()) {
            let limits = Limits::default();
            prop_assert!(envelope.payload_len() <= limits.values as usize + 256 * TRACE_ENTRY_LEN + limits.body as usize);
        }
    }

    #[test]
    fn round_trip(session: u128, epoch: u32, position: u32, ids in prop::collection::vec(any::<u32>(), 0..50), trace in 0_usize..5, body in prop::collection::vec(any::<u8>(), 0..40)) {
        let header = Header { dtype: Dtype::U32, position, count: ids.len() as u32, width: 1, ..Header::control(Kind::Open, session, epoch, 0) };
        let frame = Frame {
            header,
            values: ids.iter().flat_map(|id| id.to_le_bytes()).collect(),
            trace: vec![StageTime { queue_us: epoch, compute_us: position }; trace],
            body,
        };
        let back = decode(&frame.encode()).expect("decodes");
        prop_assert_eq!(back.tokens(), Some(ids));
        prop_assert_eq!(back, frame);
    }
}
