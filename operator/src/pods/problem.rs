//! What is wrong with a pod, in words that stay the same while the cause does.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use kube::ResourceExt;

use super::{is_ready, unschedulable};
use crate::crd::Reason;

/// Why a pod does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Of the conditions that it keeps from holding.
    pub reason: Reason,
    /// What follows "pod NAME".
    pub message: String,
}

/// What keeps a pod from serving, beside the time that it needs; `None` where it is ready or on its way. `lost` is what
/// lost nodes do to pods, by name: what such a node has said of a pod, or does not say of its end, is of no interest.
#[must_use]
pub fn problem(pod: &Pod, lost: &BTreeMap<String, Problem>) -> Option<Problem> {
    if is_ready(pod) {
        return None;
    }
    if let Some(lost) = lost.get(&pod.name_any()) {
        return Some(lost.clone());
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    if let Some(condition) = unschedulable(pod) {
        let why = condition.message.as_deref().unwrap_or("the scheduler does not say why");
        return Some(Problem { reason: Reason::Unschedulable, message: format!("fits no node: {why}") });
    }
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() == Some("Failed") {
        let why = [&status.reason, &status.message].into_iter().flatten().cloned().collect::<Vec<_>>();
        return Some(Problem {
            reason: Reason::PodFailed,
            message: format!("has failed: {}", why.join(", ")),
        });
    }
    status.container_statuses.iter().flatten().find_map(|container| of_container(pod, container))
}

fn of_container(pod: &Pod, container: &ContainerStatus) -> Option<Problem> {
    let terminated = |state: &Option<ContainerState>| state.as_ref()?.terminated.clone();
    let ended = terminated(&container.state).or_else(|| terminated(&container.last_state));
    if let Some(ended) = &ended
        && ended.reason.as_deref() == Some("OOMKilled")
    {
        let limit = memory_limit(pod).map(|limit| format!(" of {limit}")).unwrap_or_default();
        let message = format!("was killed because it used more memory than its limit{limit} (OOMKilled)");
        return Some(Problem { reason: Reason::OutOfMemory, message });
    }
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let message = waiting.and_then(|waiting| waiting.message.clone()).unwrap_or_default();
    match waiting.and_then(|waiting| waiting.reason.as_deref()) {
        Some("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull") => {
            let why = pull_error(&message);
            let message = format!("cannot get its image {}: {why}", container.image);
            Some(Problem { reason: Reason::ImagePull, message })
        }
        Some("CrashLoopBackOff") => {
            let code = ended.map(|ended| format!(": it ends with exit code {}", ended.exit_code));
            let message = format!("crashes again and again{}", code.unwrap_or_default());
            Some(Problem { reason: Reason::CrashLoop, message })
        }
        Some(reason @ ("CreateContainerConfigError" | "CreateContainerError" | "RunContainerError")) => {
            Some(Problem {
                reason: Reason::ContainerNotStarted,
                message: format!("does not start: {reason}: {message}"),
            })
        }
        _ => None,
    }
}

/// The kubelet alternates between an error and a pause after it, which repeats the error behind a colon.
fn pull_error(message: &str) -> &str {
    let after = message.split_once("ErrImagePull: ").map_or(message, |(_, why)| why);
    if after.is_empty() { "the kubelet does not say why" } else { after }
}

fn memory_limit(pod: &Pod) -> Option<String> {
    let container = pod.spec.as_ref()?.containers.first()?;
    Some(container.resources.as_ref()?.limits.as_ref()?.get("memory")?.0.clone())
}
