//! Block formats that few files use and no vector kernel knows: the scalar kernel, compiled for each instruction set,
//! multiplies them. Source: `ggml-common.h` and `ggml-quants.c` (`dequantize_row_*`).

use crate::blocks::{Block, half};
use crate::weight_type::WeightType;

/// Takes apart one block; leaves it alone where the type is none of these.
pub(crate) fn read(ty: WeightType, bytes: &[u8], block: &mut Block) {
    match ty {
        // `{ f16 d; f16 m; u8 qs[16] }`: value = d · q + m.
        WeightType::Q4_1 => {
            read_minimum(bytes, block);
            read_nibbles(&bytes[4..20], 0, &mut block.q);
        }
        // `{ f16 d; u32 high; u8 qs[16] }`: value = d · (q - 16), the fifth bits in `high`.
        WeightType::Q5_0 => {
            read_nibbles(&bytes[6..22], word(bytes, 2), &mut block.q);
            block.q[..32].iter_mut().for_each(|q| *q -= 16);
        }
        // `{ f16 d; f16 m; u32 high; u8 qs[16] }`.
        WeightType::Q5_1 => {
            read_minimum(bytes, block);
            read_nibbles(&bytes[8..24], word(bytes, 4), &mut block.q);
        }
        // `{ u8 scales[16]; u8 qs[64]; f16 d; f16 dmin }`: a scale's low four bits, its minimum above them.
        WeightType::Q2K => {
            (block.d, block.dmin, block.sub_len) = (half(bytes, 80), half(bytes, 82), 16);
            for ((scale, min), &byte) in block.scales.iter_mut().zip(&mut block.mins).zip(&bytes[..16]) {
                (*scale, *min) = (i16::from(byte & 15), i16::from(byte >> 4));
            }
            read_pairs(&bytes[16..80], &mut block.q);
        }
        // `{ u8 high[32]; u8 qs[64]; u8 scales[12]; f16 d }`: a high bit of 0 takes 4 from its value.
        WeightType::Q3K => {
            (block.d, block.sub_len) = (half(bytes, 108), 16);
            read_q3_scales(&bytes[96..108], &mut block.scales);
            read_pairs(&bytes[32..96], &mut block.q);
            for (i, q) in block.q.iter_mut().enumerate() {
                let high = bytes[i % 32] >> (i / 32) & 1;
                *q -= 4 * (1 - high as i8);
            }
        }
        _ => {}
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn read_minimum(bytes: &[u8], block: &mut Block) {
    // A minimum is taken away, `m` is added.
    (block.dmin, block.mins[0]) = (-half(bytes, 2), 1);
}

/// Low nibbles are the first 16 values, high ones the last; bit `i` of `high` is the fifth of value `i`.
fn read_nibbles(qs: &[u8], high: u32, q: &mut [i8; 256]) {
    for (i, &byte) in qs.iter().enumerate() {
        q[i] = ((byte & 15) | ((high >> i & 1) << 4) as u8) as i8;
        q[i + 16] = ((byte >> 4) | ((high >> (i + 16) & 1) << 4) as u8) as i8;
    }
}

/// Two halves of 128 values; value `32·p + i` of a half is the pair of bits `2p` of its byte `i`.
fn read_pairs(qs: &[u8], q: &mut [i8; 256]) {
    for (i, q) in q.iter_mut().enumerate() {
        *q = (qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) as i8;
    }
}

/// Sixteen scales of six bits, less 32: the low four in the nibbles of bytes 0 to 7, the high two in bytes 8 to 11.
fn read_q3_scales(bytes: &[u8], scales: &mut [i16; 16]) {
    for (i, scale) in scales.iter_mut().enumerate() {
        let low = bytes[i % 8] >> (i / 8 * 4) & 15;
        let high = bytes[8 + i % 4] >> (i / 4 * 2) & 3;
        *scale = i16::from(low | high << 4) - 32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::dequantize_row;

    /// Values of random blocks by llama.cpp's own Python package.
    #[test]
    fn values_are_those_of_gguf_py() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
        };
        let mut seen = Vec::new();
        for line in include_str!("../tests/data/rare_types.txt").lines().filter(|line| !line.starts_with('#'))
        {
            let [name, bytes, values] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let ty = match name {
                "Q4_1" => WeightType::Q4_1,
                "Q5_0" => WeightType::Q5_0,
                "Q5_1" => WeightType::Q5_1,
                "Q2_K" => WeightType::Q2K,
                "Q3_K" => WeightType::Q3K,
                _ => panic!("{name}"),
            };
            seen.push(ty);
            let expect: Vec<f32> = (0..values.len())
                .step_by(8)
                .map(|i| f32::from_bits(u32::from_str_radix(&values[i..i + 8], 16).unwrap()))
                .collect();
            let mut got = vec![0.0; expect.len()];
            dequantize_row(ty, &hex(bytes), &mut got);
            assert_eq!(got, expect, "{name}");
        }
        assert_eq!(seen, WeightType::ALL.into_iter().filter(|ty| !ty.is_fast()).collect::<Vec<_>>());
    }
}
