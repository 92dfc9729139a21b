//! The model and where it comes from.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reference::KeyRef;
use super::rules;

/// The model.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ModelSpec {
    /// What people call the model.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[^\\\\s\\\\x00-\\\\x1f]([^\\\\x00-\\\\x1f]*[^\\\\s\\\\x00-\\\\x1f])?$')").message("model.name must be one line of text, without spaces at its ends"))]
    pub name: String,
    /// Layers of the model; read from it where this is not set. A value that differs from the model's is refused by the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub total_layers: Option<u32>,
    /// Where the model comes from: exactly one.
    pub source: SourceSpec,
}

/// Where the model comes from. Of a model in parts, name the first.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.http), has(self.huggingFace), has(self.persistentVolumeClaim), has(self.image), has(self.builtin)].filter(s, s).size() == 1")
    .message("model.source needs exactly one of http, huggingFace, persistentVolumeClaim, image and builtin"))]
pub struct SourceSpec {
    /// A GGUF file at an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSource>,
    /// A file of a repository at a model hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hugging_face: Option<HuggingFaceSource>,
    /// A file on a volume that is there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<PvcSource>,
    /// A file in an OCI image, mounted as a volume. Needs Kubernetes 1.35, or the feature gate ImageVolume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSource>,
    /// A small model that is in the node's image, to try things.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<Builtin>,
}

/// A GGUF file at an address.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpSource {
    /// http(s)://HOST/…/NAME.gguf, without user and password.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/?#\\\\s]+/')").message("url must be http://HOST/…/NAME.gguf or https://HOST/…/NAME.gguf"))]
    #[x_kube(validation = Rule::new("!self.matches('^[a-z]+://[^/?#]*@')").message("url must not hold a user or password: put a token into a Secret and name it in authSecretRef"))]
    #[x_kube(validation = Rule::new("isURL(self)").message("url cannot be read as one: look at its port and at what follows each '%'"))]
    #[x_kube(validation = Rule::new("!self.matches('\\\\s') && self.matches('^[^?#]*[^/?#]([?#].*)?$')").message("url must end in the name of a file, without spaces"))]
    pub url: String,
    /// SHA-256 that the file must have; of a model in parts, of all parts one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-fA-F]{64}$')").message("sha256 must be 64 hexadecimal digits, as sha256sum prints them"))]
    pub sha256: Option<String>,
    /// Entry of a Secret with the bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_secret_ref: Option<KeyRef>,
    /// Entry of a ConfigMap with certificates, PEM, to trust beside the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_ref: Option<KeyRef>,
}

/// A file of a repository at a model hub.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HuggingFaceSource {
    /// owner/name
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$')").message("repo must be owner/name"))]
    pub repo: String,
    /// Path of the file in the repository.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = rules::relative("file", "in the repository"))]
    #[x_kube(validation = Rule::new("!self.matches('[\\\\x00-\\\\x1f\\\\\\\\?#%]')").message("file must be a path as the hub shows it, without ?, #, % and backslashes"))]
    pub file: String,
    /// Branch, tag or commit; main where it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9._/-]+$') && !self.split('/').exists(p, p in ['', '.', '..'])").message("revision must be a branch, tag or commit: letters, digits, '.', '_', '-' and '/'"))]
    pub revision: Option<String>,
    /// Where the hub is, for mirrors; huggingface.co where it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("isURL(self)").message("endpoint cannot be read as a URL: look at its port and at what follows each '%'"))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/?#@\\\\s]+(/[^?#\\\\s]*)?$')").message("endpoint must be http://HOST or https://HOST, without user, password and query"))]
    pub endpoint: Option<String>,
    /// Entry of a Secret with the hub's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<KeyRef>,
}

/// A file on a volume that is there already.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PvcSource {
    /// The claim, in the same namespace. It is mounted to read only.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object("claimName", "PersistentVolumeClaim"))]
    pub claim_name: String,
    /// Path of the file on it.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = rules::relative("path", "on the volume"))]
    pub path: String,
}

/// A file in an OCI image.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ImageSource {
    /// The image.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = rules::image("reference"))]
    pub reference: String,
    /// Path of the file in it.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = rules::relative("path", "in the image"))]
    pub path: String,
}

/// A model that is in the node's image.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Builtin {
    /// Which one.
    #[serde(default)]
    pub name: BuiltinName,
}

/// The models that are in the node's image.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum BuiltinName {
    #[default]
    #[allow(missing_docs)]
    TinyTales,
}
