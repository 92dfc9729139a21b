//! What comes out: llama.cpp's tokens, for every shard count, alone and four at once.

use std::time::{Duration, Instant};

use shard_node::net::Transport;
use shard_node::ring::client::Token;

use crate::harness::{answer, fleet, golden, ids, until};

async fn matches_llama_cpp(transport: Transport, starts: &[u32]) {
    let fixture = fleet(transport, starts, 4, Duration::ZERO).await;
    for case in golden()["cases"].as_array().expect("cases").iter().take(4) {
        let tokens = answer(&fixture.client, ids(&case["prompt_ids"]), 64).await;
        let produced: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        assert_eq!(produced, ids(&case["ids"]), "{} over {starts:?}", case["prompt"]);
        assert!(tokens.iter().all(|token| token.trace.len() == starts.len()));
        assert!(tokens.iter().all(|token| token.trace.iter().all(|stage| stage.compute_us > 0)));
    }
    for stages in &fixture.stages {
        until("slots are free", || stages.status().active == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_shard_is_its_own_ring() {
    matches_llama_cpp(Transport::Tcp, &[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_shards_over_tcp() {
    matches_llama_cpp(Transport::Tcp, &[0, 2, 4, 6]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_uneven_shards_over_quic() {
    matches_llama_cpp(Transport::Quic, &[0, 3, 4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_interleave() {
    let fixture = fleet(Transport::Tcp, &[0, 2, 4, 6], 4, Duration::from_millis(20)).await;
    let prompt = vec![1, 547, 689];
    let begun = Instant::now();
    let alone = answer(&fixture.client, prompt.clone(), 64).await;
    let one = begun.elapsed();
    let begun = Instant::now();
    let four = futures::future::join_all((0..4).map(|_| answer(&fixture.client, prompt.clone(), 64))).await;
    let together = begun.elapsed();
    let plain = |tokens: &[Token]| tokens.iter().map(|token| token.id).collect::<Vec<_>>();
    assert!(four.iter().all(|tokens| plain(tokens) == plain(&alone)));
    assert!(together <= one.mul_f64(1.5), "four take {together:?}, one takes {one:?}");
}
