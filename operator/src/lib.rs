//! Reconciles `ShardCluster` resources into the pods that serve them.
