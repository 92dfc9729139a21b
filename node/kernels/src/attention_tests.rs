use super::*;
use crate::half::{f16_to_f32, f32_to_f16};
use crate::isa::{self, Isa};
use crate::kv::KvDtype;
use proptest::prelude::*;

/// Values in -1..1 from a counter.
fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mix =
        |i: u64| (i ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d);
    (0..len as u64).map(|i| (mix(i + 1) >> 33 & 0xffff) as f32 / 32768.0 - 1.0).collect()
}

/// A sequence's queries, keys and values for every position.
#[derive(Debug)]
struct Case {
    shape: KvShape,
    heads: usize,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Case {
    fn new(kv_heads: usize, group: usize, head_size: usize, positions: usize, seed: u64) -> Self {
        let shape = KvShape { heads: kv_heads, head_size };
        let width = positions * shape.width();
        Self {
            shape,
            heads: kv_heads * group,
            queries: numbers(width * group, seed),
            keys: numbers(width, seed ^ 0x1111),
            values: numbers(width, seed ^ 0x2222),
        }
    }

    fn positions(&self) -> usize {
        self.keys.len() / self.shape.width()
    }

    fn cache(&self, dtype: KvDtype, positions: usize) -> KvCache {
        let mut cache = KvCache::new(self.shape, dtype, self.positions()).unwrap();
        let width = self.shape.width();
        for (p, (key, value)) in
            self.keys.chunks(width).zip(self.values.chunks(width)).enumerate().take(positions)
        {
            cache.write(p, key, value);
        }
        cache
    }

    fn queries(&self, rows: std::ops::Range<usize>) -> &[f32] {
        let width = self.heads * self.shape.head_size;
        &self.queries[rows.start * width..rows.end * width]
    }

    /// All rows in one call.
    fn whole(&self, dtype: KvDtype) -> Vec<f32> {
        let rows = self.positions();
        let mut out = vec![f32::NAN; self.queries.len()];
        let cache = self.cache(dtype, rows);
        let sequence = Sequence { cache: &cache, start: 0, rows };
        attend(&Pool::new(1), self.heads, &[sequence], &self.queries, out.len() / rows, &mut out);
        out
    }
}

fn case() -> impl Strategy<Value = Case> {
    (1usize..4, 1usize..6, 1usize..70, 1usize..60, any::<u64>())
        .prop_map(|(kv, group, size, positions, seed)| Case::new(kv, group, size, positions, seed))
}

fn dtype() -> impl Strategy<Value = KvDtype> {
    prop_oneof![Just(KvDtype::F32), Just(KvDtype::F16)]
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|v| v.to_bits()).collect()
}

proptest! {
    #[test]
    fn agrees_with_double_precision(case in case(), dtype in dtype()) {
        let stored = |v: &f32| f64::from(match dtype {
            KvDtype::F32 => *v,
            KvDtype::F16 => f16_to_f32(f32_to_f16(*v)),
        });
        let (size, width) = (case.shape.head_size, case.shape.width());
        let (keys, values): (Vec<f64>, Vec<f64>) =
            (case.keys.iter().map(stored).collect(), case.values.iter().map(stored).collect());
        let out = case.whole(dtype);
        for (n, (query, out)) in case.queries.chunks(size).zip(out.chunks(size)).enumerate() {
            let (row, head) = (n / case.heads, n % case.heads);
            let kv = head / (case.heads / case.shape.heads) * size;
            let at = |all: &[f64], position: usize| all[position * width + kv..][..size].to_vec();
            let weights: Vec<f64> = (0..=row)
                .map(|p| at(&keys, p).iter().zip(query).map(|(k, q)| k * f64::from(*q)).sum::<f64>())
                .map(|score| (score / (size as f64).sqrt()).exp())
                .collect();
            let total: f64 = weights.iter().sum();
            for (d, out) in out.iter().enumerate() {
                let expect = (0..=row).map(|p| weights[p] / total * at(&values, p)[d]).sum::<f64>();
                prop_assert!((f64::from(*out) - expect).abs() < 5e-6, "row {row} head {head}: {out} {expect}");
            }
        }
    }

    /// Tier, threads, chunk sizes and what else is in the batch do not change a bit.
    #[test]
    fn bits_do_not_depend_on_company(case in case(), dtype in dtype(), chunk in 1usize..20, threads in 1usize..4) {
        let expect = bits(&case.whole(dtype));
        for tier in Isa::available() {
            prop_assert_eq!(&bits(&isa::with(tier, || case.whole(dtype))), &expect, "{:?}", tier);
        }
        let pool = Pool::new(threads);
        let other = Case { queries: case.queries.clone(), keys: case.values.clone(), values: case.keys.clone(), ..case };
        let other_cache = other.cache(dtype, other.positions());
        let mut got = Vec::new();
        for start in (0..case.positions()).step_by(chunk) {
            let end = (start + chunk).min(case.positions());
            let cache = case.cache(dtype, end);
            let last = other.positions() - 1;
            let company = Sequence { cache: &other_cache, start: last, rows: 1 };
            let sequence = Sequence { cache: &cache, start, rows: end - start };
            let rows = [other.queries(last..last + 1), case.queries(start..end), other.queries(last..last + 1)].concat();
            let width = case.heads * case.shape.head_size;
            // As the engine has them: keys and values follow the queries of each row.
            let queries: Vec<f32> = rows.chunks(width).flat_map(|row| [row, &[f32::NAN; 3]].concat()).collect();
            let mut out = vec![f32::NAN; rows.len()];
            attend(&pool, case.heads, &[company, sequence, company], &queries, width + 3, &mut out);
            got.extend_from_slice(&out[width..out.len() - width]);
        }
        prop_assert_eq!(bits(&got), expect);
    }
}

/// Long enough that the units go to several threads.
#[test]
fn threads_change_no_bit() {
    let case = Case::new(3, 5, 40, 200, 11);
    let cache = case.cache(KvDtype::F16, 200);
    let sequence = Sequence { cache: &cache, start: 0, rows: 200 };
    let mut out = vec![f32::NAN; case.queries.len()];
    attend(&Pool::new(3), case.heads, &[sequence], &case.queries, 15 * 40, &mut out);
    assert_eq!(bits(&out), bits(&case.whole(KvDtype::F16)));
}

/// More than any address space has.
#[test]
fn memory_that_is_not_there_is_refused() {
    let shape = KvShape { heads: 8, head_size: 128 };
    for positions in [1 << 50, usize::MAX] {
        assert!(KvCache::new(shape, KvDtype::F16, positions).is_none());
    }
}

/// What lies beyond the rows (an earlier epoch's values) does not matter.
#[test]
fn stale_positions_are_not_read() {
    let case = Case::new(2, 2, 24, 20, 3);
    let mut cache = case.cache(KvDtype::F32, 20);
    let poison = vec![f32::NAN; case.shape.width()];
    (11..20).for_each(|position| cache.write(position, &poison, &poison));
    let width = case.heads * case.shape.head_size;
    let mut out = vec![0.0; 11 * width];
    let sequence = Sequence { cache: &cache, start: 0, rows: 11 };
    attend(&Pool::new(1), case.heads, &[sequence], case.queries(0..11), width, &mut out);
    assert_eq!(bits(&out), bits(&case.whole(KvDtype::F32)[..11 * width]));
}
