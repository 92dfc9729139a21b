//! Answers as they come: chunks, stop strings, errors in the middle, clients that go away or read slowly.

use serde_json::{Value, json};
use shard_node::ring::client::{AnswerError, Token};
use shard_wire::session::Finish;

use crate::harness::{CHAT, Fleet, TEXT, chat, next_event, open_stream, post, stable, tokens};

fn chunks(response: &crate::harness::Response) -> String {
    let event = |data: &String| match serde_json::from_str::<Value>(data) {
        Ok(value) => stable(value).to_string() + "\n",
        Err(_) => data.clone() + "\n",
    };
    response.events().iter().map(event).collect()
}

#[tokio::test]
async fn chat_chunks() {
    let mut fleet = Fleet::new();
    let score = |token: Token| Token { logprob: Some(-0.5), ..token };
    let said: Vec<_> = fleet.saying("A fox.").into_iter().map(score).collect();
    let body = chat(json!({"stream": true, "logprobs": true}));
    let response = fleet.answered(post(CHAT, &body), said).await;
    assert_eq!(response.header("content-type"), "text/event-stream");
    assert_eq!(response.header("x-accel-buffering"), "no");
    assert!(response.header("server-timing").starts_with("queue;dur="));
    assert!(response.header("server-timing").ends_with(", open;dur=1.500"));
    insta::assert_snapshot!(chunks(&response));
}

#[tokio::test]
async fn completion_chunks_with_usage() {
    let mut fleet = Fleet::new();
    let said = tokens(&fleet.ids("A fox."), Finish::Length);
    let body =
        json!({"prompt": "Once", "stream": true, "stream_options": {"include_usage": true}, "echo": true});
    let response = fleet.answered(post(TEXT, &body), said).await;
    insta::assert_snapshot!(chunks(&response));
}

/// Choices are interleaved as their tokens come; the last chunk is after the end of all.
#[tokio::test]
async fn choices_interleave() {
    let mut fleet = Fleet::new();
    let body = json!({"prompt": "Once", "stream": true, "n": 2});
    let response = fleet.send(post(TEXT, &body));
    let (first, second) = (fleet.ring.open().await.accept(64), fleet.ring.open().await.accept(64));
    let said = [(&first, fleet.saying("aaaa aaaa")), (&second, fleet.saying("bbbb bbbb"))];
    for index in 0..20 {
        for (session, tokens) in &said {
            if let Some(token) = tokens.get(index) {
                session.send(token.clone()).await;
            }
        }
    }
    drop((first, second));
    let response = response.await.unwrap();
    let texts = response.streamed();
    assert_eq!((texts[&0].trim(), texts[&1].trim()), ("aaaa aaaa", "bbbb bbbb"));
    let events = response.events();
    assert_eq!(events.iter().filter(|data| data.contains("\"finish_reason\":\"stop\"")).count(), 2);
    assert_eq!(events.iter().filter(|data| data.contains("\"timings\"")).count(), 1);
    assert_eq!(events.last().unwrap(), "[DONE]");
}

/// The stop string and what follows it are no text; what follows is not counted, and the answer is cancelled.
#[tokio::test]
async fn stop_strings() {
    let mut fleet = Fleet::new();
    let text = "One day the fox ran.\n\nThe end. One more";
    let cases = [
        (json!("fox"), "One day the ", "stop"),
        (json!(["\n\n", "ran."]), "One day the fox ", "stop"),
        (json!("\n\n"), "One day the fox ran.", "stop"),
        (json!(["day the wolf", "ran.\nThe"]), text, "length"),
        (json!(["morel", "moreover"]), text, "length"),
        (json!(["One"]), "", "stop"),
    ];
    for (stop, expected, finish) in cases {
        for stream in [false, true] {
            let body = json!({"prompt": "A", "stop": stop, "stream": stream, "stream_options": {"include_usage": true}});
            let body = if stream { body } else { json!({"prompt": "A", "stop": stop}) };
            let response = fleet.send(post(TEXT, &body));
            let session = fleet.ring.open().await.accept(64);
            let said = tokens(&fleet.ids(text), Finish::Length);
            let sent = said.len();
            for token in said {
                let _ = session.tokens.send(Ok(token)).await;
            }
            session.cancelled().await;
            let response = response.await.unwrap();
            let (got, count) = if stream {
                let events = response.events();
                let last: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
                (response.streamed()[&0].clone(), last["usage"]["completion_tokens"].clone())
            } else {
                let body = response.json();
                assert_eq!(body["choices"][0]["finish_reason"], finish, "{stop}");
                (
                    body["choices"][0]["text"].as_str().unwrap().to_owned(),
                    body["usage"]["completion_tokens"].clone(),
                )
            };
            // A vocabulary may put a space in front of a first word.
            assert_eq!(got.strip_prefix(' ').unwrap_or(&got), expected, "{stop}, stream {stream}");
            let count = usize::try_from(count.as_u64().unwrap()).unwrap();
            assert_eq!(count < sent, finish == "stop", "{stop}: {count} of {sent} tokens");
        }
    }
}

/// Text that may become a stop string is held back, and no more than that.
#[tokio::test]
async fn held_back() {
    let mut fleet = Fleet::new();
    let body = json!({"prompt": "A", "stop": ["fox!"], "stream": true});
    let stream = tokio::spawn(open_stream(fleet.app.clone(), post(TEXT, &body)));
    let session = fleet.ring.open().await.accept(64);
    let mut stream = stream.await.unwrap();
    let mut text = String::new();
    for token in
        tokens(&fleet.ids("A fox"), Finish::Length).into_iter().map(|token| Token { finish: None, ..token })
    {
        session.send(token).await;
    }
    while !text.ends_with("A ") {
        let event = next_event(&mut stream).await.unwrap();
        let data: Value = serde_json::from_str(event.trim().strip_prefix("data: ").unwrap()).unwrap();
        text += data["choices"][0]["text"].as_str().unwrap();
        assert!(!text.contains('f'), "{text:?}");
    }
    for token in tokens(&fleet.ids("es"), Finish::Length) {
        session.send(token).await;
    }
    let mut rest = String::new();
    while let Some(event) = next_event(&mut stream).await {
        rest += &event;
    }
    assert!(rest.contains("\"fox"), "{rest}");
    assert!(rest.ends_with("data: [DONE]\n\n"), "{rest}");
}

/// A client that goes away cancels its answer, whether it streams or not.
#[tokio::test]
async fn gone_client() {
    let mut fleet = Fleet::new();
    let stream =
        tokio::spawn(open_stream(fleet.app.clone(), post(TEXT, &json!({"prompt": "A", "stream": true}))));
    let session = fleet.ring.open().await.accept(64);
    let mut stream = stream.await.unwrap();
    session.send(fleet.saying("fox").remove(0)).await;
    next_event(&mut stream).await.unwrap();
    drop(stream);
    session.cancelled().await;

    let response = fleet.send(post(TEXT, &json!({"prompt": "A"})));
    let session = fleet.ring.open().await.accept(64);
    session.send(fleet.saying("fox").remove(0)).await;
    session.taken().await;
    response.abort();
    session.cancelled().await;
    let text = fleet.respond(crate::harness::get("/metrics")).await;
    let text = String::from_utf8_lossy(&text.body).into_owned();
    assert!(text.contains(r#"answers_total{end="cancelled"} 2"#), "{text}");
}

/// An error in the middle is an event, and the stream ends without pretending to be complete. Other choices are cancelled.
#[tokio::test]
async fn error_in_the_middle() {
    let mut fleet = Fleet::new();
    let response = fleet.send(post(TEXT, &json!({"prompt": "A", "stream": true, "n": 2})));
    let (lost, other) = (fleet.ring.open().await.accept(64), fleet.ring.open().await.accept(64));
    lost.send(fleet.saying("fox").remove(0)).await;
    let error = AnswerError::Lost { shard: 1, reason: "its connection was closed".into() };
    lost.tokens.send(Err(error)).await.unwrap();
    other.cancelled().await;
    let events = response.await.unwrap().events();
    insta::assert_snapshot!(events.last().unwrap());
    assert!(!events.iter().any(|data| data.contains("[DONE]") || data.contains("\"stop\"")));
}

/// A client that does not read holds the answer back in the ring's bounded queue: nothing piles up in the gateway.
#[tokio::test]
async fn slow_client() {
    const ROOM: usize = 4;
    let mut fleet = Fleet::new();
    let stream =
        tokio::spawn(open_stream(fleet.app.clone(), post(TEXT, &json!({"prompt": "A", "stream": true}))));
    let session = fleet.ring.open().await.accept(ROOM);
    let mut stream = stream.await.unwrap();
    let all = tokens(&fleet.ids(&"fox ".repeat(50)), Finish::Length);
    let (mut sent, mut read) = (0, 0);
    while let Some(token) = all.get(sent) {
        // The gateway takes a token only when the client asks for an event.
        match session.tokens.try_send(Ok(token.clone())) {
            Ok(()) => sent += 1,
            Err(_) => {
                assert!(sent - read <= ROOM + 1, "{sent} tokens sent, {read} events read");
                next_event(&mut stream).await.unwrap();
                read += 1;
            }
        }
    }
    let mut last = String::new();
    while let Some(event) = next_event(&mut stream).await {
        last = event;
    }
    assert_eq!(last, "data: [DONE]\n\n");
}
