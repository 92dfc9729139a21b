//! Weights on the device.

use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Result, Tensor};

use crate::gguf::GgmlType;
use crate::weights::Weight;

/// Some of candle's kernels take blocks of 32 in pairs; rows with one over are expanded.
const TWO_BLOCKS: usize = 64;

/// Copies a matrix to the device: quantised types as they are, floats as f32. (candle multiplies matrices of one type
/// only, and would give products of half precision in half precision: too coarse for logits.)
pub(super) fn upload(weight: &Weight, device: &Device) -> Result<QMatMul> {
    let (rows, cols) = (weight.matrix().rows(), weight.matrix().cols());
    let quantised = quantised_type(weight.ty()).filter(|_| cols.is_multiple_of(TWO_BLOCKS));
    if let (Some(ty), Some(bytes)) = (quantised, weight.mapped()) {
        // The reader of headers checked that tensors are aligned, so that candle may take the bytes for blocks.
        let storage = QStorage::from_data(Cow::Borrowed(bytes), device, ty)?;
        return QMatMul::from_qtensor(QTensor::new(storage, (rows, cols))?);
    }
    let mut values = vec![0.0; rows * cols];
    for (row, values) in values.chunks_exact_mut(cols).enumerate() {
        weight.matrix().dequantize_row(row, values);
    }
    Ok(QMatMul::Tensor(Tensor::from_vec(values, (rows, cols), device)?))
}

/// candle's name of a quantised type.
fn quantised_type(ty: GgmlType) -> Option<GgmlDType> {
    Some(match ty {
        GgmlType::Q4_0 => GgmlDType::Q4_0,
        GgmlType::Q4_1 => GgmlDType::Q4_1,
        GgmlType::Q5_0 => GgmlDType::Q5_0,
        GgmlType::Q5_1 => GgmlDType::Q5_1,
        GgmlType::Q8_0 => GgmlDType::Q8_0,
        GgmlType::Q2K => GgmlDType::Q2K,
        GgmlType::Q3K => GgmlDType::Q3K,
        GgmlType::Q4K => GgmlDType::Q4K,
        GgmlType::Q5K => GgmlDType::Q5K,
        GgmlType::Q6K => GgmlDType::Q6K,
        _ => return None,
    })
}
