//! What somebody who is on no route sends to a stage.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use shard_node::net::Transport;
use shard_node::ring::lanes::PROTOCOL;
use shard_wire::frame::{Dtype, Frame, Header, Kind};
use tokio::time::timeout;

use crate::harness::{SOON, fleet, golden, ids, peer, prompt, until};

#[tokio::test(flavor = "multi_thread")]
async fn strangers_bytes_and_stale_frames_harm_nobody() {
    let fixture = fleet(Transport::Tcp, &[0, 4], 2, Duration::ZERO).await;
    let asked = ids(&golden()["cases"][1]["prompt_ids"]);
    let expected = ids(&golden()["cases"][1]["ids"]);
    let target = fixture.nodes[0].local_peer();
    let (stranger, _) = peer(Transport::Tcp, "stranger").await;
    stranger.dial(Some(target), fixture.nodes[0].listen_addresses().await).await.expect("dials");

    let header = Header { dtype: Dtype::F32, count: 1, width: 256, ..Header::control(Kind::Step, 1, 1, 0) };
    let step = Frame { values: vec![0; 1024], ..Frame::control(header) }.encode();
    let mut oversized = step.clone();
    oversized[36..40].copy_from_slice(&u32::MAX.to_le_bytes());
    let nonsense: [(&str, Vec<u8>); 4] = [
        ("no lane", vec![9; 200]),
        ("not a frame", [vec![1], vec![0xFF; 200]].concat()),
        ("a frame of 4 TB", [vec![1], oversized].concat()),
        ("another version", [vec![1, 2], vec![0; 200]].concat()),
    ];
    for (what, bytes) in nonsense {
        let mut stream = stranger.streams().open_stream(target, PROTOCOL).await.expect("a stream");
        // The node may cut the stream off while it is written.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        let mut rest = [0; 1];
        let read =
            timeout(SOON, stream.read(&mut rest)).await.unwrap_or_else(|_| panic!("{what}: not cut off"));
        assert!(matches!(read, Ok(0) | Err(_)), "{what}");
    }

    // Well-formed, and not the stranger's to send: a step, a token, and an end for the session that is running.
    let mut answer = fixture.client.generate(prompt(asked, 64)).await.expect("opens");
    let mut stream = stranger.streams().open_stream(target, PROTOCOL).await.expect("a stream");
    let close = Frame::control(Header::control(Kind::Close, 1, 9, 0)).encode();
    let token = Header { dtype: Dtype::U32, count: 1, width: 1, ..Header::control(Kind::Token, 2, 1, 0) };
    let token = Frame { values: vec![1, 0, 0, 0], ..Frame::control(token) }.encode();
    stream.write_all(&[vec![1], step, close, token].concat()).await.expect("writes");
    stream.flush().await.expect("writes");
    until("foreign frames are counted", || fixture.stages[0].status().drops.unknown >= 2).await;

    let mut produced = Vec::new();
    while let Some(token) = timeout(SOON, answer.tokens.recv()).await.expect("in time") {
        produced.push(token.expect("no error").id);
    }
    assert_eq!(produced, expected);
}
