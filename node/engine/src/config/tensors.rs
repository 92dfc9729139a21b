use super::{ConfigError, ModelConfig, OUTPUT, OUTPUT_NORM, ROPE_FREQS, TOKEN_EMBD};
use crate::gguf::{GgmlType, Gguf, TensorInfo};

/// What a tensor is for, and so which types it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Multiplied, or looked up by row: any weight type.
    Matrix,
    /// Scales of a norm, or divisors of rope frequencies: F32.
    Vector,
}

/// A tensor that a model has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its name in the file.
    pub name: String,
    /// The length of a row first.
    pub dims: Vec<u64>,
    /// What it is for.
    pub role: Role,
    /// A model may do without it.
    pub optional: bool,
}

impl Expected {
    fn new(name: impl Into<String>, dims: &[u64], role: Role) -> Self {
        Self { name: name.into(), dims: dims.to_vec(), role, optional: false }
    }
}

/// The tensors of `config`'s layers, embedding, norm and head, in the order of the forward pass.
pub fn expected_tensors(config: &ModelConfig) -> impl Iterator<Item = Expected> {
    let width = u64::from(config.embedding_length);
    let vocab = u64::from(config.vocab_size);
    let rope = Expected {
        optional: true,
        ..Expected::new(ROPE_FREQS, &[u64::from(config.rope.dims / 2)], Role::Vector)
    };
    let embedding = Expected::new(TOKEN_EMBD, &[width, vocab], Role::Matrix);
    let head = Expected::new(OUTPUT, &[width, vocab], Role::Matrix);
    let has_embedding = config.has_first_layer() || config.tied_head;
    let norm = Expected::new(OUTPUT_NORM, &[width], Role::Vector);
    let before = has_embedding.then_some(embedding).into_iter().chain([rope]);
    let norm = config.has_last_layer().then_some(norm);
    let head = (config.has_last_layer() && !config.tied_head).then_some(head);
    let layers = config.layers.clone().flat_map(|layer| layer_tensors(config, layer));
    before.chain(layers).chain(norm).chain(head)
}

fn layer_tensors(config: &ModelConfig, layer: u32) -> [Expected; 9] {
    let width = u64::from(config.embedding_length);
    let inner = u64::from(config.feed_forward_length);
    let q = u64::from(config.head_count) * u64::from(config.head_dim);
    let kv = u64::from(config.head_count_kv) * u64::from(config.head_dim);
    let tensor = |part, dims: &[u64], role| Expected::new(format!("blk.{layer}.{part}.weight"), dims, role);
    [
        tensor("attn_norm", &[width], Role::Vector),
        tensor("attn_q", &[width, q], Role::Matrix),
        tensor("attn_k", &[width, kv], Role::Matrix),
        tensor("attn_v", &[width, kv], Role::Matrix),
        tensor("attn_output", &[q, width], Role::Matrix),
        tensor("ffn_norm", &[width], Role::Vector),
        tensor("ffn_gate", &[width, inner], Role::Matrix),
        tensor("ffn_up", &[width, inner], Role::Matrix),
        tensor("ffn_down", &[inner, width], Role::Matrix),
    ]
}

/// All tensors that are needed are there, of the right shape and a known type, and no others.
pub(super) fn check(config: &ModelConfig, parts: &[Gguf]) -> Result<(), ConfigError> {
    let mut known = std::collections::HashSet::new();
    for expected in expected_tensors(config) {
        let mut found = parts.iter().filter_map(|part| part.tensor(&expected.name));
        match (found.next(), found.next()) {
            (Some(tensor), None) => check_tensor(tensor, &expected)?,
            (None, _) if expected.optional => {}
            (None, _) => {
                return Err(ConfigError::MissingTensor {
                    name: expected.name,
                    start: config.layers.start,
                    end: config.layers.end,
                    block_count: config.block_count,
                });
            }
            (Some(_), Some(_)) => {
                return Err(crate::gguf::GgufError::DuplicateTensor { name: expected.name }.into());
            }
        }
        known.insert(expected.name);
    }
    let unknown = |tensor: &&TensorInfo| !known.contains(&tensor.name);
    match parts.iter().flat_map(|part| &part.tensors).find(unknown) {
        Some(tensor) => Err(ConfigError::UnknownTensor { name: tensor.name.clone() }),
        None => Ok(()),
    }
}

fn check_tensor(tensor: &TensorInfo, expected: &Expected) -> Result<(), ConfigError> {
    let TensorInfo { name, dims, ty, .. } = tensor;
    if *dims != expected.dims {
        return Err(ConfigError::Shape {
            name: name.clone(),
            found: dims.clone(),
            expected: expected.dims.clone(),
        });
    }
    let (fits, supported) = match expected.role {
        Role::Vector => (*ty == GgmlType::F32, "F32"),
        Role::Matrix => {
            (is_weight_type(*ty), "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K")
        }
    };
    if !fits {
        return Err(ConfigError::TensorType { name: name.clone(), found: ty.name(), supported });
    }
    Ok(())
}

/// Types that our kernels or candle multiply by.
fn is_weight_type(ty: GgmlType) -> bool {
    use GgmlType as T;
    matches!(
        ty,
        T::F32
            | T::F16
            | T::Bf16
            | T::Q4_0
            | T::Q4_1
            | T::Q5_0
            | T::Q5_1
            | T::Q8_0
            | T::Q2K
            | T::Q3K
            | T::Q4K
            | T::Q5K
            | T::Q6K
    )
}
