//! Causal attention of rows of several sequences over their cached keys and values.
//!
//! ```text
//! attend:  for every (sequence, some of its rows, kv head)            one unit of the pool
//!            for four queries at a time (rows × query heads of the kv head)
//!              score:   q · k for 16 positions at once, summed over the head's elements in order
//!              softmax: over the positions that the query sees, no other
//!              mix:     Σ weight × value, summed over the positions in order
//! ```
//!
//! What a query gets depends on itself and the positions before it alone: which queries share a unit changes which
//! loads are shared, not one operation on its numbers.

use std::cell::RefCell;

use crate::kv::{BLOCK, Element, KvCache, KvShape, Values};
use crate::lanes::{LANES, Lanes};
use crate::ops::softmax_body;
use crate::pool::{Pool, Shareable};
use crate::vector::{Baseline, Vector};

/// Rows of one unit: enough to share the loads of keys and values, few enough to feed all threads.
const ROWS: usize = 8;
/// Queries whose sums stay in registers together.
const QUERIES: usize = 4;
/// Products of scores below which waking other threads costs more than they save: some microseconds of one.
const SMALL: usize = 1 << 17;

/// Consecutive rows of one sequence; their keys and values are in the cache already.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// Keys and values of all positions up to the last row.
    pub cache: &'a KvCache,
    /// Position of the first row; row `i` sees the positions `0..=start + i`.
    pub start: usize,
    /// How many rows.
    pub rows: usize,
}

/// Fills `out`, `[rows of all sequences, heads * head_size]`, with the attention of `queries`, `[rows, stride]`, whose
/// rows begin with the query heads.
///
/// All sequences have one [`KvShape`], whose heads divide `heads`.
///
/// # Panics
/// Where the shapes differ or a cache is shorter than its rows need.
pub fn attend(
    pool: &Pool,
    heads: usize,
    sequences: &[Sequence<'_>],
    queries: &[f32],
    stride: usize,
    out: &mut [f32],
) {
    let Some(shape) = sequences.first().map(|s| s.cache.shape) else { return };
    let width = heads * shape.head_size;
    let rows: usize = sequences.iter().map(|s| s.rows).sum();
    assert!(width <= stride && queries.len() == rows * stride, "queries of {rows} rows of {stride}");
    assert!(out.len() == rows * width, "attention of {rows} rows of {width}");
    assert!(heads.is_multiple_of(shape.heads), "{heads} heads over {} kv heads", shape.heads);

    let mut units = Vec::new();
    let mut first_row = 0;
    for sequence in sequences {
        assert!(sequence.cache.shape == shape, "sequences of different shapes");
        assert!(sequence.start + sequence.rows <= sequence.cache.capacity(), "rows beyond the cache");
        for skipped in (0..sequence.rows).step_by(ROWS) {
            let rows = ROWS.min(sequence.rows - skipped);
            let unit = |kv_head| Unit {
                sequence,
                kv_head,
                first_row: first_row + skipped,
                rows,
                start: sequence.start + skipped,
            };
            units.extend((0..shape.heads).map(unit));
        }
        first_row += sequence.rows;
    }

    let products: usize = units.iter().map(|unit| (unit.start + unit.rows) * unit.rows).sum();
    let few = products * heads / shape.heads * shape.head_size < SMALL;
    let out = Shareable::new(out.as_mut_ptr());
    let work = |index: usize| {
        let Unit { sequence, kv_head, first_row, rows, start } = units[index];
        let group = heads / shape.heads;
        let mut of_unit = (0..rows).flat_map(|row| (0..group).map(move |g| (row, g))).map(|(row, g)| {
            let (batch_row, head) = (first_row + row, (kv_head * group + g) * shape.head_size);
            // SAFETY: one head of one row of `out`, inside it by the assertion above, belongs to this unit alone;
            // `out` stays borrowed until `run` returns.
            let out = unsafe {
                std::slice::from_raw_parts_mut(out.get().add(batch_row * width + head), shape.head_size)
            };
            let query = &queries[batch_row * stride + head..][..shape.head_size];
            Query { keys: start + row + 1, query, out }
        });
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                let mut quad: Vec<Query<'_>> = of_unit.by_ref().take(QUERIES).collect();
                if quad.is_empty() {
                    break;
                }
                match &sequence.cache.values {
                    Values::F32(cache) => attend_quad(shape, cache, kv_head, &mut quad, scratch),
                    Values::F16(cache) => attend_quad(shape, cache, kv_head, &mut quad, scratch),
                }
            }
        });
    };
    if few { (0..units.len()).for_each(work) } else { pool.run(units.len(), work) }
}

#[derive(Clone, Copy)]
struct Unit<'a> {
    sequence: &'a Sequence<'a>,
    kv_head: usize,
    first_row: usize,
    rows: usize,
    start: usize,
}

/// One head of one row.
struct Query<'a> {
    /// Positions that it sees.
    keys: usize,
    query: &'a [f32],
    out: &'a mut [f32],
}

#[derive(Default)]
struct Scratch {
    /// `[queries][positions, rounded up to blocks]`.
    scores: Vec<f32>,
    /// `[queries][padded head]`.
    mixed: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Attention of up to [`QUERIES`] queries of one kv head, with the best instructions at hand.
fn attend_quad<T: Element>(
    shape: KvShape,
    cache: &[T],
    head: usize,
    queries: &mut [Query<'_>],
    scratch: &mut Scratch,
) {
    #[cfg(target_arch = "x86_64")]
    {
        use crate::isa::Isa;
        use crate::vector::{Avx2, Avx512};

        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
        fn avx512<T: Element>(
            shape: KvShape,
            cache: &[T],
            head: usize,
            queries: &mut [Query<'_>],
            scratch: &mut Scratch,
        ) {
            // SAFETY: this function has the features of the vectors.
            unsafe { quad::<Avx512, T>(shape, cache, head, queries, scratch) }
        }
        #[target_feature(enable = "avx2,f16c")]
        fn avx2<T: Element>(
            shape: KvShape,
            cache: &[T],
            head: usize,
            queries: &mut [Query<'_>],
            scratch: &mut Scratch,
        ) {
            // SAFETY: this function has the features of the vectors.
            unsafe { quad::<Avx2, T>(shape, cache, head, queries, scratch) }
        }
        match crate::isa::current() {
            // SAFETY: the processor has the features, as `isa` found.
            Isa::Avx512 => return unsafe { avx512(shape, cache, head, queries, scratch) },
            // SAFETY: as above.
            Isa::Avx2 => return unsafe { avx2(shape, cache, head, queries, scratch) },
            Isa::Baseline => {}
        }
    }
    // SAFETY: no instructions beyond the compiler's target.
    unsafe { quad::<Baseline, T>(shape, cache, head, queries, scratch) }
}

/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn quad<V: Vector, T: Element>(
    shape: KvShape,
    cache: &[T],
    head: usize,
    queries: &mut [Query<'_>],
    scratch: &mut Scratch,
) {
    let padded = shape.padded();
    let most = queries.iter().map(|q| q.keys).max().unwrap_or(0);
    let stride = most.next_multiple_of(BLOCK);
    scratch.scores.resize((QUERIES * stride).max(scratch.scores.len()), 0.0);
    scratch.mixed.clear();
    scratch.mixed.resize(QUERIES * padded, 0.0);
    let blocks = || cache.chunks_exact(shape.block()).map(|b| &b[head * shape.head_block()..]);

    let count = queries.len();
    // A missing query repeats the first one: its scores are not used.
    let of = |i: usize| queries[if i < count { i } else { 0 }].query;
    let four = [of(0), of(1), of(2), of(3)];
    for (b, block) in blocks().take(stride / BLOCK).enumerate() {
        let keys = &block[..BLOCK * shape.head_size];
        // SAFETY: by this function's contract.
        let scores = unsafe { score::<V, T>(four, keys) };
        for (i, scores) in scores.iter().enumerate() {
            scratch.scores[i * stride + b * BLOCK..][..BLOCK].copy_from_slice(scores);
        }
    }

    let scale = 1.0 / (shape.head_size as f32).sqrt();
    for (query, scores) in queries.iter().zip(scratch.scores.chunks_exact_mut(stride)) {
        softmax_body(&mut scores[..query.keys], scale);
    }

    let all = queries.iter().map(|q| q.keys).min().unwrap_or(0);
    for (b, block) in blocks().take(stride / BLOCK).enumerate() {
        let values = block[BLOCK * shape.head_size..shape.head_block()].as_chunks::<LANES>().0;
        let weights = &scratch.scores[b * BLOCK..];
        if count == QUERIES && (b + 1) * BLOCK <= all {
            // SAFETY: by this function's contract.
            unsafe { mix::<V, T, QUERIES>(weights, stride, values, &mut scratch.mixed, BLOCK) };
        } else {
            for (i, query) in queries.iter().enumerate() {
                let seen = query.keys.saturating_sub(b * BLOCK).min(BLOCK);
                let mixed = &mut scratch.mixed[i * padded..][..padded];
                // SAFETY: by this function's contract.
                unsafe { mix::<V, T, 1>(&weights[i * stride..], stride, values, mixed, seen) };
            }
        }
    }
    for (query, mixed) in queries.iter_mut().zip(scratch.mixed.chunks_exact(padded)) {
        query.out.copy_from_slice(&mixed[..shape.head_size]);
    }
}

/// `q · k` of one block's positions; `keys` is `[head size][BLOCK]`.
///
/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn score<V: Vector, T: Element>(queries: [&[f32]; QUERIES], keys: &[T]) -> [Lanes; QUERIES] {
    // SAFETY: by this function's contract.
    let mut sums = [unsafe { V::splat(0.0) }; QUERIES];
    let [q0, q1, q2, q3] = queries;
    let elements = q0.iter().zip(q1).zip(q2).zip(q3);
    for (keys, (((q0, q1), q2), q3)) in keys.as_chunks::<BLOCK>().0.iter().zip(elements) {
        // SAFETY: by this function's contract.
        unsafe {
            let keys = T::load::<V>(keys);
            let [s0, s1, s2, s3] = &mut sums;
            *s0 = s0.add_product(V::splat(*q0), keys);
            *s1 = s1.add_product(V::splat(*q1), keys);
            *s2 = s2.add_product(V::splat(*q2), keys);
            *s3 = s3.add_product(V::splat(*q3), keys);
        }
    }
    let mut scores = [[0.0; LANES]; QUERIES];
    for (sums, scores) in sums.into_iter().zip(&mut scores) {
        // SAFETY: by this function's contract.
        unsafe { sums.store(scores) };
    }
    scores
}

/// `mixed += weight × value` over the first `seen` positions of one block, for `N` queries; `values` is
/// `[BLOCK][registers]`, `weights` `[N][stride]`, `mixed` `[N][registers]` in lanes.
///
/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn mix<V: Vector, T: Element, const N: usize>(
    weights: &[f32],
    stride: usize,
    values: &[[T; LANES]],
    mixed: &mut [f32],
    seen: usize,
) {
    let mixed = mixed.as_chunks_mut::<LANES>().0;
    let registers = values.len() / BLOCK;
    let weights: [&[f32]; N] = std::array::from_fn(|i| &weights[i * stride..][..seen]);
    for register in 0..registers {
        // SAFETY: by this function's contract.
        unsafe {
            let mut sums: [V; N] = std::array::from_fn(|i| V::load(&mixed[i * registers + register]));
            for (position, values) in values.chunks_exact(registers).take(seen).enumerate() {
                let value = T::load::<V>(&values[register]);
                for (sum, weights) in sums.iter_mut().zip(&weights) {
                    *sum = sum.add_product(V::splat(weights[position]), value);
                }
            }
            for (i, sum) in sums.into_iter().enumerate() {
                sum.store(&mut mixed[i * registers + register]);
            }
        }
    }
}

#[cfg(test)]
#[path = "attention_tests.rs"]
mod tests;
