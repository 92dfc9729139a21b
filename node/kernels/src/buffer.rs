//! Growable memory on cache-line boundaries, for vector loads and for sharing between threads.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Plain numbers: every bit pattern is a value, none has padding.
///
/// # Safety
/// Implement only for such types, with an alignment of at most 64 that divides it.
pub(crate) unsafe trait Number: Copy {}
// SAFETY: primitive numbers.
unsafe impl Number for u8 {}
// SAFETY: primitive numbers.
unsafe impl Number for i8 {}
// SAFETY: primitive numbers.
unsafe impl Number for i16 {}
// SAFETY: primitive numbers.
unsafe impl Number for i32 {}
// SAFETY: primitive numbers.
unsafe impl Number for f32 {}

/// A slice of numbers that starts on a 64-byte boundary and keeps its memory when it is resized.
pub(crate) struct Buffer<T> {
    lines: Vec<Line>,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Number> Buffer<T> {
    pub(crate) const fn new() -> Self {
        Self { lines: Vec::new(), len: 0, of: PhantomData }
    }

    /// Makes it `len` numbers long. What was in it is kept or zero, in no particular order: fill it anew.
    pub(crate) fn resize(&mut self, len: usize) {
        let lines = (len * size_of::<T>()).div_ceil(size_of::<Line>());
        if lines > self.lines.len() {
            self.lines.clear();
            self.lines.resize(lines, Line([0; 64]));
        }
        self.len = len;
    }
}

impl<T: Number> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `resize` made at least `len` numbers of initialised memory, aligned to 64; every bit pattern is a `T`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl<T> Default for Buffer<T>
where
    T: Number,
{
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer[{}]", self.len)
    }
}
