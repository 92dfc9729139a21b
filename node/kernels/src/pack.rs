//! From raw rows to a panel; the layout is told in `matrix`.

use crate::matrix::PANEL;
use crate::weight_type::WeightType;

/// Interleaves up to 16 raw rows into one panel; the places of rows that are missing keep what they hold.
pub(crate) fn pack_panel(ty: WeightType, row_bytes: usize, rows: &[u8], panel: &mut [u8]) {
    let (size, (words, half)) = (ty.block_bytes(), ty.tile_parts());
    let halves_at = words.len() * PANEL;
    for (four, rows) in rows.chunks(4 * row_bytes).enumerate() {
        for (b, tile) in panel.chunks_exact_mut(PANEL * size).enumerate() {
            if rows.len() == 4 * row_bytes {
                turn_rows(
                    &rows[b * size + words.start..],
                    row_bytes,
                    words.len() / 4,
                    &mut tile[16 * four..halves_at],
                );
            }
            for (i, row) in rows.chunks_exact(row_bytes).enumerate() {
                let (block, r) = (&row[b * size..][..size], 4 * four + i);
                if rows.len() < 4 * row_bytes {
                    for (w, word) in block[words.clone()].chunks_exact(4).enumerate() {
                        tile[(w * PANEL + r) * 4..][..4].copy_from_slice(word);
                    }
                }
                if let Some(half) = half {
                    tile[halves_at + r * 2..][..2].copy_from_slice(&block[half..half + 2]);
                }
            }
        }
    }
}

/// Four rows of `words` words, `stride` bytes apart, to `words` rows of a panel, in squares of four by four; `words` is a multiple of
/// four.
fn turn_rows(rows: &[u8], stride: usize, words: usize, out: &mut [u8]) {
    assert!(rows.len() >= 3 * stride + words * 4 && out.len() >= (words - 1) * 64 + 16);
    for first in (0..words).step_by(4) {
        if first % 16 == 0 {
            (4..8).for_each(|row| prefetch(rows.as_ptr().wrapping_add(row * stride + first * 4)));
        }
        // SAFETY: words `first..first + 4` of the four rows, there and back.
        unsafe { turn_square(rows.as_ptr().add(first * 4), stride, out.as_mut_ptr().add(first * 64)) };
    }
}

/// Asks for the cache line at `at`, which need not exist: that of the four rows after these.
#[inline]
fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing; SSE is in every processor of this architecture.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Transposes four by four words, in rows `stride` bytes apart, to rows of a panel.
///
/// # Safety
/// 16 bytes are readable at each of the four rows, writable at each of four rows of 64 bytes.
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn turn_square(rows: *const u8, stride: usize, out: *mut u8) {
    use core::arch::x86_64::*;
    // SAFETY: by this function's contract.
    unsafe {
        let row = |i: usize| _mm_loadu_si128(rows.add(i * stride).cast());
        let (a, b, c, d) = (row(0), row(1), row(2), row(3));
        let (ab, cd) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
        let (ab2, cd2) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
        _mm_storeu_si128(out.cast(), _mm_unpacklo_epi64(ab, cd));
        _mm_storeu_si128(out.add(64).cast(), _mm_unpackhi_epi64(ab, cd));
        _mm_storeu_si128(out.add(128).cast(), _mm_unpacklo_epi64(ab2, cd2));
        _mm_storeu_si128(out.add(192).cast(), _mm_unpackhi_epi64(ab2, cd2));
    }
}

/// Transposes four by four words, in rows `stride` bytes apart, to rows of a panel.
///
/// # Safety
/// 16 bytes are readable at each of the four rows, writable at each of four rows of 64 bytes.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
unsafe fn turn_square(rows: *const u8, stride: usize, out: *mut u8) {
    for (i, w) in (0..4).flat_map(|i| (0..4).map(move |w| (i, w))) {
        // SAFETY: by this function's contract.
        unsafe { rows.add(i * stride + w * 4).copy_to_nonoverlapping(out.add(w * 64 + i * 4), 4) };
    }
}
