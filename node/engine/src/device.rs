//! Where a shard is computed: on this machine's processor by our own kernels, or on a GPU through candle.
//!
//! ```text
//! --device ─▶ Device ─┬─ cpu ─────────▶ ShardModel: kernels of our own, the same bits in every batch
//!                     └─ cuda, metal ─▶ DeviceModel: model ─▶ weight, block ─▶ cache
//! ```

#[cfg(feature = "candle")]
mod block;
#[cfg(feature = "candle")]
mod cache;
#[cfg(feature = "candle")]
mod model;
#[cfg(feature = "candle")]
mod weight;

use std::fmt;
use std::str::FromStr;

#[cfg(feature = "candle")]
pub(crate) use cache::Cache;
#[cfg(feature = "candle")]
pub use model::DeviceModel;

/// What computes a shard. A build has only what its features name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor: [`crate::ShardModel`]. As a `DeviceModel`'s it is candle's own CPU backend, which tests use.
    #[default]
    Cpu,
    /// The CUDA device of this number; feature `cuda`.
    #[cfg(feature = "candle")]
    Cuda(usize),
    /// The default Metal device; feature `metal`.
    #[cfg(feature = "candle")]
    Metal,
}

/// Why a text names no device, or one that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// A device that this build leaves out.
    #[error(
        "this build has no support for {feature}: build it with `cargo build --release --features {feature}`"
    )]
    NotBuilt {
        /// The feature to build with.
        feature: &'static str,
    },
    /// A device that is not there, or that somebody else holds.
    #[cfg(feature = "candle")]
    #[error("cannot open the device {device}: {reason}")]
    Closed {
        /// The one asked for.
        device: Device,
        /// The device's words.
        reason: String,
    },
    /// Anything else.
    #[error("expected cpu, cuda, cuda:N (N counts from 0) or metal")]
    Unknown,
}

impl Device {
    /// Opens the device and closes it again: whether it can be used, before a model is at hand.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn check(self) -> Result<(), DeviceError> {
        match self {
            Self::Cpu => Ok(()),
            #[cfg(feature = "candle")]
            device => model::open(device)
                .map(drop)
                .map_err(|error| DeviceError::Closed { device, reason: error.to_string() }),
        }
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let (kind, number) = match text.split_once(':') {
            Some((kind, number)) => (kind, Some(number.parse().map_err(|_| DeviceError::Unknown)?)),
            None => (text, None::<usize>),
        };
        match (kind, number) {
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", _) if !cfg!(feature = "cuda") => Err(DeviceError::NotBuilt { feature: "cuda" }),
            ("metal", None) if !cfg!(feature = "metal") => Err(DeviceError::NotBuilt { feature: "metal" }),
            #[cfg(feature = "candle")]
            ("cuda", number) => Ok(Self::Cuda(number.unwrap_or(0))),
            #[cfg(feature = "candle")]
            ("metal", None) => Ok(Self::Metal),
            _ => Err(DeviceError::Unknown),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            #[cfg(feature = "candle")]
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            #[cfg(feature = "candle")]
            Self::Metal => f.write_str("metal"),
        }
    }
}

/// With `RUST_BACKTRACE` set candle's errors would print a page where a line says what is wrong.
#[cfg(feature = "candle")]
fn without_backtrace(error: candle_core::Error) -> candle_core::Error {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => without_backtrace(*inner),
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_or_refused_with_what_would_be_right() {
        assert_eq!("cpu".parse(), Ok(Device::Cpu));
        for text in ["", "gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:x", "metal:0", "CUDA"] {
            assert_eq!(text.parse::<Device>(), Err(DeviceError::Unknown), "{text:?}");
        }
        for (text, feature, built) in [
            ("cuda", "cuda", cfg!(feature = "cuda")),
            ("cuda:3", "cuda", cfg!(feature = "cuda")),
            ("metal", "metal", cfg!(feature = "metal")),
        ] {
            match text.parse::<Device>() {
                Ok(device) => {
                    assert!(built, "{text}");
                    assert_eq!(device.to_string().parse(), Ok(device));
                }
                Err(error) => {
                    assert_eq!((&error, built), (&DeviceError::NotBuilt { feature }, false), "{text}");
                    assert!(error.to_string().contains(&format!("--features {feature}")), "{error}");
                }
            }
        }
    }
}
