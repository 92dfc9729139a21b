//! Every kernel and layout gives the bits of the scalar reference, and the reference is right.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use proptest::prelude::*;
use shard_kernels::isa::Isa;
use shard_kernels::{Activations, Matrix, Pool, WeightType, dequantize_row, matmul_on};

/// Numbers from a seed (SplitMix64), so that a failing case is small to print.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 8_388_608.0 - 1.0
    }

    /// Random blocks; only the scales are kept finite, at most 2^-6.
    fn weights(&mut self, ty: WeightType, rows: usize, cols: usize) -> Vec<u8> {
        let size = ty.row_bytes(cols).unwrap() * rows;
        let mut bytes: Vec<u8> = (0..size).map(|_| self.next() as u8).collect();
        for block in bytes.chunks_exact_mut(ty.block_bytes()) {
            match ty {
                WeightType::F32 => block.copy_from_slice(&self.unit().to_le_bytes()),
                WeightType::F16 => block[1] = block[1] & 0x87 | 0x20,
                WeightType::Bf16 => block[1] = block[1] & 0x80 | 0x3e,
                WeightType::Q4_0 | WeightType::Q8_0 | WeightType::Q5_0 => block[1] = block[1] & 0x87 | 0x20,
                WeightType::Q4K | WeightType::Q5K | WeightType::Q4_1 | WeightType::Q5_1 => {
                    block[1] = block[1] & 0x87 | 0x20;
                    block[3] = block[3] & 0x87 | 0x20;
                }
                WeightType::Q6K => block[209] = block[209] & 0x87 | 0x20,
                WeightType::Q3K => block[109] = block[109] & 0x87 | 0x20,
                WeightType::Q2K => {
                    block[81] = block[81] & 0x87 | 0x20;
                    block[83] = block[83] & 0x87 | 0x20;
                }
            }
        }
        bytes
    }

    fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.unit() * self.unit() * 3.0).collect()
    }
}

fn run(isa: Isa, threads: usize, weights: &[&Matrix], values: &[f32]) -> Vec<f32> {
    let cols = weights[0].cols();
    let rows = values.len() / cols;
    let mut x = Activations::new();
    x.reset(rows, cols).copy_from_slice(values);
    let mut out = vec![f32::NAN; rows * weights.iter().map(|w| w.rows()).sum::<usize>()];
    matmul_on(isa, &Pool::new(threads), weights, &mut x, &mut out).unwrap();
    out
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| if v.is_nan() { u32::MAX } else { v.to_bits() }).collect()
}

fn any_type() -> impl Strategy<Value = WeightType> {
    prop::sample::select(WeightType::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Any instruction set, layout, batch size, number of threads and neighbour: the bits of the scalar kernel, row by row.
    #[test]
    fn all_kernels_agree(
        ty in any_type(), other in any_type(), n in 1usize..70, blocks in 1usize..36, m in prop_oneof![1usize..10, 1usize..70],
        threads in 1usize..4, seed: u64,
    ) {
        let mut random = Random(seed);
        // Superblocks are finished by eight, blocks by sixteen: some of both, and some left over.
        let cols = match ty.block_len().max(other.block_len()) {
            1 => blocks * 13,
            len => blocks * len,
        };
        let (a, b) = (random.weights(ty, n, cols), random.weights(other, 5, cols));
        let (a, b) = (Matrix::raw(ty, n, cols, &a).unwrap(), Matrix::raw(other, 5, cols, &b).unwrap());
        let values = random.values(m * cols);
        let expected: Vec<u32> =
            values.chunks(cols).flat_map(|row| bits(&run(Isa::Baseline, 1, &[&a, &b], row))).collect();
        let (packed_a, packed_b) = (a.pack(), b.pack());
        for isa in Isa::available() {
            for weights in [[&a, &b], [packed_a.as_ref().unwrap_or(&a), packed_b.as_ref().unwrap_or(&b)]] {
                let actual = bits(&run(isa, threads, &weights, &values));
                prop_assert_eq!(&actual, &expected, "{:?} {:?} packed: {}", isa, ty, weights[0].is_packed());
            }
        }
    }

    /// The product is that of the dequantised weights, up to the rounding of activations to 8 bits.
    #[test]
    fn scalar_is_the_product_of_dequantized_weights(ty in any_type(), n in 1usize..9, m in 1usize..4, seed: u64) {
        let (mut random, cols) = (Random(seed), 512);
        let bytes = random.weights(ty, n, cols);
        let w = Matrix::raw(ty, n, cols, &bytes).unwrap();
        let values = random.values(m * cols);
        let out = run(Isa::Baseline, 1, &[&w], &values);
        let mut row = vec![0.0; cols];
        for j in 0..n {
            w.dequantize_row(j, &mut row);
            for r in 0..m {
                let pairs = || row.iter().zip(&values[r * cols..(r + 1) * cols]);
                let expected: f64 = pairs().map(|(w, a)| f64::from(*w) * f64::from(*a)).sum();
                // An activation is off by at most half a step of max/127; max is at most 3.
                let step: f64 = if ty.block_len() == 1 { 1e-6 } else { 1.5 / 127.0 };
                let bound: f64 = pairs().map(|(w, _)| f64::from(w.abs()) * (step + 1e-5)).sum();
                let actual = f64::from(out[r * n + j]);
                prop_assert!((actual - expected).abs() <= bound, "{ty:?}: {actual} for {expected} ± {bound}");
            }
        }
    }

    /// Packing loses nothing, whatever the bytes are.
    #[test]
    fn packed_rows_dequantize_as_raw_ones(ty in any_type(), n in 1usize..40, seed: u64) {
        prop_assume!(ty.packs());
        let (mut random, cols) = (Random(seed), 768);
        let bytes: Vec<u8> = (0..ty.row_bytes(cols).unwrap() * n).map(|_| random.next() as u8).collect();
        let raw = Matrix::raw(ty, n, cols, &bytes).unwrap();
        let packed = raw.pack().unwrap();
        let (mut a, mut b) = (vec![0.0; cols], vec![0.0; cols]);
        for row in 0..n {
            raw.dequantize_row(row, &mut a);
            packed.dequantize_row(row, &mut b);
            prop_assert_eq!(bits(&a), bits(&b));
        }
    }
}

/// Zeros, denormals, infinities and NaN end in numbers or in NaN, alike in every kernel, and only in their own row.
#[test]
fn odd_activations_are_no_accident() {
    let cols = 512;
    for ty in WeightType::ALL {
        let bytes = Random(7).weights(ty, 17, cols);
        let w = Matrix::raw(ty, 17, cols, &bytes).unwrap();
        let mut values = Random(8).values(8 * cols);
        values[..cols].fill(0.0);
        values[cols..2 * cols].fill(1e-40);
        values[2 * cols + 300] = f32::NAN;
        values[3 * cols + 5] = f32::INFINITY;
        values[4 * cols] = 1e20;
        values[5 * cols..6 * cols].fill(-0.0);
        let expected = run(Isa::Baseline, 1, &[&w], &values);
        for (r, row) in expected.chunks(17).enumerate() {
            assert_eq!(row.iter().all(|v| v.is_finite()), ![2, 3].contains(&r), "{ty:?} row {r}");
        }
        for isa in Isa::available() {
            assert_eq!(bits(&run(isa, 1, &[&w], &values)), bits(&expected), "{isa:?} {ty:?}");
            if let Some(packed) = w.pack() {
                assert_eq!(bits(&run(isa, 1, &[&packed], &values)), bits(&expected), "{isa:?} {ty:?}");
            }
        }
    }
}

/// The largest weights of either sign meet the largest activations: no kernel's 16-bit sums run over.
#[test]
fn extremes_do_not_overflow() {
    let (n, cols, m) = (33, 512, 5);
    for (ty, fill) in
        WeightType::ALL.into_iter().flat_map(|ty| [0xff, 0x00, 0x80, 0x7f].map(|fill| (ty, fill)))
    {
        let scales = Random(1).weights(ty, n, cols);
        let mut bytes = vec![fill; scales.len()];
        let heads: &[usize] = match ty {
            WeightType::Q6K => &[208, 209],
            WeightType::Q4K | WeightType::Q5K | WeightType::Q4_1 | WeightType::Q5_1 => &[0, 1, 2, 3],
            WeightType::Q3K => &[108, 109],
            WeightType::Q2K => &[80, 81, 82, 83],
            _ => &[0, 1],
        };
        for (block, scales) in
            bytes.chunks_exact_mut(ty.block_bytes()).zip(scales.chunks_exact(ty.block_bytes()))
        {
            heads.iter().for_each(|&i| block[i] = scales[i]);
        }
        let w = Matrix::raw(ty, n, cols, &bytes).unwrap();
        for value in [|_: usize| 1.0, |_| -1.0, |i| if i % 2 == 0 { 1.0 } else { -1.0 }] {
            let values: Vec<f32> = (0..m * cols).map(value).collect();
            let expected = run(Isa::Baseline, 1, &[&w], &values);
            let packed = w.pack();
            for isa in Isa::available() {
                for w in [Some(&w), packed.as_ref()].into_iter().flatten() {
                    for rows in [1, m] {
                        let actual = run(isa, 1, &[w], &values[..rows * cols]);
                        assert_eq!(bits(&actual), bits(&expected[..rows * n]), "{isa:?} {ty:?} {fill:#x}");
                    }
                }
            }
        }
    }
}

/// One block of each format, written by hand after `ggml-quants.c`.
#[test]
fn blocks_mean_what_ggml_means() {
    let half = 0x3800u16.to_le_bytes(); // 0.5
    let two = 0x4000u16.to_le_bytes(); // 2.0
    let read = |ty: WeightType, bytes: &[u8]| {
        assert_eq!(bytes.len(), ty.block_bytes());
        let mut out = vec![0.0; ty.block_len()];
        dequantize_row(ty, bytes, &mut out);
        out
    };

    let mut q4_0 = half.to_vec();
    q4_0.extend((0..16).map(|i| i << 4 | (15 - i)));
    let out = read(WeightType::Q4_0, &q4_0);
    assert_eq!((out[0], out[15], out[16], out[31]), (3.5, -4.0, -4.0, 3.5));

    let mut q8_0 = half.to_vec();
    q8_0.extend((0..32u8).map(|i| i.wrapping_sub(16)));
    q8_0[2] = 0x80;
    let out = read(WeightType::Q8_0, &q8_0);
    assert_eq!((out[0], out[1], out[31]), (-64.0, -7.5, 7.5));

    // Sub-block 1: scale 33, minimum 5. Sub-block 6: scale 0b10_1001 = 41, minimum 0b01_0011 = 19.
    let mut head = [half, two].concat();
    let mut scales = [0u8; 12];
    (scales[1], scales[5]) = (33, 5);
    (scales[2], scales[6]) = (0b10 << 6, 0b01 << 6);
    scales[10] = 0b0011 << 4 | 0b1001;
    head.extend(scales);

    let mut q4k = head.clone();
    q4k.extend([0u8; 128]);
    q4k[16 + 3] = 7 << 4; // chunk 0, high nibble: value 32 + 3, sub-block 1
    q4k[16 + 96 + 9] = 11; // chunk 3, low nibble: value 192 + 9, sub-block 6
    let out = read(WeightType::Q4K, &q4k);
    assert_eq!((out[35], out[36]), (0.5 * 33.0 * 7.0 - 10.0, -10.0));
    assert_eq!((out[201], out[202], out[0]), (0.5 * 41.0 * 11.0 - 38.0, -38.0, 0.0));

    let mut q5k = head;
    q5k.extend([0u8; 32 + 128]);
    q5k[48 + 3] = 7 << 4;
    q5k[16 + 3] = 1 << 1; // fifth bit of value 32 + 3
    q5k[16 + 9] = 1 << 6; // fifth bit of value 192 + 9
    let out = read(WeightType::Q5K, &q5k);
    assert_eq!((out[35], out[201], out[36]), (0.5 * 33.0 * 23.0 - 10.0, 0.5 * 41.0 * 16.0 - 38.0, -10.0));

    let mut q6k = vec![0u8; 210];
    q6k[208..].copy_from_slice(&half);
    q6k[192 + 8 + 3] = -3i8 as u8; // second half, values 48..64
    q6k[64 + 32 + 20] = 0x0c; // low bits of value 128 + 32 + 20
    q6k[128 + 32 + 20] = 0b10 << 2; // its high bits
    let out = read(WeightType::Q6K, &q6k);
    assert_eq!((out[180], out[181], out[0]), (0.5 * -3.0 * (44.0 - 32.0), 0.5 * 3.0 * 32.0, -0.0));

    let floats = [
        (WeightType::F32, 1.5f32.to_le_bytes().to_vec()),
        (WeightType::F16, vec![0, 0x3e]),
        (WeightType::Bf16, vec![0xc0, 0x3f]),
    ];
    for (ty, bytes) in floats {
        assert_eq!(read(ty, &bytes), [1.5]);
    }
    let halves = [
        (0x0001u16, 5.960_464_5e-8f32),
        (0x03ff, 6.097_555e-5),
        (0x7bff, 65504.0),
        (0xfc00, f32::NEG_INFINITY),
        (0x8000, -0.0),
    ];
    for (bits, value) in halves {
        assert_eq!(read(WeightType::F16, &bits.to_le_bytes())[0].to_bits(), value.to_bits());
    }
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let zeros = [0u8; 144 * 3];
    for (ty, rows, cols, says) in [
        (WeightType::Q4K, 3, 255, "a Q4K row of 255 values is not a whole number of blocks of 256"),
        (WeightType::Q4K, 2, 256, "the matrix needs 288 bytes, not 432"),
        (WeightType::F32, usize::MAX, 64, "is not a whole number"),
    ] {
        let error = Matrix::raw(ty, rows, cols, &zeros).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let w = Matrix::raw(WeightType::Q4K, 3, 256, &zeros).unwrap();
    let (mut x, pool) = (Activations::new(), Pool::new(1));
    x.reset(2, 512);
    let error = matmul_on(Isa::detect(), &pool, &[&w], &mut x, &mut [0.0; 6]).unwrap_err();
    assert_eq!(error.to_string(), "a matrix of 256 inputs met rows of 512 values");
    x.reset(2, 256);
    let error = matmul_on(Isa::detect(), &pool, &[&w], &mut x, &mut [0.0; 5]).unwrap_err();
    assert_eq!(error.to_string(), "the product has 6 outputs, not 5");
}
