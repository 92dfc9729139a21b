//! The block formats, taken apart into plain integers: the one description that dequantisation, scalar kernels and the
//! tests of all others rest on. Source: `ggml-common.h` and `ggml-quants.c` (`dequantize_row_*`).

use crate::half::f16_to_f32;
use crate::numerics::bf16_to_f32;
use crate::rare;
use crate::weight_type::WeightType;

/// One block: `value = d · scale_s · q - dmin · min_s`, where `s` is the sub-block of `sub_len` values that holds `q`.
pub(crate) struct Block {
    pub d: f32,
    pub dmin: f32,
    pub sub_len: usize,
    pub scales: [i16; 16],
    pub mins: [i16; 16],
    pub q: [i8; 256],
}

impl Block {
    /// Takes apart one block of a quantised type; `bytes` is at least its length.
    pub(crate) fn read(ty: WeightType, bytes: &[u8]) -> Self {
        let mut block =
            Self { d: half(bytes, 0), dmin: 0.0, sub_len: 32, scales: [1; 16], mins: [0; 16], q: [0; 256] };
        match ty {
            WeightType::Q4_0 => read_q4_0(bytes, &mut block),
            WeightType::Q8_0 => {
                for (q, &byte) in block.q.iter_mut().zip(&bytes[2..34]) {
                    *q = byte as i8;
                }
            }
            WeightType::Q4K => {
                read_scales_and_mins(bytes, &mut block);
                read_nibbles(&bytes[16..144], &mut block.q);
            }
            WeightType::Q5K => {
                read_scales_and_mins(bytes, &mut block);
                read_nibbles(&bytes[48..176], &mut block.q);
                for (i, q) in block.q.iter_mut().enumerate() {
                    *q |= ((bytes[16 + i % 32] >> (i / 32) & 1) << 4) as i8;
                }
            }
            WeightType::Q6K => read_q6k(bytes, &mut block),
            rare => rare::read(rare, bytes, &mut block),
        }
        block
    }
}

pub(crate) fn half(bytes: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// `{ f16 d; u8 qs[16] }`: low nibbles are the first 16 values, high ones the last, all less 8.
fn read_q4_0(bytes: &[u8], block: &mut Block) {
    for (i, &byte) in bytes[2..18].iter().enumerate() {
        block.q[i] = (byte & 15) as i8 - 8;
        block.q[i + 16] = (byte >> 4) as i8 - 8;
    }
}

/// The head of `Q4_K` and `Q5_K`: `{ f16 d; f16 dmin; u8 scales[12] }`. Sub-blocks 0 to 3 have their scale in the low six bits of bytes
/// 0 to 3, their minimum in bytes 4 to 7; 4 to 7 have the low four bits in bytes 8 to 11 and the high two atop the former.
fn read_scales_and_mins(bytes: &[u8], block: &mut Block) {
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    block.dmin = half(bytes, 2);
    let scales = six_bits(word(4), word(12)).to_le_bytes();
    let mins = six_bits(word(8), word(12) >> 4).to_le_bytes();
    for s in 0..8 {
        (block.scales[s], block.mins[s]) = (i16::from(scales[s]), i16::from(mins[s]));
    }
}

/// Eight numbers of six bits, a byte each: four from `first`, four from `last` and the upper bits of `first`.
#[inline]
fn six_bits(first: u32, last: u32) -> u64 {
    let upper = last & 0x0f0f_0f0f | first >> 2 & 0x3030_3030;
    u64::from(first & 0x3f3f_3f3f) | u64::from(upper) << 32
}

/// Four chunks of 32 bytes; the low nibbles of a chunk are one sub-block, the high ones the next.
fn read_nibbles(qs: &[u8], q: &mut [i8; 256]) {
    for (chunk, values) in qs.chunks_exact(32).zip(q.chunks_exact_mut(64)) {
        let (low, high) = values.split_at_mut(32);
        for ((&byte, low), high) in chunk.iter().zip(low).zip(high) {
            *low = (byte & 15) as i8;
            *high = (byte >> 4) as i8;
        }
    }
}

/// `{ u8 ql[128]; u8 qh[64]; i8 scales[16]; f16 d }`, two halves of 128 values: value `32·p + i` of a half takes its low four
/// bits from `ql[32·(p mod 2) + i]` (low nibble for p < 2) and its high two from bits `2p` of `qh[i]`; all less 32.
fn read_q6k(bytes: &[u8], block: &mut Block) {
    block.d = half(bytes, 208);
    block.sub_len = 16;
    for (scale, &byte) in block.scales.iter_mut().zip(&bytes[192..208]) {
        *scale = i16::from(byte as i8);
    }
    for (h, values) in block.q.chunks_exact_mut(128).enumerate() {
        let (ql, qh) = (&bytes[64 * h..64 * h + 64], &bytes[128 + 32 * h..160 + 32 * h]);
        for (p, part) in values.chunks_exact_mut(32).enumerate() {
            for (i, q) in part.iter_mut().enumerate() {
                let low = ql[32 * (p % 2) + i] >> (4 * (p / 2)) & 15;
                let high = qh[i] >> (2 * p) & 3;
                *q = (low | high << 4) as i8 - 32;
            }
        }
    }
}

/// Writes the f32 values of one row; `bytes` holds `row_bytes(out.len())`, what lies beyond is left alone.
///
/// The products are exact (at most 24 bits); a value with a minimum is rounded once, in the subtraction, as in ggml.
pub fn dequantize_row(ty: WeightType, bytes: &[u8], out: &mut [f32]) {
    match ty {
        WeightType::F32 => widen(bytes, out, |[a, b, c, d]| f32::from_le_bytes([a, b, c, d])),
        WeightType::F16 => widen(bytes, out, |[a, b]| f16_to_f32(u16::from_le_bytes([a, b]))),
        WeightType::Bf16 => widen(bytes, out, |[a, b]| bf16_to_f32(u16::from_le_bytes([a, b]))),
        _ => {
            for (bytes, out) in bytes.chunks_exact(ty.block_bytes()).zip(out.chunks_mut(ty.block_len())) {
                let block = Block::read(ty, bytes);
                for (i, value) in out.iter_mut().enumerate() {
                    let s = i / block.sub_len;
                    *value = block.d * f32::from(block.scales[s]) * f32::from(block.q[i])
                        - block.dmin * f32::from(block.mins[s]);
                }
            }
        }
    }
}

fn widen<const N: usize>(bytes: &[u8], out: &mut [f32], to_f32: impl Fn([u8; N]) -> f32) {
    let (values, _) = bytes.as_chunks::<N>();
    for (out, &value) in out.iter_mut().zip(values) {
        *out = to_f32(value);
    }
}
