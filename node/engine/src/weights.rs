//! The tensors of a model file: mapped into memory, or packed for speed and dropped from the map.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, UncheckedAdvice};
use shard_kernels::{Matrix, MatrixError, WeightType};

use crate::config::{ConfigError, ModelConfig};
use crate::gguf::{GgmlType, Gguf, GgufError, TensorInfo};
use crate::memory;

/// How weights are held in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// Packed where the type has a packed layout and the memory at hand allows, else mapped.
    #[default]
    Auto,
    /// Kernels read the memory map: loads at once, shares pages with other processes.
    Map,
    /// Interleaved copies, of the size of the file; its pages are dropped tensor by tensor.
    Packed,
}

/// Why a model was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The header is not sound.
    #[error("cannot read the header of {path}: {source}", path = path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// Why.
        source: GgufError,
    },
    /// The header does not describe a model that the engine knows.
    #[error("cannot use {path}: {source}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ConfigError,
    },
    /// The system refused to map the file.
    #[error("cannot map {path} into memory: {source}", path = path.display())]
    Map {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Layers that the file does not have.
    #[error("layers {start}-{end} were asked for, but the file has {held_start}-{held_end}")]
    Layers {
        /// First layer asked for.
        start: usize,
        /// End of the layers asked for, exclusive.
        end: usize,
        /// First layer of the file.
        held_start: usize,
        /// End of the layers of the file, exclusive.
        held_end: usize,
    },
    /// The file is not the one whose header was read.
    #[error("tensor {name:?} is not in the file any more: it was changed while it was opened")]
    Changed {
        /// The tensor.
        name: String,
    },
    /// A tensor type without kernels.
    #[error("tensor {name:?} is of type {ty}: the engine has no kernels for it")]
    Type {
        /// The tensor.
        name: String,
        /// Its type.
        ty: &'static str,
    },
    /// A tensor whose bytes do not make a matrix.
    #[error("tensor {name:?} cannot be used: {source}")]
    Matrix {
        /// The tensor.
        name: String,
        /// Why.
        source: MatrixError,
    },
    /// A divisor of rope frequencies that is not above zero and finite.
    #[error("rope_freqs.weight has the value {value} at {index}: divisors are finite and above zero")]
    RopeDivisor {
        /// Its place.
        index: usize,
        /// The value.
        value: f32,
    },
    /// The device cannot be used.
    #[cfg(feature = "candle")]
    #[error("cannot open the device {device}: {source}")]
    Device {
        /// The one asked for.
        device: crate::Device,
        /// Why.
        source: candle_core::Error,
    },
    /// The device has no room, or failed.
    #[cfg(feature = "candle")]
    #[error("cannot copy tensor {name:?} to the device: {source}")]
    Upload {
        /// The tensor.
        name: String,
        /// Why.
        source: candle_core::Error,
    },
    /// The device does not compute what it was given.
    #[cfg(feature = "candle")]
    #[error("the device {device} cannot compute the model: {reason}")]
    Trial {
        /// The one asked for.
        device: crate::Device,
        /// The device's words.
        reason: String,
    },
}

/// One part of a model: its header and its bytes.
struct Part {
    gguf: Gguf,
    map: Arc<Mmap>,
}

/// The file (or files) of a model, mapped.
pub(crate) struct ModelFile {
    path: PathBuf,
    parts: Vec<Part>,
}

impl ModelFile {
    pub(crate) fn open(path: &Path) -> Result<Self, LoadError> {
        let part = Part::open(path)?;
        Ok(Self { path: path.to_owned(), parts: vec![part] })
    }

    pub(crate) fn config(&self) -> Result<ModelConfig, LoadError> {
        let headers: Vec<Gguf> = self.parts.iter().map(|part| part.gguf.clone()).collect();
        ModelConfig::read(&headers).map_err(|source| LoadError::Config { path: self.path.clone(), source })
    }

    /// A matrix over the mapped bytes.
    pub(crate) fn matrix(&self, name: &str) -> Result<Weight, LoadError> {
        let (part, tensor) = self.find(name).ok_or_else(|| LoadError::Changed { name: name.to_owned() })?;
        let ty = weight_type(tensor.ty)
            .ok_or_else(|| LoadError::Type { name: name.to_owned(), ty: tensor.ty.name() })?;
        let (cols, rows) = match tensor.dims[..] {
            [cols, rows] => (cols as usize, rows as usize),
            _ => return Err(LoadError::Changed { name: name.to_owned() }),
        };
        let bytes = part.bytes(tensor)?;
        let matrix = Matrix::raw(ty, rows, cols, bytes)
            .map_err(|source| LoadError::Matrix { name: name.to_owned(), source })?;
        // SAFETY: `Weight` keeps the map alive as long as the matrix, never moves it apart, and lends it out only for
        // its own lifetime.
        #[allow(unsafe_code)]
        let matrix = unsafe { std::mem::transmute::<Matrix<'_>, Matrix<'static>>(matrix) };
        let range = (tensor.offset as usize, tensor.bytes as usize);
        Ok(Weight { ty: tensor.ty, matrix, source: Some((Arc::clone(&part.map), range)) })
    }

    /// A vector of f32; empty where there is none.
    pub(crate) fn vector(&self, name: &str) -> Result<Vec<f32>, LoadError> {
        let Some((part, tensor)) = self.find(name) else { return Ok(Vec::new()) };
        let (values, _) = part.bytes(tensor)?.as_chunks::<4>();
        Ok(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
    }

    fn find(&self, name: &str) -> Option<(&Part, &TensorInfo)> {
        self.parts.iter().find_map(|part| part.gguf.tensor(name).map(|tensor| (part, tensor)))
    }
}

impl Part {
    fn open(path: &Path) -> Result<Self, LoadError> {
        let gguf = Gguf::open(path).map_err(|source| LoadError::Header { path: path.to_owned(), source })?;
        let failed = |source| LoadError::Map { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        // SAFETY: the map is read only. Model files are written under another name and renamed, never changed in
        // place; one that is cut short by force while it is mapped ends the process by a signal, as with any program.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        Ok(Self { gguf, map: Arc::new(map) })
    }

    fn bytes(&self, tensor: &TensorInfo) -> Result<&[u8], LoadError> {
        let start = tensor.offset as usize;
        let range = start..start + tensor.bytes as usize;
        self.map.get(range).ok_or_else(|| LoadError::Changed { name: tensor.name.clone() })
    }
}

/// The kernels' name of a tensor's type; `None` where they do not have it.
fn weight_type(ty: GgmlType) -> Option<WeightType> {
    Some(match ty {
        GgmlType::F32 => WeightType::F32,
        GgmlType::F16 => WeightType::F16,
        GgmlType::Bf16 => WeightType::Bf16,
        GgmlType::Q4_0 => WeightType::Q4_0,
        GgmlType::Q8_0 => WeightType::Q8_0,
        GgmlType::Q4K => WeightType::Q4K,
        GgmlType::Q5K => WeightType::Q5K,
        GgmlType::Q6K => WeightType::Q6K,
        GgmlType::Q4_1 => WeightType::Q4_1,
        GgmlType::Q5_0 => WeightType::Q5_0,
        GgmlType::Q5_1 => WeightType::Q5_1,
        GgmlType::Q2K => WeightType::Q2K,
        GgmlType::Q3K => WeightType::Q3K,
        _ => return None,
    })
}

/// A matrix, and the map that it reads.
#[derive(Debug)]
pub(crate) struct Weight {
    ty: GgmlType,
    matrix: Matrix<'static>,
    /// The map with the offset and length of the matrix in it; `None` where the matrix has memory of its own.
    source: Option<(Arc<Mmap>, (usize, usize))>,
}

impl Weight {
    pub(crate) fn matrix(&self) -> &Matrix<'_> {
        &self.matrix
    }

    /// Of the tensor in the file.
    pub(crate) fn bytes(&self) -> u64 {
        let matrix = &self.matrix;
        matrix.weight_type().row_bytes(matrix.cols()).map_or(0, |row| (row * matrix.rows()) as u64)
    }

    /// There are vector kernels for its type.
    pub(crate) fn is_fast(&self) -> bool {
        self.matrix.weight_type().is_fast()
    }

    /// ggml's name of its type.
    pub(crate) fn ty(&self) -> GgmlType {
        self.ty
    }

    /// Its bytes in the file; `None` where it is packed.
    #[cfg(feature = "candle")]
    pub(crate) fn mapped(&self) -> Option<&[u8]> {
        let (map, (offset, len)) = self.source.as_ref()?;
        map.get(*offset..offset + len)
    }

    pub(crate) fn is_packed(&self) -> bool {
        self.source.is_none()
    }

    /// Packs the matrix where its type can be, and drops its pages of the map.
    pub(crate) fn pack(&mut self) {
        let Some(packed) = self.matrix.pack() else { return };
        self.matrix = packed;
        if let Some((map, (offset, len))) = self.source.take() {
            // SAFETY: dropped pages of a shared, read-only file map come back from the file when they are read again.
            #[allow(unsafe_code)]
            let dropped = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len) };
            // Where the system does not do it, the pages stay until memory is short: slower to free, not wrong.
            drop(dropped);
        }
    }
}

impl Weights {
    /// Whether to pack `bytes` of weights that can be.
    pub(crate) fn pack(self, bytes: u64) -> bool {
        match self {
            Self::Map => false,
            Self::Packed => true,
            // A tenth is left for caches and scratch; a system that does not tell has room.
            Self::Auto => memory::available().is_none_or(|available| bytes <= available / 10 * 9),
        }
    }
}
