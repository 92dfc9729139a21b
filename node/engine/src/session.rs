//! What one request keeps on one shard: keys and values of its positions, and how many there are.

use std::ops::Range;

use shard_kernels::kv::{KvCache, KvDtype, KvShape};

/// Why a session was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// A session of no positions.
    #[error("a session needs room for at least one position")]
    Empty,
    /// More positions than the model's context (or the operator's limit) has.
    #[error("a session of {asked} positions exceeds the context of {context}")]
    BeyondContext {
        /// Positions asked for.
        asked: usize,
        /// Positions of the context.
        context: usize,
    },
    /// The system has no memory for that many.
    #[error("no memory for a session of {asked} positions: {bytes} bytes of keys and values")]
    Memory {
        /// Positions asked for.
        asked: usize,
        /// Bytes that they take.
        bytes: usize,
    },
    /// Back to a position that was never reached.
    #[error("cannot go back to position {to}: the session is at {at}")]
    NotReached {
        /// The position asked for.
        to: usize,
        /// The session's next position.
        at: usize,
    },
    /// The device has no room, or failed.
    #[cfg(feature = "candle")]
    #[error("the device refused a session of {asked} positions: {reason}")]
    Device {
        /// Positions asked for.
        asked: usize,
        /// The device's words.
        reason: String,
    },
}

/// Keys and values of one sequence on one shard, made by [`crate::ShardModel::session`] (or a `DeviceModel`'s).
#[derive(Debug)]
pub struct Session {
    /// Of every layer of the shard, in order; none where they are on a device.
    caches: Vec<KvCache>,
    #[cfg(feature = "candle")]
    device: Vec<crate::device::Cache>,
    layers: Range<usize>,
    shape: KvShape,
    position: usize,
    admitted: usize,
}

impl Session {
    pub(crate) fn new(
        layers: Range<usize>,
        shape: KvShape,
        dtype: KvDtype,
        positions: usize,
    ) -> Result<Self, SessionError> {
        let caches = layers.clone().map(|_| KvCache::new(shape, dtype, positions)).collect::<Option<_>>();
        let bytes = layers.len().saturating_mul(shape.bytes(dtype, positions));
        let caches = caches.ok_or(SessionError::Memory { asked: positions, bytes })?;
        Ok(Self {
            caches,
            #[cfg(feature = "candle")]
            device: Vec::new(),
            layers,
            shape,
            position: 0,
            admitted: positions,
        })
    }

    /// The next position to be computed: how many are held.
    pub fn position(&self) -> usize {
        self.position
    }

    /// How many positions it may hold.
    pub fn capacity(&self) -> usize {
        self.admitted
    }

    /// Goes back to `position`: what was held from there on is forgotten.
    pub fn truncate(&mut self, position: usize) -> Result<(), SessionError> {
        if position > self.position {
            return Err(SessionError::NotReached { to: position, at: self.position });
        }
        self.position = position;
        Ok(())
    }

    /// Forgets everything; the room stays reserved.
    pub fn reset(&mut self) {
        self.position = 0;
    }

    /// It was made by a [`crate::ShardModel`] of these layers.
    pub(crate) fn is_of(&self, layers: Range<usize>, shape: KvShape) -> bool {
        self.layers == layers && self.shape == shape && self.caches.len() == layers.len()
    }

    /// Keys and values of one layer, counted from the shard's first.
    pub(crate) fn cache(&mut self, layer: usize) -> &mut KvCache {
        &mut self.caches[layer]
    }

    #[cfg(feature = "candle")]
    pub(crate) fn on_device(
        layers: Range<usize>,
        shape: KvShape,
        device: Vec<crate::device::Cache>,
        positions: usize,
    ) -> Self {
        Self { caches: Vec::new(), device, layers, shape, position: 0, admitted: positions }
    }

    /// It was made by a [`crate::DeviceModel`] of these layers on this device.
    #[cfg(feature = "candle")]
    pub(crate) fn is_of_device(
        &self,
        layers: Range<usize>,
        shape: KvShape,
        device: &candle_core::Device,
    ) -> bool {
        self.layers == layers
            && self.shape == shape
            && self.device.len() == layers.len()
            && self.device.iter().all(|cache| cache.device().same_device(device))
    }

    /// Keys and values of one layer on the device, counted from the shard's first.
    #[cfg(feature = "candle")]
    pub(crate) fn device_cache(&self, layer: usize) -> &crate::device::Cache {
        &self.device[layer]
    }

    pub(crate) fn advance(&mut self, rows: usize) {
        self.position += rows;
    }
}
