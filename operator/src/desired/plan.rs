//! A plan, as far as builders and the status need it. [`crate::facts`] finds out which one it is.

use shard_wire::pipeline::ManifestShard;

use crate::crd::ModelStatus;

/// A plan whose manifest is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Its short name, a hash of model, cut and wire version: nodes are told to take this one and no other.
    pub name: String,
    /// Its shards.
    pub shards: Vec<ManifestShard>,
    /// Its model.
    pub model: ModelStatus,
}

impl Plan {
    /// What the manifest says of a shard.
    #[must_use]
    pub fn shard(&self, id: u32) -> Option<&ManifestShard> {
        self.shards.iter().find(|shard| shard.shard_id == id)
    }
}
