//! The one source of the model.

use super::SpecError;
use crate::cluster::Source;
use crate::crd::{BuiltinName, SourceSpec};

/// Where the node image has its small model.
const TINY_TALES: &str = "/usr/share/shardcluster/models/tiny-tales-f16.gguf";

/// The one that is set.
pub(super) fn source(spec: &SourceSpec) -> Result<Source, SpecError> {
    let http = spec.http.as_ref().map(|http| Source::Http {
        url: http.url.clone(),
        sha256: http.sha256.as_ref().map(|sha256| sha256.to_ascii_lowercase()),
        token: http.auth_secret_ref.clone(),
        ca: http.ca_bundle_ref.clone(),
    });
    let hub = spec.hugging_face.as_ref().map(|hub| Source::Hub {
        // The revision is always named: a file's name may hold an '@', which would be taken for one.
        reference: format!("hf:{}/{}@{}", hub.repo, hub.file, hub.revision.as_deref().unwrap_or("main")),
        endpoint: hub.endpoint.clone(),
        token: hub.token_secret_ref.clone(),
    });
    let claim = spec
        .persistent_volume_claim
        .as_ref()
        .map(|claim| Source::Claim { name: claim.claim_name.clone(), path: claim.path.clone() });
    let image = spec
        .image
        .as_ref()
        .map(|image| Source::Image { reference: image.reference.clone(), path: image.path.clone() });
    let builtin = spec.builtin.map(|builtin| Source::Builtin {
        path: match builtin.name {
            BuiltinName::TinyTales => TINY_TALES,
        },
    });
    let mut set: Vec<Source> = [http, hub, claim, image, builtin].into_iter().flatten().collect();
    match (set.pop(), set.len()) {
        (Some(source), 0) => Ok(source),
        (last, others) => Err(SpecError::Source { found: others + usize::from(last.is_some()) }),
    }
}
