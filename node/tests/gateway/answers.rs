//! Whole answers: bodies, text, counts and headers.

use serde_json::{Value, json};
use shard_node::ring::client::Token;
use shard_wire::session::Finish;

use crate::harness::{CHAT, Fleet, TEXT, chat, get, post, stable, tokens};

fn pretty(value: Value) -> String {
    format!("{:#}", stable(value))
}

fn scored(tokens: Vec<Token>) -> Vec<Token> {
    let score = |token: Token| {
        let top = vec![(token.id, -0.25), (200, -1.5), (201, f32::NEG_INFINITY)];
        Token { logprob: Some(-0.25), top, ..token }
    };
    tokens.into_iter().map(score).collect()
}

#[tokio::test]
async fn whole_chat() {
    let mut fleet = Fleet::new();
    let said = fleet.saying("A fox.");
    let response = fleet.answered(post(CHAT, &chat(json!({}))), said).await;
    insta::assert_snapshot!(pretty(response.json()));
    let timing = response.header("server-timing");
    let names: Vec<_> = timing.split(", ").map(|entry| entry.split(";dur=").next().unwrap()).collect();
    assert_eq!(names, ["queue", "open", "prefill", "stage0", "stage1", "total"]);
    assert!(timing.contains("open;dur=1.500"), "{timing}");
}

#[tokio::test]
async fn whole_chat_with_logprobs() {
    let mut fleet = Fleet::new();
    let said = scored(fleet.saying("fox"));
    let body = chat(json!({"logprobs": true, "top_logprobs": 3, "max_tokens": 8}));
    let response = fleet.answered(post(CHAT, &body), said).await;
    insta::assert_snapshot!(pretty(response.json()["choices"].take()));
}

#[tokio::test]
async fn whole_completion_with_logprobs() {
    let mut fleet = Fleet::new();
    let said = scored(tokens(&fleet.ids("fox🦊"), Finish::Length));
    let body = json!({"prompt": "Once", "logprobs": 3});
    let response = fleet.answered(post(TEXT, &body), said).await;
    insta::assert_snapshot!(pretty(response.json()));
}

/// Two choices of two prompts: sessions of their own, in order, drawn with different seeds; the prompt is counted once.
#[tokio::test]
async fn several_choices() {
    let mut fleet = Fleet::new();
    let once = fleet.model.encode("Once");
    let body = json!({"prompt": ["Once", once], "n": 2, "echo": true, "seed": 7});
    let response = fleet.send(post(TEXT, &body));
    let mut seeds = Vec::new();
    let mut openings = Vec::new();
    for _ in 0..4 {
        openings.push(fleet.ring.open().await);
    }
    for (opening, text) in openings.into_iter().zip(["a", "bb", "ccc", "dddd"]) {
        assert_eq!(opening.prompt.ids, once);
        seeds.push(opening.prompt.sampling.seed);
        opening.answer(fleet.saying(text)).await;
    }
    assert_eq!(seeds, [7, 8, 7, 8]);
    let body = response.await.unwrap().json();
    let text = |index: usize| body["choices"][index]["text"].as_str().unwrap().replace(' ', "");
    assert_eq!([text(0), text(1), text(2), text(3)], ["Oncea", "Oncebb", "Onceccc", "Oncedddd"]);
    assert_eq!(body["usage"]["prompt_tokens"], 2 * once.len());
}

/// The text of an answer: tokens without text, characters of several tokens, bytes that never become one.
#[tokio::test]
async fn text_of_tokens() {
    let mut fleet = Fleet::new();
    let byte = |fleet: &Fleet, byte: u8| (0..).find(|id| *fleet.model.bytes(*id) == [byte]).unwrap();
    let fox = fleet.ids("fox");
    let bytes: Vec<u32> = "🦊".bytes().map(|b| byte(&fleet, b)).collect();
    let cases = [
        ("whole", [fox.clone(), bytes.clone()].concat(), "fox🦊"),
        ("control", [fox.clone(), vec![3, 1, 0], fox.clone()].concat(), "foxfox"),
        ("cut at the end", [fox.clone(), bytes[..3].to_vec()].concat(), "fox\u{fffd}"),
        ("cut inside", [fox.clone(), bytes[..2].to_vec(), fox.clone()].concat(), "fox\u{fffd}fox"),
        ("stray", [vec![byte(&fleet, 0xff)], bytes].concat(), "\u{fffd}🦊"),
    ];
    for (name, ids, expected) in cases {
        for stream in [false, true] {
            let body = json!({"prompt": "A", "stream": stream});
            let response = fleet.answered(post(TEXT, &body), tokens(&ids, Finish::Length)).await;
            let text = match stream {
                true => response.streamed()[&0].clone(),
                false => response.json()["choices"][0]["text"].as_str().unwrap().to_owned(),
            };
            assert_eq!(text.replace(' ', ""), expected, "{name}, stream {stream}");
        }
    }
}

/// A chat answer stands for itself: it does not begin with the space of a first word. A completion continues its prompt.
#[tokio::test]
async fn first_space() {
    let mut fleet = Fleet::new();
    let said = fleet.saying("fox");
    let response = fleet.answered(post(CHAT, &chat(json!({}))), said.clone()).await;
    assert_eq!(response.json()["choices"][0]["message"]["content"], "fox");
    let response = fleet.answered(post(TEXT, &json!({"prompt": "A red"})), said).await;
    assert_eq!(response.json()["choices"][0]["text"], " fox");
}

#[tokio::test]
async fn models_and_health() {
    let fleet = Fleet::new();
    let list = fleet.respond(get("/v1/models")).await;
    insta::assert_snapshot!(pretty(list.json()));
    let one = fleet.respond(get(&format!("/v1/models/{}", fleet.model.name))).await;
    assert_eq!(one.json(), list.json()["data"][0]);
    assert_eq!(fleet.respond(get("/healthz")).await.json(), json!({"status": "ok"}));
    assert_eq!(
        fleet.respond(get("/readyz")).await.json(),
        json!({"status": "ready", "pipeline_complete": false})
    );
    let Fleet { app, ring, .. } = fleet;
    drop(ring);
    let response = tower::ServiceExt::oneshot(app, get("/healthz")).await.unwrap();
    assert_eq!(response.status(), 503);
}

#[tokio::test]
async fn metrics_count() {
    let mut fleet = Fleet::new();
    let said = fleet.saying("fox");
    let generated = said.len() - 1;
    fleet.answered(post(TEXT, &json!({"prompt": [5, 6, 7]})), said).await;
    fleet.respond(post(TEXT, &json!({}))).await;
    fleet.respond(get("/nowhere/at/all")).await;
    let response = fleet.respond(get("/metrics")).await;
    assert!(response.header("content-type").starts_with("application/openmetrics-text"));
    let text = String::from_utf8(response.body.to_vec()).unwrap();
    let stage = (6000 + 2000 * generated) as f64 / 1e6;
    let expected = [
        r#"gateway_requests_total{route="/v1/completions",code="200"} 1"#.to_owned(),
        r#"gateway_requests_total{route="/v1/completions",code="400"} 1"#.to_owned(),
        r#"gateway_requests_total{route="other",code="404"} 1"#.to_owned(),
        r#"gateway_answers_total{end="stop"} 1"#.to_owned(),
        "gateway_prompt_tokens_total 3".to_owned(),
        format!("gateway_generated_tokens_total {generated}"),
        "gateway_time_to_first_token_seconds_count 1".to_owned(),
        format!(r#"gateway_stage_compute_seconds_total{{stage="1"}} {stage}"#),
        "gateway_active_answers 0".to_owned(),
        "gateway_queue_length 0".to_owned(),
    ];
    for line in expected {
        assert!(
            text.lines().any(|found| found == format!("shardcluster_{line}")),
            "{line} is not in\n{text}"
        );
    }
}
