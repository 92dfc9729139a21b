//! What a control plane is made of.

/// What runs beside etcd and the API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Makes pods of StatefulSets and Deployments, and deletes what has lost its owner.
    pub controller_manager: bool,
    /// Says of pods why they do not fit.
    pub scheduler: bool,
}

impl Parts {
    /// Everything.
    pub const ALL: Self = Self { controller_manager: true, scheduler: true };

    pub(crate) fn programs(self) -> Vec<&'static str> {
        let mut programs = vec!["etcd", "kube-apiserver", "kubectl"];
        programs.extend(self.controller_manager.then_some("kube-controller-manager"));
        programs.extend(self.scheduler.then_some("kube-scheduler"));
        programs
    }
}

/// What a control plane does beyond the usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What runs.
    pub parts: Parts,
    /// Whether the API server notes down what pods' accounts ask for: [`crate::ControlPlane::requests_of`].
    pub audit: bool,
    /// Admission plugins that some clusters have, and that are off by default.
    pub admission: &'static [&'static str],
    /// Features of the API server and the controller-manager that are off by default.
    pub feature_gates: &'static [&'static str],
}

impl From<Parts> for Options {
    fn from(parts: Parts) -> Self {
        Self { parts, ..Self::default() }
    }
}
