//! The tensor types of GGUF that have kernels here.

/// How the values of a weight row are stored. Names, numbers and blocks are ggml's (`ggml.h`, `ggml-common.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightType {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of an IEEE single.
    Bf16,
    /// 32 values of 4 bits, one f16 scale.
    Q4_0,
    /// 32 values of 8 bits, one f16 scale.
    Q8_0,
    /// 256 values of 4 bits; per 32 a 6-bit scale and a 6-bit minimum.
    Q4K,
    /// 256 values of 5 bits; per 32 a 6-bit scale and a 6-bit minimum.
    Q5K,
    /// 256 values of 6 bits; per 16 an 8-bit scale.
    Q6K,
    /// 32 values of 4 bits, one f16 scale and one f16 minimum. Without vector kernels, as all that follow.
    Q4_1,
    /// 32 values of 5 bits, one f16 scale.
    Q5_0,
    /// 32 values of 5 bits, one f16 scale and one f16 minimum.
    Q5_1,
    /// 256 values of 2 bits; per 16 a 4-bit scale and a 4-bit minimum.
    Q2K,
    /// 256 values of 3 bits; per 16 a 6-bit scale.
    Q3K,
}

/// What a row of activations is turned into before it meets a weight row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Left as f32.
    Float,
    /// 8 bits, one scale per 32 values.
    Per32,
    /// 8 bits, one scale per 256 values.
    Per256,
}

impl WeightType {
    /// All types, for tables and tests.
    pub const ALL: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q2K,
        Self::Q3K,
    ];

    /// The type that GGUF writes as `id` (`enum ggml_type`), or none where there is no kernel for it.
    pub fn from_ggml(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.ggml() == id)
    }

    /// The number of this type in `enum ggml_type`.
    pub fn ggml(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Bf16 => 30,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q2K => 10,
            Self::Q3K => 11,
        }
    }

    /// Values in one block; a row is a whole number of blocks.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q8_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K | Self::Q2K | Self::Q3K => 256,
        }
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q2K => 84,
            Self::Q3K => 110,
        }
    }

    /// Bytes of a row of `cols` values, or none if that is not a whole number of blocks or overflows.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Whether there are vector kernels for this type; the others take several times as long.
    pub fn is_fast(self) -> bool {
        !matches!(self, Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q2K | Self::Q3K)
    }

    /// Whether [`Matrix::pack`](crate::Matrix::pack) has a layout for this type: the fast quantised ones do.
    pub fn packs(self) -> bool {
        self.is_fast() && self.family() != Family::Float
    }

    pub(crate) fn family(self) -> Family {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => Family::Float,
            Self::Q4_0 | Self::Q8_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => Family::Per32,
            Self::Q4K | Self::Q5K | Self::Q6K | Self::Q2K | Self::Q3K => Family::Per256,
        }
    }
}
