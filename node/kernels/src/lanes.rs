//! What all our float loops are made of: 16 lanes, one order of sums, one `exp`, and one way to compile a loop for
//! every instruction set. Rust never fuses or reorders float operations by itself, so a loop compiled for AVX-512
//! gives the bits of the same loop compiled for the baseline: the vector code is the scalar code, only wider.

/// Lanes of every float loop: one AVX-512 register, two of AVX2, four of SSE2 and NEON.
pub(crate) const LANES: usize = 16;
/// One value per lane.
pub(crate) type Lanes = [f32; LANES];

/// The first lanes from `values` (at most [`LANES`]), the rest 0.
#[inline(always)]
pub(crate) fn load(values: &[f32]) -> Lanes {
    let mut lanes = [0.0; LANES];
    lanes[..values.len()].copy_from_slice(values);
    lanes
}

/// The sum of all lanes, pairwise: 16, 8, 4, 2, 1.
#[inline(always)]
pub(crate) fn sum(lanes: Lanes) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| lanes[i] + lanes[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// `e^x` for one lane: `2^n * e^r` with `x = n ln 2 + r`, |r| ≤ ln 2 / 2, and the minimax polynomial of Cephes
/// (`expf`) for `e^r`. No branch and no table, so that it vectorises; the input is held in -87.3..=88.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.3 { -87.3 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    let e_to_r = p * (r * r) + r + 1.0;
    let two_to_n = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    e_to_r * two_to_n
}

/// Defines functions that run `$body`, an `#[inline(always)]` function, compiled for the best instruction set here.
macro_rules! multiversion {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident $(<$generic:ident: $bound:path>)?
       ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:path;)*) => { $(
        $(#[$meta])*
        $vis fn $name $(<$generic: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
                fn avx512 $(<$generic: $bound>)? ($($arg: $ty),*) $(-> $ret)? { $body($($arg),*) }
                #[target_feature(enable = "avx2,f16c")]
                fn avx2 $(<$generic: $bound>)? ($($arg: $ty),*) $(-> $ret)? { $body($($arg),*) }
                match crate::isa::current() {
                    // SAFETY: the processor has the features, as `isa` found.
                    crate::isa::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    crate::isa::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    _ => {}
                }
            }
            $body($($arg),*)
        }
    )* };
}
pub(crate) use multiversion;
