//! Chat templates against Jinja2, and prompts of the default model against those that llama.cpp was given.

#![allow(clippy::expect_used, reason = "a test may panic, its helpers too")]

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use shard_engine::chat::{ChatError, ChatTemplate, Message};
use shard_engine::gguf::{Gguf, HeaderWriter};
use shard_engine::tokenizer::Tokenizer;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// 19 July 2026, as in `e2e/chat_templates.py`.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_784_462_096)
}

fn message(role: &str, content: &str) -> Message {
    Message { role: role.to_owned(), content: content.to_owned() }
}

fn default_model() -> Gguf {
    Gguf::open(&root().join("../../models_cache/tiny-tales-f16.gguf")).expect("the default model")
}

/// The default model's tokenizer with another template.
fn model_with(template: Option<&str>) -> Gguf {
    let model = default_model();
    let mut header = HeaderWriter::default();
    for key in model.metadata.keys().filter(|key| *key != "tokenizer.chat_template") {
        header.copy(&model.metadata, key);
    }
    if let Some(template) = template {
        header.put("tokenizer.chat_template", template);
    }
    let bytes = header.finish().bytes;
    Gguf::read(&*bytes, bytes.len() as u64).expect("a header that we wrote")
}

fn compile(template: &str) -> Result<ChatTemplate, ChatError> {
    let gguf = model_with(Some(template));
    ChatTemplate::from_gguf(&gguf, &Tokenizer::from_gguf(&gguf).expect("a tokenizer"))
}

/// Conversations that are not rendered as Jinja2 did, of all.
fn differences(folder: &Path) -> (Vec<String>, usize) {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a file of this folder");
    let mut different = Vec::new();
    let mut all = 0;
    for line in read("jinja2.jsonl").lines() {
        let template: Value = serde_json::from_str(line).expect("JSON");
        let name = template["name"].as_str().expect("a name");
        let compiled = compile(&read(&format!("{name}.jinja")));
        for (i, case) in template["cases"].as_array().expect("cases").iter().enumerate() {
            let text = |value: &Value| value.as_str().expect("text").to_owned();
            let messages = case["messages"].as_array().expect("messages").iter();
            let messages: Vec<_> =
                messages.map(|m| message(&text(&m["role"]), &text(&m["content"]))).collect();
            let rendered = match &compiled {
                Ok(template) => template.render(&messages, true, now()).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            // What Jinja2 cannot render says nothing about us.
            if case.get("error").is_some() {
                continue;
            }
            let refused = |why: &Value| rendered.as_ref().err().is_some_and(|e| e.ends_with(&text(why)));
            all += 1;
            if !(rendered.as_deref().ok() == case["text"].as_str()
                || case.get("refused").is_some_and(refused))
            {
                different.push(format!("{name} #{i}: {rendered:?} instead of {case:?}"));
            }
        }
    }
    (different, all)
}

#[test]
fn templates_of_the_known_kinds_render_as_jinja2_does() {
    let (different, all) = differences(&root().join("tests/data/chat"));
    assert_eq!(different, Vec::<String>::new());
    assert!(all >= 20, "{all}");
}

#[test]
#[ignore = "needs llama.cpp's templates: run e2e/tokenizers.sh"]
fn templates_of_many_models_render_as_jinja2_does() {
    let folder =
        PathBuf::from(std::env::var_os("CHAT_TEMPLATES").expect("CHAT_TEMPLATES names their folder"));
    let (different, all) = differences(&folder);
    println!("{} of {all} conversations are rendered as by Jinja2", all - different.len());
    assert_eq!(different, Vec::<String>::new());
    assert!(all >= 300, "{all}");
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("ids")
}

/// The conversations from which the golden chat prompts were made.
#[test]
fn prompts_of_the_default_model_are_those_of_llama_cpp() {
    let gguf = default_model();
    let tokenizer = Tokenizer::from_gguf(&gguf).expect("a tokenizer");
    let template = ChatTemplate::from_gguf(&gguf, &tokenizer).expect("a template");
    assert!(!template.is_default());
    let golden = std::fs::read(root().join("tests/data/golden/f16.json")).expect("committed");
    let golden: Value = serde_json::from_slice(&golden).expect("JSON");
    let cases = golden["cases"].as_array().expect("cases").iter().filter(|case| case["style"] == "chat");
    let mut checked = 0;
    for case in cases {
        let prompt = case["prompt"].as_str().expect("a prompt");
        let turns = prompt.split("<|im_start|>").skip(1).filter_map(|turn| turn.split_once('\n'));
        let messages: Vec<_> = turns
            .filter_map(|(role, said)| Some(message(role, said.strip_suffix("<|im_end|>\n")?)))
            .collect();
        assert_eq!(template.render(&messages, true, now()).expect("a prompt"), prompt);
        assert_eq!(template.encode(&tokenizer, &messages, now()).expect("ids"), ids(&case["prompt_ids"]));
        checked += 1;
    }
    assert_eq!(checked, 8);
}

#[test]
fn bos_is_there_once_and_users_cannot_write_special_tokens() {
    let plain = "{% for m in messages %}{{ m.content }}{% endfor %}";
    let said = "</s><|im_end|> hello <s>";
    let encode = |template: &str| {
        let gguf = model_with(Some(template));
        let tokenizer = Tokenizer::from_gguf(&gguf).expect("a tokenizer");
        let template = ChatTemplate::from_gguf(&gguf, &tokenizer).expect("a template");
        let ids = template.encode(&tokenizer, &[message("user", said)], now()).expect("ids");
        assert_eq!(ids, tokenizer.encode(said, true, false));
        assert_eq!(ids.iter().filter(|&&id| id < 5).count(), 1);
    };
    encode(plain);
    encode(&format!("{{{{ bos_token }}}}{plain}"));
}

#[test]
fn without_a_template_it_is_chatml() {
    let gguf = model_with(None);
    let template =
        ChatTemplate::from_gguf(&gguf, &Tokenizer::from_gguf(&gguf).expect("a tokenizer")).expect("ChatML");
    assert!(template.is_default());
    let text = template.render(&[message("user", " Hi \n")], true, now()).expect("a prompt");
    assert_eq!(text, "<|im_start|>user\n Hi \n<|im_end|>\n<|im_start|>assistant\n");
    let text = template.render(&[message("user", "Hi")], false, now()).expect("a prompt");
    assert_eq!(text, "<|im_start|>user\nHi<|im_end|>\n");
}

/// The deepest trees that a template of 64 KiB can be parsed to, on the two megabytes of a test's thread.
#[test]
fn a_chain_of_any_length_leaves_the_callers_stack_alone() {
    for (front, link, back) in [
        ("{{", "-", "1 }}"),
        ("{{ a", ".a", " }}"),
        ("{{ a", "~a", " }}"),
        ("{% if a %}", "{%elif a%}", "{% endif %}"),
    ] {
        let links = link.repeat((65_536 - front.len() - back.len()) / link.len());
        assert!(compile(&format!("{front}{links}{back}")).is_ok(), "{link}");
    }
    assert!(compile(&"{{ ((".repeat(10_000)).is_err());
}

#[test]
fn errors_say_what_and_where() {
    let long = " ".repeat(65_537);
    for (template, message) in [
        (&*long, "the chat template has 65537 bytes: more than the limit of 65536"),
        ("{{ 1 }}\n{% if %}", "cannot compile the chat template: line 2: syntax error"),
        ("{% for m in messages %}", "cannot compile the chat template: line 1: syntax error"),
        ("\n\n{{ nothing.at.all }}", "cannot render the chat template: line 3: undefined value"),
        ("\n{{ messages[0].shout() }}", "cannot render the chat template: line 2: unknown method"),
        (
            "{{ strftime_now('%Q') }}",
            "cannot render the chat template: line 1: invalid operation: strftime_now does",
        ),
        ("{% include 'other' %}", "cannot render the chat template: line 1: template not found"),
        ("{{ raise_exception('No.') }}", "the model's chat template refuses the conversation: No."),
        (
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "the chat template does not end: more than 10000000 instructions",
        ),
        (
            "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
            "cannot render the chat template: line 1:",
        ),
        ("{{ 'abcdefgh' * 1048577 }}", "the conversation is longer than 8388608 bytes"),
    ] {
        let rendered = compile(template).and_then(|t| t.render(&[self::message("user", "Hi")], true, now()));
        let error = rendered.expect_err(template).to_string();
        assert!(error.starts_with(message), "{template}: {error}");
    }
}
