//! IEEE half precision as bits in `u16`.

/// The value of `bits`, exactly.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff) << 13;
    // Subnormals need their exponent found: multiplying by 2^112 moves the bias and lets the processor do it.
    let value = f32::from_bits(magnitude) * f32::from_bits(0x7780_0000);
    let value = if bits & 0x7c00 == 0x7c00 { f32::from_bits(magnitude | 0x7f80_0000) } else { value };
    f32::from_bits(value.to_bits() | sign)
}

/// The nearest half, ties to even; too large becomes infinite.
#[inline(always)]
pub fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let (sign, magnitude) = ((bits >> 16) as u16 & 0x8000, bits & 0x7fff_ffff);
    let rounded = if magnitude > 0x7f80_0000 {
        0x7e00
    } else if magnitude >= 0x4780_0000 {
        0x7c00
    } else if magnitude < 0x3880_0000 {
        // Below the normal halves: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits.
        (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3f00_0000)
    } else {
        (magnitude - 0x3800_0000 + 0x0fff + (magnitude >> 13 & 1)) >> 13
    };
    sign | rounded as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives_the_way_to_f32_and_back() {
        for bits in 0..=u16::MAX {
            let wide = f16_to_f32(bits);
            if wide.is_nan() {
                assert!(bits & 0x7c00 == 0x7c00 && bits & 0x3ff != 0);
                continue;
            }
            assert_eq!(f32_to_f16(wide), bits, "{bits:#06x} = {wide}");
            let exponent = i32::from(bits >> 10 & 0x1f);
            let fraction = f64::from(bits & 0x3ff);
            let expect = match exponent {
                0 => fraction * 2f64.powi(-24),
                31 => f64::INFINITY,
                e => (1.0 + fraction / 1024.0) * 2f64.powi(e - 15),
            };
            assert_eq!(f64::from(wide.abs()), expect, "{bits:#06x}");
            assert_eq!(wide.is_sign_negative(), bits & 0x8000 != 0);
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_half_and_to_even_at_a_tie() {
        for bits in 0..0x7bffu16 {
            let (low, high) = (f16_to_f32(bits), f16_to_f32(bits + 1));
            let middle = f32::midpoint(low, high);
            let even = if bits & 1 == 0 { bits } else { bits + 1 };
            assert_eq!(f32_to_f16(middle), even);
            assert_eq!(f32_to_f16(f32::from_bits(middle.to_bits() - 1)), bits);
            assert_eq!(f32_to_f16(f32::from_bits(middle.to_bits() + 1)), bits + 1);
        }
        assert_eq!(
            [65_519.9, 65_520.0, 1e9, f32::INFINITY].map(f32_to_f16),
            [0x7bff, 0x7c00, 0x7c00, 0x7c00]
        );
        assert!(f16_to_f32(f32_to_f16(f32::NAN)).is_nan());
    }
}
