//! What the vector kernels of all instruction sets share: which kernel meets which layout.
//!
//! ```text
//! float weights ────────────────────────────▶ float   one, two or four raw rows × up to four activation rows
//! quantised, raw, one activation row ───────▶ rows    two raw rows × one activation row
//! quantised, packed ────────────────────────▶ panels  one or two panels × up to four activation rows
//! quantised, raw, several activation rows ──▶ packs the panel pair into scratch, then panels
//! ```

use std::cell::RefCell;
use std::ops::Range;

use crate::activations::{Activations, BATCH, Batch};
use crate::buffer::Buffer;
use crate::matmul::Output;
use crate::matrix::{Matrix, PANEL};
use crate::pack::pack_panel;
use crate::weight_type::{Family, WeightType};

/// Outputs of one panel for a batch of activation rows.
pub(crate) type PanelOutput = [[f32; PANEL]; BATCH];

/// Outputs of up to four raw rows of a float type for a batch of activation rows.
pub(crate) type FloatOutput = [[f32; BATCH]; 4];

/// How far ahead of their reads kernels ask for weights: pages of 4 KiB stop the processor's own prefetcher, two of them ahead
/// was the best distance measured.
pub(crate) const PREFETCH: usize = 8192;

/// The same for kernels that read `rows` rows of `row_bytes` at once: ahead of the first must not be where the second is.
pub(crate) fn prefetch_of(rows: usize, row_bytes: usize) -> usize {
    let together = rows * row_bytes;
    if (PREFETCH..=4 * PREFETCH).contains(&together) { together } else { PREFETCH }
}

/// The kernels of one instruction set.
pub(crate) trait Kernels {
    /// Two raw rows of a quantised type times the one row of `x`: while one waits for its sum, the other goes on.
    ///
    /// # Safety
    /// The processor has the instructions; `rows` and `x` have the same number of blocks of `ty`; `x` has one row.
    unsafe fn rows(ty: WeightType, rows: [&[u8]; 2], x: &Batch) -> [f32; 2];

    /// One or two packed panels times the rows of `x`. `stream`: the panels come from memory for the first time.
    ///
    /// # Safety
    /// The processor has the instructions; the panels and `x` have the same number of blocks of `ty`.
    unsafe fn panels(ty: WeightType, panels: &[&[u8]], x: &Batch, stream: bool, out: &mut [PanelOutput; 2]);

    /// One, two or four raw rows of a float type times one to four rows of activations.
    ///
    /// # Safety
    /// The processor has the instructions; all rows have the same number of values.
    unsafe fn float(ty: WeightType, rows: &[&[u8]], x: &[&[f32]], out: &mut FloatOutput);
}

/// Computes the outputs of some weight rows for all activation rows; the range starts at a panel and ends at one or at the last row.
///
/// # Safety
/// The processor has the instructions of `K`; `w` and `x` are of the same width.
pub(crate) unsafe fn rows<K: Kernels>(w: &Matrix, x: &Activations, rows: Range<usize>, out: &Output) {
    let family = w.weight_type().family();
    match w.raw_bytes() {
        // SAFETY: by this function's contract.
        Some(bytes) if family == Family::Float => unsafe { float_rows::<K>(w, bytes, x, rows, out) },
        Some(bytes) if x.rows() == 1 => {
            let (ty, x, size) = (w.weight_type(), x.form(family).batch(0), w.row_bytes());
            for n in rows.clone().step_by(2) {
                let pair = [n, (n + 1).min(rows.end - 1)];
                // SAFETY: by this function's contract; the rows and `x` have `cols` values.
                let sums = unsafe { K::rows(ty, pair.map(|n| &bytes[n * size..(n + 1) * size]), &x) };
                out.set(0, pair[1], sums[1]);
                out.set(0, pair[0], sums[0]);
            }
        }
        // SAFETY: by this function's contract.
        _ => unsafe { panel_rows::<K>(w, x, rows, out) },
    }
}

/// # Safety
/// As [`rows`]; `bytes` are the raw bytes of `w`.
unsafe fn float_rows<K: Kernels>(
    w: &Matrix,
    bytes: &[u8],
    x: &Activations,
    rows: Range<usize>,
    out: &Output,
) {
    /// Weight rows that stay in the cache while all activation rows pass.
    const STAY: usize = 16;
    let (ty, size, cols) = (w.weight_type(), w.row_bytes(), w.cols());
    let most = if x.rows() <= BATCH { 2 } else { 4 };
    let mut sums = [[0.0; BATCH]; 4];
    for first in rows.clone().step_by(STAY) {
        let end = rows.end.min(first + STAY);
        for (i, x) in x.values().chunks(BATCH * cols).enumerate() {
            let mut batch: [&[f32]; BATCH] = [&[]; BATCH];
            let count = x.len() / cols;
            batch.iter_mut().zip(x.chunks_exact(cols)).for_each(|(place, row)| *place = row);
            let mut n = first;
            while n < end {
                let together = 1 << (end - n).min(most).ilog2();
                let weights: [&[u8]; 4] =
                    std::array::from_fn(|t| &bytes[(n + t % together) * size..][..size]);
                // SAFETY: by this function's contract; every row has `cols` values.
                unsafe { K::float(ty, &weights[..together], &batch[..count], &mut sums) };
                for (t, sums) in sums[..together].iter().enumerate() {
                    sums[..count].iter().enumerate().for_each(|(r, sum)| out.set(i * BATCH + r, n + t, *sum));
                }
                n += together;
            }
        }
    }
}

thread_local! {
    /// Two panels of raw rows, packed when several activation rows meet them.
    static SCRATCH: RefCell<Buffer<u8>> = const { RefCell::new(Buffer::new()) };
}

/// # Safety
/// As [`rows`].
unsafe fn panel_rows<K: Kernels>(w: &Matrix, x: &Activations, rows: Range<usize>, out: &Output) {
    let (ty, size, form) = (w.weight_type(), w.panel_bytes(), x.form(w.weight_type().family()));
    // Two panels share the loads of activations; but while weights come from memory, one stream of them is faster.
    let together = if form.batches() > 2 { 2 } else { 1 };
    let mut sums = [[[0.0; PANEL]; BATCH]; 2];
    for n in rows.clone().step_by(together * PANEL) {
        let count = (rows.end - n).div_ceil(PANEL).min(together);
        with_panels(w, n / PANEL, count, |bytes| {
            let (first, second) = bytes.split_at(size);
            let panels = &[first, second][..count];
            for i in 0..form.batches() {
                let x = form.batch(i);
                // SAFETY: by this function's contract; panels and batch have `cols` values a row.
                unsafe { K::panels(ty, panels, &x, i == 0, &mut sums) };
                for (t, sums) in sums[..count].iter().enumerate() {
                    let n = n + t * PANEL;
                    for (r, sums) in sums[..x.rows].iter().enumerate() {
                        let outputs = sums[..(rows.end - n).min(PANEL)].iter().enumerate();
                        outputs.for_each(|(j, sum)| out.set(i * BATCH + r, n + j, *sum));
                    }
                }
            }
        });
    }
}

/// Hands on `count` panels from `first` on, packed.
fn with_panels(w: &Matrix, first: usize, count: usize, work: impl FnOnce(&[u8])) {
    let range = first * w.panel_bytes()..(first + count) * w.panel_bytes();
    if let Some(panels) = w.panels() {
        return work(&panels[range]);
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let bytes = w.raw_bytes().unwrap_or_default();
        scratch.resize(range.len());
        // Rows beyond the last keep what was there: their outputs are not looked at.
        let rows = bytes[range.start..range.end.min(bytes.len())].chunks(w.panel_bytes());
        rows.zip(scratch.chunks_exact_mut(w.panel_bytes())).for_each(|(rows, panel)| {
            pack_panel(w.weight_type(), w.row_bytes(), rows, panel);
        });
        work(scratch);
    });
}
