use std::collections::HashMap;
use std::fmt;
use std::io::Read;

use super::scan::Scan;
use super::{Field, GgufError};

/// How a tensor's values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "ggml's own names")]
pub enum GgmlType {
    F32,
    F16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Q8K,
    Iq2Xxs,
    Iq2Xs,
    Iq3Xxs,
    Iq1S,
    Iq4Nl,
    Iq3S,
    Iq2S,
    Iq4Xs,
    I8,
    I16,
    I32,
    I64,
    F64,
    Iq1M,
    Bf16,
    Tq1_0,
    Tq2_0,
    Mxfp4,
}

/// Number in the file, name, values in a block, bytes of a block: `ggml.h` and `ggml-common.h`.
pub(super) const TYPES: [(GgmlType, u32, &str, u64, u64); 32] = [
    (GgmlType::F32, 0, "F32", 1, 4),
    (GgmlType::F16, 1, "F16", 1, 2),
    (GgmlType::Q4_0, 2, "Q4_0", 32, 18),
    (GgmlType::Q4_1, 3, "Q4_1", 32, 20),
    (GgmlType::Q5_0, 6, "Q5_0", 32, 22),
    (GgmlType::Q5_1, 7, "Q5_1", 32, 24),
    (GgmlType::Q8_0, 8, "Q8_0", 32, 34),
    (GgmlType::Q8_1, 9, "Q8_1", 32, 36),
    (GgmlType::Q2K, 10, "Q2_K", 256, 84),
    (GgmlType::Q3K, 11, "Q3_K", 256, 110),
    (GgmlType::Q4K, 12, "Q4_K", 256, 144),
    (GgmlType::Q5K, 13, "Q5_K", 256, 176),
    (GgmlType::Q6K, 14, "Q6_K", 256, 210),
    (GgmlType::Q8K, 15, "Q8_K", 256, 292),
    (GgmlType::Iq2Xxs, 16, "IQ2_XXS", 256, 66),
    (GgmlType::Iq2Xs, 17, "IQ2_XS", 256, 74),
    (GgmlType::Iq3Xxs, 18, "IQ3_XXS", 256, 98),
    (GgmlType::Iq1S, 19, "IQ1_S", 256, 50),
    (GgmlType::Iq4Nl, 20, "IQ4_NL", 32, 18),
    (GgmlType::Iq3S, 21, "IQ3_S", 256, 110),
    (GgmlType::Iq2S, 22, "IQ2_S", 256, 82),
    (GgmlType::Iq4Xs, 23, "IQ4_XS", 256, 136),
    (GgmlType::I8, 24, "I8", 1, 1),
    (GgmlType::I16, 25, "I16", 1, 2),
    (GgmlType::I32, 26, "I32", 1, 4),
    (GgmlType::I64, 27, "I64", 1, 8),
    (GgmlType::F64, 28, "F64", 1, 8),
    (GgmlType::Iq1M, 29, "IQ1_M", 256, 56),
    (GgmlType::Bf16, 30, "BF16", 1, 2),
    (GgmlType::Tq1_0, 34, "TQ1_0", 256, 54),
    (GgmlType::Tq2_0, 35, "TQ2_0", 256, 66),
    (GgmlType::Mxfp4, 39, "MXFP4", 32, 17),
];

impl GgmlType {
    fn row(self) -> (GgmlType, u32, &'static str, u64, u64) {
        // The table is in the order of the enum (a test says so).
        TYPES[self as usize]
    }

    pub(super) fn from_number(number: u32) -> Option<Self> {
        TYPES.iter().find(|row| row.1 == number).map(|row| row.0)
    }

    pub(super) fn number(self) -> u32 {
        self.row().1
    }

    /// ggml's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Values in one block; 1 for types without blocks.
    #[must_use]
    pub fn block_values(self) -> u64 {
        self.row().3
    }

    /// Bytes of one block.
    #[must_use]
    pub fn block_bytes(self) -> u64 {
        self.row().4
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Name, shape, type and place of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// `blk.12.attn_q.weight`.
    pub name: String,
    /// 1 to 4 dimensions as in the file: the length of a row first.
    pub dims: Vec<u64>,
    /// Of its values.
    pub ty: GgmlType,
    /// First byte, from the beginning of the file.
    pub offset: u64,
    /// Size of its data.
    pub bytes: u64,
}

impl TensorInfo {
    /// Values in all.
    #[must_use]
    pub fn values(&self) -> u64 {
        self.dims.iter().product()
    }
}

/// Tensor infos as in the file: offsets count from the beginning of the data.
pub(super) fn scan(scan: &mut Scan<impl Read>, count: u64) -> Result<Vec<TensorInfo>, GgufError> {
    (0..count)
        .map(|i| {
            let name = scan.name(Field::TensorName(i))?;
            let field = Field::TensorInfo(&name);
            let rank = scan.u32(field)?;
            if !(1..=4).contains(&rank) {
                return Err(GgufError::Dimensions { name, found: rank });
            }
            let dims = (0..rank).map(|_| scan.u64(field)).collect::<Result<Vec<_>, _>>()?;
            let found = scan.u32(field)?;
            let offset = scan.u64(field)?;
            let Some(ty) = GgmlType::from_number(found) else {
                return Err(GgufError::TensorType { name, found });
            };
            let bytes = data_bytes(&name, &dims, ty)?;
            Ok(TensorInfo { name, dims, ty, offset, bytes })
        })
        .collect()
}

/// Bytes of a tensor of this shape and type.
pub(super) fn data_bytes(name: &str, dims: &[u64], ty: GgmlType) -> Result<u64, GgufError> {
    let impossible = |why| GgufError::Shape { name: name.to_owned(), dims: dims.to_vec(), why };
    let row = dims.first().copied().unwrap_or(0);
    if dims.contains(&0) {
        return Err(impossible("a dimension is zero"));
    }
    if !row.is_multiple_of(ty.block_values()) {
        return Err(GgufError::Row { name: name.to_owned(), row, ty: ty.name(), block: ty.block_values() });
    }
    dims.iter()
        .try_fold(1u64, |product, &dim| product.checked_mul(dim))
        .and_then(|values| (values / ty.block_values()).checked_mul(ty.block_bytes()))
        .filter(|&bytes| bytes <= i64::MAX as u64)
        .ok_or_else(|| impossible("its size is beyond 64 bits"))
}

/// Checks that every tensor lies in the file, aligned and apart from the others; makes offsets count from the
/// beginning of the file.
pub(super) fn place(
    tensors: &mut [TensorInfo],
    alignment: u64,
    data_offset: u64,
    file_bytes: u64,
) -> Result<(), GgufError> {
    let available = file_bytes.saturating_sub(data_offset);
    for tensor in tensors.iter() {
        let TensorInfo { name, offset, bytes, .. } = tensor;
        if !offset.is_multiple_of(alignment) {
            return Err(GgufError::Unaligned { name: name.clone(), offset: *offset, alignment });
        }
        if offset.checked_add(*bytes).is_none_or(|end| end > available) {
            return Err(GgufError::OutOfFile {
                name: name.clone(),
                offset: *offset,
                bytes: *bytes,
                available,
            });
        }
    }
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|tensor| tensor.offset);
    for pair in order.windows(2) {
        let [first, second] = pair else { continue };
        if first.offset + first.bytes > second.offset {
            return Err(GgufError::Overlap {
                first: first.name.clone(),
                second: second.name.clone(),
                offset: second.offset,
            });
        }
    }
    for tensor in tensors {
        tensor.offset += data_offset;
    }
    Ok(())
}

pub(super) fn by_name(tensors: &[TensorInfo]) -> Result<HashMap<String, usize>, GgufError> {
    let mut by_name = HashMap::with_capacity(tensors.len());
    for (i, tensor) in tensors.iter().enumerate() {
        if by_name.insert(tensor.name.clone(), i).is_some() {
            return Err(GgufError::DuplicateTensor { name: tensor.name.clone() });
        }
    }
    Ok(by_name)
}
