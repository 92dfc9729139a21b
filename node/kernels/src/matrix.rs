//! A weight matrix in one of its two layouts.
//!
//! *Raw*: the rows as they lie in the file. *Packed*: panels of 16 rows; a panel is one tile per block column, and a tile
//! holds the same bytes as its 16 blocks: the 32-bit words of the blocks transposed (word 0 of the 16 rows, word 1, …), then
//! the f16 that is no part of a whole word. So one vector load brings the same word of 16 rows, one lane an output.

use std::fmt;

use crate::blocks::dequantize_row;
use crate::buffer::Buffer;
use crate::pack::pack_panel;
use crate::weight_type::{Family, WeightType};

/// Rows that are interleaved in the packed layout.
pub(crate) const PANEL: usize = 16;

/// A weight matrix of `rows` outputs and `cols` inputs.
#[derive(Debug)]
pub struct Matrix<'a> {
    ty: WeightType,
    rows: usize,
    cols: usize,
    data: Data<'a>,
}

#[derive(Debug)]
enum Data<'a> {
    Raw(&'a [u8]),
    Packed(Buffer<u8>),
}

/// Why bytes are not a matrix of the shape asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MatrixError {
    /// A row is empty or not a whole number of blocks, or the size overflows.
    Columns {
        /// The type asked for.
        ty: WeightType,
        /// The width asked for.
        cols: usize,
    },
    /// There are more or fewer bytes than the shape needs.
    Length {
        /// Bytes the shape needs.
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
}

impl fmt::Display for MatrixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Columns { ty, cols } => {
                write!(
                    f,
                    "a {ty:?} row of {cols} values is not a whole number of blocks of {}",
                    ty.block_len()
                )
            }
            Self::Length { expected, actual } => write!(f, "the matrix needs {expected} bytes, not {actual}"),
        }
    }
}

impl std::error::Error for MatrixError {}

impl<'a> Matrix<'a> {
    /// A matrix over the bytes of a GGUF tensor of shape `[cols, rows]`; they need no alignment.
    pub fn raw(ty: WeightType, rows: usize, cols: usize, bytes: &'a [u8]) -> Result<Self, MatrixError> {
        let size = ty.row_bytes(cols).filter(|row| *row > 0).and_then(|row| row.checked_mul(rows));
        let expected = size.ok_or(MatrixError::Columns { ty, cols })?;
        if bytes.len() != expected {
            return Err(MatrixError::Length { expected, actual: bytes.len() });
        }
        Ok(Self { ty, rows, cols, data: Data::Raw(bytes) })
    }

    /// The same matrix packed into memory of its own, of the same size with rows rounded up to 16. None where the type has
    /// no packed layout ([`WeightType::packs`]) or where it is packed already.
    pub fn pack(&self) -> Option<Matrix<'static>> {
        let Data::Raw(bytes) = self.data else { return None };
        if !self.ty.packs() {
            return None;
        }
        let mut packed = Buffer::new();
        packed.resize(self.rows.div_ceil(PANEL) * self.panel_bytes());
        if !packed.is_empty() {
            let panels = bytes.chunks(self.panel_bytes()).zip(packed.chunks_exact_mut(self.panel_bytes()));
            panels.for_each(|(rows, panel)| pack_panel(self.ty, self.row_bytes(), rows, panel));
        }
        Some(Matrix { ty: self.ty, rows: self.rows, cols: self.cols, data: Data::Packed(packed) })
    }

    /// The type of the weights.
    pub fn weight_type(&self) -> WeightType {
        self.ty
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Whether the matrix owns packed memory.
    pub fn is_packed(&self) -> bool {
        matches!(self.data, Data::Packed(_))
    }

    /// Writes row `row` as f32, `out.len() == cols`: the embedding of a token. Both layouts give the same values.
    ///
    /// # Panics
    /// Where `row` is not a row of the matrix, as a slice index would.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        match &self.data {
            Data::Raw(bytes) => {
                dequantize_row(self.ty, &bytes[row * self.row_bytes()..][..self.row_bytes()], out)
            }
            Data::Packed(_) => {
                let (len, mut block) = (self.ty.block_len(), [0; MAX_BLOCK_BYTES]);
                for (i, out) in out.chunks_mut(len).enumerate() {
                    dequantize_row(self.ty, self.block(row, i, &mut block), out);
                }
            }
        }
    }

    /// Block `i` of row `row`, put together in `scratch` where the layout has it in pieces.
    pub(crate) fn block<'b>(
        &'b self,
        row: usize,
        i: usize,
        scratch: &'b mut [u8; MAX_BLOCK_BYTES],
    ) -> &'b [u8] {
        let size = self.ty.block_bytes();
        match &self.data {
            Data::Raw(bytes) => &bytes[row * self.row_bytes() + i * size..][..size],
            Data::Packed(panels) => {
                let at = row / PANEL * self.panel_bytes() + i * PANEL * size;
                let (tile, block) = (&panels[at..at + PANEL * size], &mut scratch[..size]);
                let (words, half) = self.ty.tile_parts();
                for (w, word) in block[words.clone()].chunks_exact_mut(4).enumerate() {
                    word.copy_from_slice(&tile[(w * PANEL + row % PANEL) * 4..][..4]);
                }
                if let Some(half) = half {
                    block[half..half + 2]
                        .copy_from_slice(&tile[words.len() * PANEL + row % PANEL * 2..][..2]);
                }
                block
            }
        }
    }

    /// The bytes of the raw layout.
    pub(crate) fn raw_bytes(&self) -> Option<&[u8]> {
        match &self.data {
            Data::Raw(bytes) => Some(bytes),
            Data::Packed(_) => None,
        }
    }

    /// The panels of the packed layout, each of [`Self::panel_bytes`].
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "only vector kernels read whole panels")
    )]
    pub(crate) fn panels(&self) -> Option<&[u8]> {
        match &self.data {
            Data::Raw(_) => None,
            Data::Packed(panels) => Some(panels),
        }
    }

    pub(crate) fn row_bytes(&self) -> usize {
        self.cols / self.ty.block_len() * self.ty.block_bytes()
    }

    pub(crate) fn panel_bytes(&self) -> usize {
        PANEL * self.row_bytes()
    }
}

/// The largest block, that of `Q6_K`.
pub(crate) const MAX_BLOCK_BYTES: usize = 210;

impl WeightType {
    /// Which bytes of a block are whole words of a tile, and where the f16 that follows them is.
    pub(crate) fn tile_parts(self) -> (std::ops::Range<usize>, Option<usize>) {
        match (self, self.family()) {
            (Self::Q6K, _) => (0..208, Some(208)),
            (_, Family::Per32) => (2..self.block_bytes(), Some(0)),
            _ => (0..self.block_bytes(), None),
        }
    }
}
