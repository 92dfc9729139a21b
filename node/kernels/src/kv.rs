//! The keys and values of one layer of one sequence, in blocks of 16 positions.
//!
//! ```text
//! block 0                                          block 1
//! ├ kv head 0                 ├ kv head 1 …        ├ …
//! │ keys[head size][16 pos]   │
//! │ values[16 pos][padded]    │        padded = head size rounded up to 16
//! ```
//!
//! Keys lie with the positions side by side, so that 16 scores are computed at once in the lanes of one register;
//! values with a head's elements side by side, so that a weighted sum of them is, too.

use std::alloc::{Layout, alloc_zeroed};

use crate::half::f32_to_f16;
use crate::lanes::LANES;
use crate::vector::Vector;

/// Positions in a block.
pub const BLOCK: usize = LANES;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvDtype {
    /// 4 bytes, as computed.
    F32,
    /// 2 bytes, rounded to the nearest half; what a half cannot hold becomes the largest half.
    F16,
}

/// The key and value heads of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Heads of keys and values; several query heads share one.
    pub heads: usize,
    /// Elements of a head, any number.
    pub head_size: usize,
}

impl KvShape {
    /// Elements of one position's keys (and of its values): `heads * head_size`.
    pub fn width(&self) -> usize {
        self.heads * self.head_size
    }

    /// A value's elements, rounded up to whole registers.
    pub(crate) fn padded(&self) -> usize {
        self.head_size.next_multiple_of(LANES)
    }

    /// Elements of one head in one block.
    pub(crate) fn head_block(&self) -> usize {
        BLOCK * (self.head_size + self.padded())
    }

    /// Elements of one block.
    pub(crate) fn block(&self) -> usize {
        self.heads * self.head_block()
    }

    /// Bytes that [`KvCache::new`] reserves for `positions`.
    pub fn bytes(&self, dtype: KvDtype, positions: usize) -> usize {
        let size = match dtype {
            KvDtype::F32 => 4,
            KvDtype::F16 => 2,
        };
        positions.div_ceil(BLOCK).saturating_mul(self.block() * size)
    }
}

/// One layer's keys and values of one sequence.
#[derive(Clone, Debug)]
pub struct KvCache {
    pub(crate) shape: KvShape,
    pub(crate) values: Values,
}

#[derive(Clone, Debug)]
pub(crate) enum Values {
    F32(Vec<f32>),
    F16(Vec<u16>),
}

impl KvCache {
    /// Reserves whole blocks for `positions`; the system gives the memory when it is written. `None` where it refuses.
    pub fn new(shape: KvShape, dtype: KvDtype, positions: usize) -> Option<Self> {
        let len = positions.div_ceil(BLOCK).checked_mul(shape.block())?;
        let values = match dtype {
            KvDtype::F32 => Values::F32(zeroed(len)?),
            KvDtype::F16 => Values::F16(zeroed(len)?),
        };
        Some(Self { shape, values })
    }

    /// Positions there is room for.
    pub fn capacity(&self) -> usize {
        let len = match &self.values {
            Values::F32(values) => values.len(),
            Values::F16(values) => values.len(),
        };
        len / self.shape.block() * BLOCK
    }

    /// Writes the key and the value of `position`, both of [`KvShape::width`].
    ///
    /// # Panics
    /// Where a length differs or the position does not fit.
    pub fn write(&mut self, position: usize, key: &[f32], value: &[f32]) {
        let shape = self.shape;
        assert!(key.len() == shape.width() && value.len() == shape.width(), "key and value of a wrong width");
        assert!(position < self.capacity(), "position {position} of {}", self.capacity());
        match &mut self.values {
            Values::F32(cache) => write(shape, cache, position, key, value),
            Values::F16(cache) => write(shape, cache, position, key, value),
        }
    }
}

/// `len` zeros whose pages are not touched: `vec![0; len]`, but an allocator that refuses ends no process.
fn zeroed<T: Element>(len: usize) -> Option<Vec<T>> {
    let layout = Layout::array::<T>(len).ok()?;
    if layout.size() == 0 {
        return Some(Vec::new());
    }
    // SAFETY: the layout is not empty; zero bytes are a zero of both types of element; pointer, length and capacity are
    // those of the global allocator's answer, made with the layout that `Vec<T>` uses.
    unsafe {
        let at = alloc_zeroed(layout).cast::<T>();
        (!at.is_null()).then(|| Vec::from_raw_parts(at, len, len))
    }
}

fn write<T: Element>(shape: KvShape, cache: &mut [T], position: usize, key: &[f32], value: &[f32]) {
    let (block, slot) = (position / BLOCK, position % BLOCK);
    let block = &mut cache[block * shape.block()..][..shape.block()];
    let heads = key.chunks_exact(shape.head_size).zip(value.chunks_exact(shape.head_size));
    for (cache, (key, value)) in block.chunks_exact_mut(shape.head_block()).zip(heads) {
        let (keys, values) = cache.split_at_mut(BLOCK * shape.head_size);
        for (keys, key) in keys.chunks_exact_mut(BLOCK).zip(key) {
            keys[slot] = T::narrow(*key);
        }
        for (cached, value) in values[slot * shape.padded()..].iter_mut().zip(value) {
            *cached = T::narrow(*value);
        }
    }
}

/// A stored number.
pub(crate) trait Element: Copy + Send + Sync {
    fn narrow(value: f32) -> Self;
    /// # Safety
    /// The processor has the instructions of `V`.
    unsafe fn load<V: Vector>(values: &[Self; LANES]) -> V;
}

impl Element for f32 {
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        value
    }

    #[inline(always)]
    unsafe fn load<V: Vector>(values: &[Self; LANES]) -> V {
        // SAFETY: by this function's contract.
        unsafe { V::load(values) }
    }
}

impl Element for u16 {
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        // An infinite key or value would turn a whole row of scores into NaN.
        const MAX: f32 = 65_504.0;
        f32_to_f16(value.clamp(-MAX, MAX))
    }

    #[inline(always)]
    unsafe fn load<V: Vector>(values: &[Self; LANES]) -> V {
        // SAFETY: by this function's contract.
        unsafe { V::load_half(values) }
    }
}
