use super::{ConfigError, finite_positive, positive};
use crate::gguf::Metadata;

/// Rotary positions: adjacent pairs of the first `dims` values of a head turn by position × frequency.
///
/// Frequency of pair `i`: `base^(-2i / dims) / linear_factor`, divided by the pair's factor where there are factors.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Values of a head that turn: even, at most the head's width.
    pub dims: u32,
    /// Finite, above zero.
    pub base: f32,
    /// Positions are divided by it; 1 where there is no linear scaling.
    pub linear_factor: f32,
    /// Divisors by pair. A file's `rope_freqs.weight` (F32, `dims / 2` values) takes the place of these.
    pub factors: RopeFactors,
}

/// Divisors of rope frequencies by metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeFactors {
    /// None.
    None,
    /// Llama 3.1's rule: low frequencies are divided by `factor`, high ones are not, those between are blended.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f32,
        /// Wavelengths above `original_context / low_freq_factor` are divided by `factor`.
        low_freq_factor: f32,
        /// Wavelengths below `original_context / high_freq_factor` stay; above `low_freq_factor`.
        high_freq_factor: f32,
        /// Context length before the extension.
        original_context: u32,
    },
}

pub(super) fn read(metadata: &Metadata, head_dim: u32) -> Result<Rope, ConfigError> {
    let dims_key = "llama.rope.dimension_count";
    let dims = positive(metadata, dims_key, Some(head_dim))?;
    if dims > head_dim || !dims.is_multiple_of(2) {
        let must = format!("even and at most the width of a head, which is {head_dim}");
        return Err(ConfigError::value(dims_key, &dims, must));
    }
    let mut rope = Rope {
        dims,
        base: finite_positive(metadata, "llama.rope.freq_base", Some(10_000.0))?,
        linear_factor: 1.0,
        factors: RopeFactors::None,
    };
    let type_key = "llama.rope.scaling.type";
    let factor_key = "llama.rope.scaling.factor";
    match metadata.get::<&str>(type_key)? {
        Some("none") => {}
        // Files of 2023 have no type, only `scale_linear`.
        None => rope.linear_factor = finite_positive(metadata, "llama.rope.scale_linear", Some(1.0))?,
        Some("linear") => rope.linear_factor = finite_positive(metadata, factor_key, None)?,
        Some("llama3") => {
            let (low, high) = ("llama.rope.scaling.low_freq_factor", "llama.rope.scaling.high_freq_factor");
            let low_freq_factor = finite_positive(metadata, low, Some(1.0))?;
            let high_freq_factor = finite_positive(metadata, high, Some(4.0))?;
            if high_freq_factor <= low_freq_factor {
                let must = format!("above {low}, which is {low_freq_factor}");
                return Err(ConfigError::value(high, &high_freq_factor, must));
            }
            rope.factors = RopeFactors::Llama3 {
                factor: finite_positive(metadata, factor_key, None)?,
                low_freq_factor,
                high_freq_factor,
                original_context: positive(metadata, "llama.rope.scaling.original_context_length", None)?,
            };
        }
        Some(other) => {
            let must = "none, linear or llama3 (others are not supported)";
            return Err(ConfigError::value(type_key, &format!("{other:?}"), must));
        }
    }
    Ok(rope)
}
