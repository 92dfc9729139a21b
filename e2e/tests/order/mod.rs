//! What happens to one ShardCluster, in an order that a number decides, and what its status is to say at each point.

pub(crate) mod control;
pub(crate) mod expected;
pub(crate) mod record;
pub(crate) mod script;
pub(crate) mod stage;
pub(crate) mod state;

pub(crate) const SHARDS: u32 = 4;
