//! What holds for all ShardClusters of this operator.

/// Read once, from flags and variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The release's node image.
    pub node_image: String,
    /// What the tag of its CUDA variant has more.
    pub cuda_suffix: String,
    /// Whether ShardClusters without an image of their own follow the release's.
    pub auto_upgrade: bool,
    /// Where the operator runs: its pods read the gateways' pipeline objects.
    pub namespace: String,
    /// Whose pods may read metrics.
    pub monitoring_namespaces: Vec<String>,
    /// Whose ShardClusters are reconciled; `None` is all.
    pub watch_namespace: Option<String>,
    /// ShardClusters that are reconciled at the same time.
    pub concurrency: u16,
}

#[cfg(test)]
impl Settings {
    /// As flags have them that say nothing, but for the image.
    pub(crate) fn example() -> Self {
        Self {
            node_image: "node:1".into(),
            cuda_suffix: "-cuda".into(),
            auto_upgrade: false,
            namespace: "operator".into(),
            monitoring_namespaces: Vec::new(),
            watch_namespace: None,
            concurrency: 1,
        }
    }
}
