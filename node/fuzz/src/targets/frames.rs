//! Frames of `/activation/1.0`, and the JSON bodies that they carry.

use futures::executor::block_on;
use futures::io::Cursor;
use shard_node::ring::frame_io::{ReadError, read_frame};
use shard_wire::frame::{Dtype, HEADER_LEN, Limits};
use shard_wire::session::{Failure, Open, Opened, Refusal, Sampled};

use crate::targets::json;

/// A stream of frames, under the limits of every peer and under tight ones.
pub fn frame(data: &[u8]) -> bool {
    let tight = Limits { values: 64, trace: 2, body: 32 };
    let whole = stream(data, &Limits::default());
    assert!(stream(data, &tight) <= whole, "tighter limits let more through");
    whole > 0
}

/// How many frames a stream begins with.
fn stream(data: &[u8], limits: &Limits) -> usize {
    let (mut stream, mut at) = (Cursor::new(data), 0);
    for count in 0.. {
        let rest = &data[at..];
        match block_on(read_frame(&mut stream, limits)) {
            Ok(frame) => {
                let bytes = frame.encode();
                assert_eq!(rest.get(..bytes.len()), Some(&*bytes), "read, it is written otherwise");
                let header = frame.header;
                let values = u64::from(header.count) * u64::from(header.width) * header.dtype.size() as u64;
                assert_eq!(values, frame.values.len() as u64);
                assert!(values <= u64::from(limits.values));
                assert!(frame.trace.len() <= usize::from(limits.trace));
                assert!(frame.body.len() <= limits.body as usize);
                let ids = frame.tokens().map(|ids| ids.len());
                assert_eq!(ids, (header.dtype == Dtype::U32).then_some(frame.values.len() / 4));
                at += bytes.len();
            }
            Err(ReadError::End) => {
                assert!(rest.is_empty(), "{} bytes were not read", rest.len());
                return count;
            }
            Err(ReadError::Frame(_)) => {
                assert!(rest.len() >= HEADER_LEN, "refused before the header was whole");
                return count;
            }
            Err(ReadError::Io(_)) => {
                assert!(!rest.is_empty(), "an end between two frames is not an error");
                return count;
            }
        }
    }
    unreachable!("each frame has a header, and the data end")
}

/// The body of any frame.
pub fn session(data: &[u8]) -> bool {
    let open = json::<Open>(data);
    let some = json::<Opened>(data).is_some()
        | json::<Refusal>(data).is_some()
        | json::<Sampled>(data).is_some()
        | json::<Failure>(data).is_some();
    open.is_some() | some
}
