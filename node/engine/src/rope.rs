//! Rotary positions: by which angle every pair of a head's elements turns at a position.

use std::f64::consts::TAU;

use crate::config::{Rope, RopeFactors};

/// The angle of every pair from one position to the next, in radians.
#[derive(Debug)]
pub(crate) struct Frequencies(Vec<f64>);

impl Frequencies {
    /// Of `rope`; `divisors` are those of the file's `rope_freqs.weight`, which go before the metadata's.
    pub(crate) fn new(rope: &Rope, divisors: Option<&[f32]>) -> Self {
        let dims = f64::from(rope.dims);
        let frequency = |pair: u32| {
            let plain = f64::from(rope.base).powf(-2.0 * f64::from(pair) / dims);
            let divisor = match divisors {
                Some(divisors) => f64::from(divisors[pair as usize]),
                None => divisor(&rope.factors, plain),
            };
            plain / divisor / f64::from(rope.linear_factor)
        };
        Self((0..rope.dims / 2).map(frequency).collect())
    }

    /// Elements of a head that turn.
    pub(crate) fn dims(&self) -> usize {
        self.0.len() * 2
    }

    /// Fills `turns` with `[cos0, sin0, cos1, sin1, …]` of `position`. In double precision: an angle of a late
    /// position has no digits left in single.
    pub(crate) fn turns(&self, position: usize, turns: &mut [f32]) {
        for (turn, frequency) in turns.as_chunks_mut::<2>().0.iter_mut().zip(&self.0) {
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            *turn = [cos as f32, sin as f32];
        }
    }
}

/// Llama 3.1's rule, as in `_compute_llama3_parameters` of transformers' `modeling_rope_utils.py`.
fn divisor(factors: &RopeFactors, frequency: f64) -> f64 {
    let RopeFactors::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } = *factors else {
        return 1.0;
    };
    let (factor, low, high) = (f64::from(factor), f64::from(low_freq_factor), f64::from(high_freq_factor));
    let turns_in_context = f64::from(original_context) * frequency / TAU;
    let kept = ((turns_in_context - low) / (high - low)).clamp(0.0, 1.0);
    1.0 / ((1.0 - kept) / factor + kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Rope = Rope { dims: 64, base: 10_000.0, linear_factor: 1.0, factors: RopeFactors::None };

    fn angles(rope: &Rope, divisors: Option<&[f32]>) -> Vec<f64> {
        Frequencies::new(rope, divisors).0
    }

    #[test]
    fn frequencies_are_powers_of_the_base() {
        let plain = angles(&PLAIN, None);
        assert_eq!(plain.len(), 32);
        for (pair, angle) in plain.iter().enumerate() {
            assert!((angle - 10_000f64.powf(-(pair as f64) / 32.0)).abs() < 1e-12);
        }
        let linear = angles(&Rope { linear_factor: 4.0, ..PLAIN }, None);
        assert!(plain.iter().zip(linear).all(|(plain, linear)| (plain / 4.0 - linear).abs() < 1e-15));
    }

    /// Divisors that llama.cpp's `convert_hf_to_gguf.py` writes for Llama 3.2 1B (head size 64, base 500000,
    /// factor 32, low 1, high 4, original context 8192).
    #[test]
    fn llama3_scaling_keeps_fast_pairs_and_divides_slow_ones() {
        let factors = RopeFactors::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192,
        };
        let plain = angles(&Rope { base: 500_000.0, ..PLAIN }, None);
        let scaled = angles(&Rope { base: 500_000.0, factors, ..PLAIN }, None);
        let divisors: Vec<f64> = plain.iter().zip(&scaled).map(|(p, s)| p / s).collect();
        assert!(divisors[..15].iter().all(|d| (d - 1.0).abs() < 1e-12), "{divisors:?}");
        assert!(divisors[18..].iter().all(|d| (d - 32.0).abs() < 1e-12), "{divisors:?}");
        // By hand: pair 16 turns 8192 · 500000^-0.5 / 2π = 1.8438… times.
        let kept = (8192.0 / 500_000f64.sqrt() / TAU - 1.0) / 3.0;
        assert!((divisors[16] - 1.0 / ((1.0 - kept) / 32.0 + kept)).abs() < 1e-9);

        let written: Vec<f32> = divisors.iter().map(|&d| d as f32).collect();
        let from_file = angles(&Rope { base: 500_000.0, ..PLAIN }, Some(&written));
        assert!(from_file.iter().zip(&scaled).all(|(a, b)| (a / b - 1.0).abs() < 1e-6));
    }

    #[test]
    fn late_positions_keep_their_angle() {
        let rope = Frequencies::new(&Rope { dims: 2, ..PLAIN }, None);
        let mut turn = [0.0; 2];
        rope.turns(1 << 24, &mut turn);
        let exact = f64::from(1 << 24);
        assert_eq!(turn, [exact.cos() as f32, exact.sin() as f32]);
    }
}
