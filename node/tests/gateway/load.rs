//! A fleet that is full, incomplete, unknown or late; and the long poll that tells of it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use shard_node::gateway::{Keys, Limits};
use shard_node::ring::client::{AnswerError, OpenError, Token};
use shard_wire::layers::LayerRange;
use shard_wire::session::{Finish, Refusal};
use tokio::time::timeout;

use crate::harness::{Fleet, Response, SOON, TEXT, get, post, status, tokens};

fn error(response: &Response) -> String {
    let error = response.json()["error"].take();
    format!("{} retry-after {:?} {error}", response.status.as_u16(), response.header("retry-after"))
}

/// What the ring's refusals are to a client, streaming or not: a status, since no answer has begun.
#[tokio::test]
async fn refusals() {
    let mut fleet = Fleet::new();
    let missing = vec![LayerRange { start: 4, end: 6 }, LayerRange { start: 7, end: 8 }];
    let refusals = [
        OpenError::Incomplete { missing, reason: "shard 1 has no replica".into() },
        OpenError::TooLong { positions: 20, limit: 2 },
        OpenError::Refused { shard: 1, refusal: Refusal::OtherPlan { plan: "ab12".into() } },
        OpenError::Busy,
        OpenError::Timeout(Duration::from_secs(2)),
        OpenError::Closed,
    ];
    let mut table = String::new();
    for refusal in refusals {
        for stream in [false, true] {
            let response = fleet.send(post(TEXT, &json!({"prompt": "Once", "stream": stream})));
            fleet.ring.open().await.refuse(refusal.clone());
            let line = error(&response.await.unwrap()) + "\n";
            if !table.ends_with(&line) {
                table += &line;
            }
        }
    }
    insta::assert_snapshot!(table);
}

/// Before the first announcement: the reason is the pipeline's.
#[tokio::test]
async fn unknown_model() {
    let fleet = Fleet::new();
    fleet.models.send(None).unwrap();
    let response = fleet.respond(post(TEXT, &json!({"prompt": "Once"}))).await;
    insta::assert_snapshot!(error(&response));
    assert_eq!(fleet.respond(get("/v1/models")).await.json()["data"], json!([]));
}

/// Nodes with a shorter context than the model's get a request that fits, when the prompt does.
#[tokio::test]
async fn shorter_context() {
    let mut fleet = Fleet::new();
    let response = fleet.send(post(TEXT, &json!({"prompt": [5, 6, 7]})));
    let opening = fleet.ring.open().await;
    assert_eq!(opening.prompt.max_tokens, fleet.model.context_length - 3);
    opening.refuse(OpenError::TooLong { positions: fleet.model.context_length, limit: 10 });
    let opening = fleet.ring.open().await;
    assert_eq!(opening.prompt.max_tokens, 7);
    opening.answer(tokens(&[5], Finish::Length)).await;
    assert_eq!(response.await.unwrap().status, 200);
}

/// Requests that wait for a slot, and answers under way, are counted.
#[tokio::test]
async fn gauges() {
    let mut fleet = Fleet::new();
    let running = fleet.send(post(TEXT, &json!({"prompt": "Once"})));
    let session = fleet.ring.open().await.accept(4);
    session.send(Token { finish: None, ..tokens(&[5], Finish::Length).remove(0) }).await;
    session.taken().await;
    let waiting = fleet.send(post(TEXT, &json!({"prompt": "Once"})));
    let opening = fleet.ring.open().await;
    let text = fleet.respond(get("/metrics")).await;
    let text = String::from_utf8_lossy(&text.body).into_owned();
    for line in ["gateway_active_answers 1", "gateway_queue_length 1"] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    opening.refuse(OpenError::Busy);
    session.send(tokens(&[5], Finish::Length).remove(0)).await;
    assert_eq!((waiting.await.unwrap().status.as_u16(), running.await.unwrap().status.as_u16()), (429, 200));
    let text = fleet.respond(get("/metrics")).await;
    assert!(String::from_utf8_lossy(&text.body).contains("gateway_queue_length 0"));
}

/// An answer that is late, by the gateway's clock or the ring's.
#[tokio::test]
async fn deadline() {
    let limits = Limits { request_timeout: Duration::from_millis(50), ..Limits::default() };
    let mut fleet = Fleet::with(limits, Keys::default());
    let response = fleet.send(post(TEXT, &json!({"prompt": "Once"})));
    let session = fleet.ring.open().await.accept(4);
    session.cancelled().await;
    let late = response.await.unwrap();
    assert_eq!((late.status.as_u16(), &late.json()["error"]["code"]), (504, &json!("deadline_exceeded")));

    let mut fleet = Fleet::new();
    let response = fleet.send(post(TEXT, &json!({"prompt": "Once"})));
    let session = fleet.ring.open().await.accept(4);
    session.tokens.send(Err(AnswerError::Deadline(Duration::from_secs(1)))).await.unwrap();
    assert_eq!(response.await.unwrap().json()["error"]["code"], "deadline_exceeded");
}

/// The pipeline object at once, after a change, for a revision that is not known, and after the wait.
#[tokio::test]
async fn long_poll() {
    let fleet = Fleet::new();
    let object = fleet.respond(get("/api/v1/pipeline")).await;
    insta::assert_snapshot!(serde_json::to_string_pretty(&object.json()).unwrap());
    assert_eq!(object.header("cache-control"), "no-store");
    for path in [
        "/api/v1/pipeline?since=other&wait=25",
        "/api/v1/pipeline?since=&wait=25",
        "/api/v1/pipeline?since=r1&wait=0",
    ] {
        assert_eq!(fleet.respond(get(path)).await.json()["revision"], "r1", "{path}");
    }
    let poll = fleet.send(get("/api/v1/pipeline?since=r1&wait=25"));
    // Something else than the revision's change is no news.
    fleet.pipeline.send(Arc::new(status("r1"))).unwrap();
    tokio::task::yield_now().await;
    assert!(!poll.is_finished());
    fleet.pipeline.send(Arc::new(status("r2"))).unwrap();
    let news = timeout(SOON, poll).await.unwrap().unwrap();
    assert_eq!(news.json()["revision"], "r2");
    let bad = fleet.respond(get("/api/v1/pipeline?since=r2&wait=soon")).await;
    assert_eq!((bad.status.as_u16(), &bad.json()["error"]["param"]), (400, &json!("wait")));
}
