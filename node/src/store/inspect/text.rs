use std::fmt::{self, Display, Formatter};

use super::{GgufReport, ManifestReport, Report};

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model(report) => gguf(f, "model", report),
            Self::Shard(report) => gguf(f, "shard", report),
            Self::Tokenizer(report) => gguf(f, "tokenizer", report),
            Self::Other(report) => gguf(f, "other", report),
            Self::Manifest(report) => manifest(f, report),
        }
    }
}

fn line(f: &mut Formatter<'_>, name: &str, value: impl Display) -> fmt::Result {
    writeln!(f, "{name:<12} {value}")
}

fn gguf(f: &mut Formatter<'_>, kind: &str, report: &GgufReport) -> fmt::Result {
    line(f, "kind", kind)?;
    for path in &report.paths {
        line(f, "file", path.display())?;
    }
    line(f, "bytes", report.file_bytes)?;
    line(f, "format", format_args!("GGUF version {}", report.gguf_version))?;
    if let Some(shard) = &report.shard {
        line(f, "shard", format_args!("{} of {} (counted from 0)", shard.shard_id, shard.shard_count))?;
        line(f, "model", &shard.model_sha256)?;
    }
    if let Some(model) = &report.model {
        line(f, "name", &model.name)?;
        line(f, "layers", format_args!("{} of {}", model.layers, model.total_layers))?;
        line(
            f,
            "width",
            format_args!("{}, feed-forward {}", model.embedding_length, model.feed_forward_length),
        )?;
        line(
            f,
            "heads",
            format_args!(
                "{}, key-value {}, of {} values",
                model.head_count, model.head_count_kv, model.head_dim
            ),
        )?;
        line(f, "context", model.context_length)?;
        line(f, "vocabulary", model.vocab_size)?;
        let head = match model.tied_head {
            None => "not in this file",
            Some(true) => "tied to the embedding",
            Some(false) => "its own",
        };
        line(f, "head", head)?;
        line(f, "kv cache", format_args!("{} bytes per token (f16)", model.kv_bytes_per_token))?;
    }
    line(f, "parameters", report.parameters)?;
    for (name, sum) in &report.types {
        line(f, "weights", format_args!("{name}: {} tensors, {} bytes", sum.tensors, sum.bytes))?;
    }
    writeln!(f, "metadata")?;
    for (key, value) in &report.metadata {
        writeln!(f, "  {key} = {value}")?;
    }
    if let Some(tensors) = &report.tensors {
        writeln!(f, "tensors")?;
        for tensor in tensors {
            writeln!(
                f,
                "  {:<32} {:<7} {:?} at {}, {} bytes",
                tensor.name, tensor.ty, tensor.dims, tensor.offset, tensor.bytes
            )?;
        }
    }
    match &report.problem {
        Some(problem) => line(f, "problem", problem),
        None => Ok(()),
    }
}

fn manifest(f: &mut Formatter<'_>, report: &ManifestReport) -> fmt::Result {
    line(f, "kind", "manifest")?;
    line(f, "file", report.path.display())?;
    line(f, "manifest", &report.manifest_sha256)?;
    line(f, "model", format_args!("{}, {} bytes", report.model_sha256, report.model_bytes))?;
    line(f, "layers", report.total_layers)?;
    for file in &report.files {
        let layers = if file.layers.is_empty() { String::new() } else { format!("layers {}, ", file.layers) };
        line(
            f,
            &file.name,
            format_args!(
                "{layers}{} bytes, {} tensors, {} pieces, {}",
                file.size, file.tensor_count, file.pieces, file.sha256
            ),
        )?;
        for name in file.tensors.iter().flatten() {
            writeln!(f, "  {name}")?;
        }
    }
    Ok(())
}
