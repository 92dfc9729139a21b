//! What is not written as it is wanted, yet. [`crate::rollout`] decides on it.

/// What is there and is not to be written, and what has to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// StatefulSets whose templates stay as they are, with what stands beside them: those that the new plan does not
    /// have, until its columns have taken over, and all while its manifest is not known.
    pub sets: Vec<HeldSet>,
    /// Pods that wait for what their template does not ask for any more.
    pub stuck: Vec<StuckPod>,
}

impl Held {
    /// Whether a StatefulSet's template stays.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        self.sets.iter().any(|set| set.name == name)
    }
}

/// A StatefulSet whose template and partition stay as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldSet {
    /// Its name.
    pub name: String,
    /// Pods that it is to have.
    pub replicas: u32,
}

/// A pod as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StuckPod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: Option<String>,
    /// Its version: one that has become ready since is another.
    pub version: Option<String>,
}
