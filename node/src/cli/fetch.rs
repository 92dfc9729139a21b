//! `shardctl fetch`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::split::{self, with_progress};
use super::{Ending, Failure};
use crate::config::Output;
use crate::config::args::FetchConfig;
use crate::shutdown::Shutdown;
use crate::store::model::Model;
use crate::store::source::{Class, Event, Obtained, obtain};
use crate::store::split::{Split, SplitRequest, split_hashed};

/// Gets the model, cuts it if that is asked for, and says what is there.
pub(super) async fn run(config: FetchConfig, mut shutdown: Shutdown) -> Result<Ending, Failure> {
    let mut told = Teller::new();
    let mut on_event = |event: Event<'_>| told.tell(&event);
    let obtained = tokio::select! {
        obtained = obtain(&config.source, &config.out, &mut on_event) => Some(obtained),
        () = shutdown.begun() => None,
    };
    told.bar.finish_and_clear();
    let Some(obtained) = obtained else {
        if told.bytes > 0 {
            let bytes = HumanBytes(told.bytes);
            told.say(&format!("stopped: {bytes} are kept, the same command goes on from there"));
        }
        return Ok(Ending::Interrupted);
    };
    let obtained = obtained.map_err(|error| match (told.bytes, error.class()) {
        (0, _) | (_, Class::Lasting) => Failure::from(error),
        (bytes, _) => {
            format!("{error}\n{} are kept, the same command goes on from there", HumanBytes(bytes)).into()
        }
    })?;
    let cutting = tokio::task::spawn_blocking({
        let (config, obtained) = (config.clone(), obtained.clone());
        move || cut(&config, &obtained)
    });
    let (model, cut) = tokio::select! {
        done = cutting => done??,
        () = shutdown.begun() => return Ok(Ending::Interrupted),
    };
    let text = match config.output {
        Output::Text => text(&config, &model, &obtained, cut.as_ref()),
        Output::Json => format!("{}\n", json(&config, &model, &obtained, cut.as_ref())),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Ending::Done)
}

/// Reads the model's headers, and writes its shards where the user wants them.
fn cut(config: &FetchConfig, obtained: &Obtained) -> Result<(Model, Option<Split>), Failure> {
    let model = Model::open(&obtained.path)?;
    let Some(shards) = config.shards.clone() else { return Ok((model, None)) };
    let request = SplitRequest { model: &obtained.path, out: &config.out, shards, force: config.force };
    let split = with_progress(|progress| split_hashed(&request, obtained.sha256.as_deref(), progress))?;
    Ok((model, Some(split)))
}

/// A bar on a terminal; what happens is told anywhere, on standard error.
struct Teller {
    bar: ProgressBar,
    bytes: u64,
}

impl Teller {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) =
            ProgressStyle::with_template("fetching {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, bytes: 0 }
    }

    fn tell(&mut self, event: &Event<'_>) {
        match event {
            Event::Bytes { done, total } => {
                self.bytes = *done;
                self.bar.set_length(total.unwrap_or(*done));
                self.bar.set_position(*done);
            }
            Event::Resumed { name, bytes } => {
                self.bytes = *bytes;
                self.say(&format!("{name}: {} are there, going on behind them", HumanBytes(*bytes)));
                // What is there was not fetched at this speed.
                self.bar.reset_eta();
            }
            Event::Restarted { name, why } => {
                self.bytes = 0;
                self.say(&format!("{name}: from its beginning, because {why}"));
            }
            Event::Retry { error, after } => {
                self.say(&format!("{error}; trying again in {:.1} s", after.as_secs_f32()));
            }
        }
    }

    fn say(&self, line: &str) {
        if std::io::stderr().is_terminal() {
            self.bar.println(line);
        } else {
            // Nobody reads a standard error that is closed.
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
    }
}

fn paths(model: &Model) -> Vec<&Path> {
    model.paths.iter().map(PathBuf::as_path).collect()
}

fn text(config: &FetchConfig, model: &Model, obtained: &Obtained, cut: Option<&Split>) -> String {
    let how = match obtained.received {
        0 => "already there".to_owned(),
        received => format!("{received} bytes fetched"),
    };
    let mut text = format!("{}, {how}\n", config.source.source);
    for (path, part) in paths(model).iter().zip(&model.parts) {
        text += &format!("  {:<48} {:>15} bytes\n", path.display().to_string(), part.file_bytes);
    }
    match (cut, &obtained.sha256) {
        (Some(split), _) => text += &split::text(&config.out, split),
        (None, Some(sha256)) => text += &format!("model    {sha256}\n"),
        (None, None) => {}
    }
    text
}

fn json(config: &FetchConfig, model: &Model, obtained: &Obtained, cut: Option<&Split>) -> Value {
    json!({
        "source": config.source.source.to_string(),
        "model": paths(model),
        "model_bytes": model.bytes(),
        "model_sha256": cut.map(|split| &split.manifest.model_sha256).or(obtained.sha256.as_ref()),
        "received_bytes": obtained.received,
        "split": cut.map(|split| split::json(&config.out, split)),
    })
}
