//! Arguments of whoever gets a model from somewhere.

use std::path::PathBuf;

use clap::Args;
use shard_wire::contract as c;
use shard_wire::layers::{MAX_LAYERS, MAX_SHARDS, ranges};

use crate::config::values::sha256;
use crate::config::{ConfigError, OriginConfig, Output, SourceConfig};
use crate::store::source::{Access, Patience, Source, Token};
use crate::store::split::Shards;

/// Shards of an origin's model where the user names none; as many as `up` starts.
const ORIGIN_SHARDS: usize = 4;

/// How a source is reached.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Source of the model")]
pub struct SourceArgs {
    /// SHA-256 that the model must have, 64 hexadecimal digits; of a model in parts, of all parts one after the other
    #[arg(long = c::SHA256.flag, env = c::SHA256.env, value_name = "HEX", value_parser = sha256)]
    sha256: Option<String>,
    /// File with the bearer token for the source [default: LLAMA_HF_TOKEN for hf:, LLAMA_MODEL_TOKEN for URLs]
    #[arg(long = c::TOKEN_FILE.flag, env = c::TOKEN_FILE.env, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// File with certificates to trust beside the public authorities, PEM
    #[arg(long = c::CA_FILE.flag, env = c::CA_FILE.env, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Where hf: is, for mirrors
    #[arg(long = c::HF_ENDPOINT.flag, env = c::HF_ENDPOINT.env, default_value = c::HF_ENDPOINT.default, value_name = "URL")]
    hf_endpoint: String,
}

impl SourceArgs {
    fn resolve(self, source: Source) -> SourceConfig {
        let variable = match source {
            Source::Hub { .. } => c::HF_TOKEN,
            Source::File(_) | Source::Url(_) => c::MODEL_TOKEN,
        };
        let token = std::env::var(variable).ok().and_then(|text| Token::new(&text));
        let access = Access {
            token_file: self.token_file,
            token,
            ca_file: self.ca_file,
            patience: Patience::default(),
        };
        SourceConfig { source, sha256: self.sha256, access, hub: self.hf_endpoint }
    }
}

/// What a bootstrap gives to nodes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Source of the model")]
pub(super) struct OriginArgs {
    /// Model to give to nodes: a GGUF file, an http(s) URL, or hf:OWNER/NAME/FILE.gguf[@REVISION]
    #[arg(long = c::MODEL_SOURCE.flag, env = c::MODEL_SOURCE.env, value_name = "SOURCE")]
    model_source: Option<Source>,
    /// Shards to cut it into [default: as many as --layers names, else 4]
    #[arg(long = c::ORIGIN_SHARDS.flag, env = c::ORIGIN_SHARDS.env, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MAX_SHARDS as i64))]
    shards: Option<u16>,
    /// First layer of every shard, such as 0,9,16 [default: sizes as equal as can be, the larger ones first]
    #[arg(long = c::LAYERS.flag, env = c::LAYERS.env, value_name = "LAYERS", value_delimiter = ',')]
    layers: Vec<u32>,
    /// Folder for a fetched model; without --model-source, of a model that is split already [default: models_cache/shards with --model-source]
    #[arg(long = c::SERVER_SHARDS_DIR.flag, env = c::SERVER_SHARDS_DIR.env, value_name = "DIR")]
    shards_dir: Option<PathBuf>,
    #[command(flatten)]
    source: SourceArgs,
}

impl OriginArgs {
    pub(super) fn resolve(self) -> Result<Option<OriginConfig>, ConfigError> {
        let Some(source) = self.model_source else { return Ok(self.shards_dir.map(OriginConfig::Split)) };
        let shards = shards(self.shards, self.layers)?.unwrap_or(Shards::Count(ORIGIN_SHARDS));
        let dir = self.shards_dir.unwrap_or_else(|| c::SHARDS_DIR.default.into());
        Ok(Some(OriginConfig::Model { source: Box::new(self.source.resolve(source)), shards, dir }))
    }
}

/// How to cut; `None` where the user does not say.
fn shards(count: Option<u16>, starts: Vec<u32>) -> Result<Option<Shards>, ConfigError> {
    match (count, starts.len()) {
        (None, 0) => Ok(None),
        (Some(count), 0) => Ok(Some(Shards::Count(count.into()))),
        (Some(shards), starts) if usize::from(shards) != starts => {
            Err(ConfigError::ShardsAndLayers { shards, starts })
        }
        _ => match ranges(&starts, MAX_LAYERS) {
            Ok(_) => Ok(Some(Shards::Starts(starts))),
            Err(source) => Err(ConfigError::Layers { starts, source }),
        },
    }
}

/// Get a model from a file, an http(s) URL or a model hub, and cut it into shards.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  shardctl fetch https://host/model.gguf --sha256 8d7fd68a… --shards 4
  shardctl fetch hf:owner/name/model-Q4_K_M.gguf@main --out models_cache/shards --layers 0,9,16
  shardctl fetch https://host/model-00001-of-00003.gguf      all three parts; without --shards they are not cut
  LLAMA_HF_TOKEN=hf_… shardctl fetch hf:owner/gated/model.gguf
  HTTPS_PROXY=http://proxy:3128 shardctl fetch https://host/model.gguf --ca-file company.pem

What has arrived is kept as MODEL.gguf.part: after Ctrl-C or a broken connection the same command goes on from there.
Proxies are those of HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY. A token is never sent to another host by a redirect.
Cut, the model takes twice its size; `server --model-source` serves the shards without writing them.")]
pub struct FetchArgs {
    /// A GGUF file, an http(s) URL, or hf:OWNER/NAME/FILE.gguf[@REVISION]; of a model in parts the first
    #[arg(value_name = "SOURCE")]
    source: Source,
    /// Folder for the model and its shards
    #[arg(long = c::OUT.flag, env = c::OUT.env, default_value = c::OUT.default, value_name = "DIR")]
    out: PathBuf,
    /// Shards to cut it into [default: it is not cut]
    #[arg(long = c::FETCH_SHARDS.flag, env = c::FETCH_SHARDS.env, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MAX_SHARDS as i64))]
    shards: Option<u16>,
    /// First layer of every shard, such as 0,9,16 [default: sizes as equal as can be, the larger ones first]
    #[arg(long = c::LAYERS.flag, env = c::LAYERS.env, value_name = "LAYERS", value_delimiter = ',')]
    layers: Vec<u32>,
    #[command(flatten)]
    access: SourceArgs,
    /// Replace the shards of another model
    #[arg(long = c::FORCE.flag, env = c::FORCE.env)]
    force: bool,
    /// Form of what is printed
    #[arg(long = c::OUTPUT.flag, env = c::OUTPUT.env, default_value = c::OUTPUT.default)]
    output: Output,
}

/// `shardctl fetch`.
#[derive(Clone, Debug)]
pub struct FetchConfig {
    /// Where the model comes from.
    pub source: SourceConfig,
    /// The folder.
    pub out: PathBuf,
    /// How to cut it, if at all.
    pub shards: Option<Shards>,
    /// Replace the shards of another model.
    pub force: bool,
    /// Form of what is printed.
    pub output: Output,
}

impl FetchArgs {
    /// Everything resolved.
    ///
    /// # Errors
    /// Where flags contradict one another.
    pub fn resolve(self) -> Result<FetchConfig, ConfigError> {
        Ok(FetchConfig {
            source: self.access.resolve(self.source),
            out: self.out,
            shards: shards(self.shards, self.layers)?,
            force: self.force,
            output: self.output,
        })
    }
}
