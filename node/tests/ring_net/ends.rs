//! What is left when a client, its gateway or a stage is gone.

use std::time::{Duration, Instant};

use shard_node::net::Transport;
use shard_node::ring::client::{OpenError, Prompt};
use tokio::time::timeout;

use crate::harness::{SOON, fleet, long_prompt, prompt, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_frees_every_stage() {
    let fixture = fleet(Transport::Tcp, &[0, 4], 1, Duration::from_millis(20)).await;
    let mut answer = fixture.client.generate(long_prompt()).await.expect("opens");
    answer.tokens.recv().await.expect("a token").expect("no error");
    assert!(fixture.stages.iter().all(|stages| stages.status().active == 1));
    drop(answer);
    let begun = Instant::now();
    for stages in &fixture.stages {
        until("the slot is free", || stages.status().active == 0).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_gone_frees_every_stage_after_its_lease() {
    let fixture = fleet(Transport::Tcp, &[0, 4], 1, Duration::from_millis(20)).await;
    let mut answer = fixture.client.generate(long_prompt()).await.expect("opens");
    answer.tokens.recv().await.expect("a token").expect("no error");
    // Nothing is said to the stages: the connection is just gone.
    fixture.gateway.shutdown().await;
    let begun = Instant::now();
    for stages in &fixture.stages {
        until("the slot is free", || stages.status().active == 0).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_dies_is_an_error_that_names_it() {
    let fixture = fleet(Transport::Tcp, &[0, 4], 1, Duration::from_millis(20)).await;
    fixture.nodes[1].shutdown().await;
    let prompt = Prompt { eos: Vec::new(), ..prompt(vec![1, 547, 689], 4) };
    let error =
        timeout(SOON, fixture.client.generate(prompt)).await.expect("an answer").expect_err("no route");
    let text = error.to_string();
    assert!(matches!(error, OpenError::Incomplete { .. }), "{text}");
}
