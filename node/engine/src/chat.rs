//! From a conversation to a prompt, by the template in the model's file.
//!
//! 1. What users wrote is shielded: the name of a special token in it stays text.
//! 2. The template is rendered as Hugging Face's transformers does (Jinja2 with `trim_blocks` and `lstrip_blocks`,
//!    Python's string methods, `raise_exception`, `strftime_now`), within bounds.
//! 3. The text is encoded, special tokens included; BOS stands in front once, whether the template writes it or not.

mod clock;
mod error;

use std::io;
use std::panic::resume_unwind;
use std::thread;
use std::time::SystemTime;

pub use error::ChatError;
use error::Refusal;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, State, Value, context};
use regex::{Captures, Regex};

use crate::gguf::Gguf;
use crate::tokenizer::Tokenizer;

/// The template of a file without one: ChatML, as in llama.cpp.
const CHATML: &str = "{%- for message in messages -%}\
    {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}\
    {%- endfor -%}\
    {%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}";
const NAME: &str = "chat";
/// Of a template, in bytes: the longest known ones have 17 kB.
const MAX_TEMPLATE: usize = 64 << 10;
/// Stack to compile a template on. minijinja bounds brackets, but not chains such as `a.a.a` and `- - - a`: its functions
/// call themselves once for each link, and a link took up to 500 bytes of stack for a byte of template.
const COMPILE_STACK: usize = 1024 * MAX_TEMPLATE;
/// Instructions of one rendering: some 100,000 messages, or about a second of a template that does not end.
const FUEL: u64 = 10_000_000;
/// Of the rendered text, in bytes: a prompt of two million tokens.
const MAX_TEXT: usize = 8 << 20;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What they say.
    pub content: String,
}

/// The chat template of one model, compiled.
pub struct ChatTemplate {
    environment: Environment<'static>,
    is_default: bool,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// The template of a file (`tokenizer.chat_template`), or ChatML where it has none.
    ///
    /// # Errors
    /// When it is not a template, or too long for one.
    pub fn from_gguf(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<Self, ChatError> {
        let source = gguf.metadata.get::<&str>("tokenizer.chat_template")?;
        if let Some(bytes) = source.map(str::len).filter(|&bytes| bytes > MAX_TEMPLATE) {
            return Err(ChatError::TooLarge { bytes });
        }
        let name = |id: Option<u32>| {
            let bytes = id.and_then(|id| tokenizer.token_bytes(id)).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        Ok(Self {
            environment: compile(source.unwrap_or(CHATML))?,
            is_default: source.is_none(),
            bos: name(tokenizer.bos()),
            eos: name(tokenizer.eos()),
        })
    }

    /// The file had no template: the model may not know ChatML.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.is_default
    }

    /// The ids of a conversation, up to where the assistant begins to speak. `now` is for templates that write the date.
    ///
    /// # Errors
    /// When the template refuses the conversation, fails, or does not end.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        now: SystemTime,
    ) -> Result<Vec<u32>, ChatError> {
        let shielded: Vec<_> = messages
            .iter()
            .map(|Message { role, content }| Message {
                role: tokenizer.shield(role),
                content: tokenizer.shield(content),
            })
            .collect();
        let text = self.render(&shielded, true, now)?;
        let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        let text = bos.and_then(|_| text.strip_prefix(&self.bos)).unwrap_or(&text);
        let mut ids = Vec::from_iter(bos);
        ids.extend(tokenizer.encode(text, false, true));
        Ok(ids)
    }

    /// The text of a conversation; with `add_generation_prompt` the assistant's turn is opened.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        now: SystemTime,
    ) -> Result<String, ChatError> {
        let messages: Vec<Value> = messages
            .iter()
            .map(|Message { role, content }| context! { role => role.as_str(), content => content.as_str() })
            .collect();
        let context = context! {
            messages => messages,
            add_generation_prompt => add_generation_prompt,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            tools => (),
            documents => (),
            _now => clock::seconds(now),
        };
        let mut text = Bounded(Vec::new());
        let template = self.environment.get_template(NAME).map_err(ChatError::from_render)?;
        template.render_captured_to(context, &mut text).map_err(ChatError::from_render)?;
        // A template writes strings only.
        Ok(String::from_utf8_lossy(&text.0).into_owned())
    }
}

/// Compiles a template where it cannot overflow the caller's stack.
fn compile(source: &str) -> Result<Environment<'static>, ChatError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("template".into()).stack_size(COMPILE_STACK);
        let compiled = thread
            .spawn_scoped(scope, || environment(source))
            .map_err(|source| ChatError::Thread { source })?
            .join();
        compiled.unwrap_or_else(|panic| resume_unwind(panic)).map_err(ChatError::from_syntax)
    })
}

fn environment(source: &str) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    // minijinja counts none among the iterables; Python does not.
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Refusal(message)))
    });
    environment.add_function("strftime_now", |state: &State, format: String| {
        let now = state.lookup("_now").and_then(|now| i64::try_from(now).ok()).unwrap_or_default();
        clock::strftime(&format, now).map_err(|what| {
            Error::new(ErrorKind::InvalidOperation, format!("strftime_now does not know {what}"))
        })
    });
    environment.add_template_owned(NAME, without_generation(source)?)?;
    Ok(environment)
}

/// `{% generation %}` marks what training looks at: a block that is always there.
fn without_generation(source: &str) -> Result<String, Error> {
    let tag = Regex::new(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})").map_err(|error| {
        Error::new(ErrorKind::SyntaxError, "cannot look for generation tags").with_source(error)
    })?;
    let replaced = tag.replace_all(source, |found: &Captures| {
        let name = if found.get(2).is_some() { "endif" } else { "if true" };
        format!("{}{name}{}", &found[1], &found[3])
    });
    Ok(replaced.into_owned())
}

/// Takes [`MAX_TEXT`] bytes.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_TEXT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
