//! When the gateway goes over to another image. Gateways of one wire version serve no plan of another one.
//!
//! ```text
//!  no gateway has heard what the new bootstrap speaks    ─▶ the old gateway stays, unless it is in trouble
//!  it speaks as the old gateway does                     ─▶ the gateway goes
//!  it speaks otherwise ─┬─ no column of the new plan yet ─▶ the old gateway stays, and serves the plan before
//!                       └─ one serves                    ─▶ the gateway goes; the other columns wait for it
//! ```
//! Whether a gateway may go is asked only of one that is to have another image; what else is new of it is written at once.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod as KubePod, PodTemplateSpec};

use super::fleet::{Fleet, Mark, Pod, Shard};
use crate::observe::GatewayView;

/// The gateway as a rollout sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gateway {
    pub(super) wanted: Mark,
    /// The template that is there has the wanted image, or there is none.
    pub(super) has_image: bool,
    /// Whatever they serve; their ordinals mean nothing. Those of the wanted image have the wanted mark, whatever else of
    /// them is not as it is wanted.
    pub(super) pods: Vec<Pod>,
    /// It has proved that the plan which it serves is complete.
    pub(super) serves: bool,
    /// No pods of it can be created.
    pub(super) is_refused: bool,
}

/// What is known of the wire version that the wanted image speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// That of the gateway which answers; or one of both is of a release that does not say.
    Same,
    /// No gateway answers that has heard of it from the new bootstrap.
    Unheard,
    /// Another one than that of the gateway which answers.
    Other,
}

impl Wire {
    /// `starts` are those bootstrap pods that are as they are wanted: their origins tell their uids. A gateway that is
    /// silent may be so for a moment, or to this operator only.
    pub(super) fn heard(view: &GatewayView, starts: &[&KubePod]) -> Self {
        let GatewayView::Answered(pipeline) = view else { return Self::Unheard };
        let origin = &pipeline.origin;
        let is_older = pipeline.wire_version == 0 || (origin.wire_version == 0 && !origin.plan.is_empty());
        match starts.iter().any(|pod| pod.metadata.uid.as_ref() == Some(&origin.incarnation)) {
            _ if is_older => Self::Same,
            false => Self::Unheard,
            true if origin.wire_version == pipeline.wire_version => Self::Same,
            true => Self::Other,
        }
    }
}

impl Gateway {
    /// One of another image serves; or none does, and nothing is known that would keep one from it.
    fn has_old(&self) -> bool {
        match self.pods.iter().any(|pod| pod.ready) {
            true => self.pods.iter().any(|pod| pod.ready && pod.mark != self.wanted),
            false => !self.is_refused && !self.pods.iter().any(Pod::is_given_up),
        }
    }
}

/// The image of the gateway stays.
pub(super) fn stays(fleet: &Fleet) -> bool {
    let gateway = &fleet.gateway;
    if gateway.has_image || !gateway.has_old() {
        return false;
    }
    // The plan before stays, too, while that of the new one is not known.
    let is_of_use = gateway.serves || leaves_one_complete(fleet) || !fleet.known;
    let is_unheard = !fleet.bootstrap.is_settled() || fleet.wire == Wire::Unheard;
    is_unheard || (fleet.wire == Wire::Other && is_of_use && !is_served(fleet))
}

/// The plan before is not taken apart further before the gateway can serve the new one.
pub(super) fn is_awaited(fleet: &Fleet) -> bool {
    let gateway = &fleet.gateway;
    let has_old = gateway.pods.iter().any(|pod| pod.mark != gateway.wanted);
    leaves_one_complete(fleet) && is_served(fleet) && (has_old || !gateway.has_image)
}

/// One column is complete at any time.
fn leaves_one_complete(fleet: &Fleet) -> bool {
    fleet.surge || fleet.shards.iter().all(|shard| shard.replicas > 1)
}

/// Every shard has a pod that is new and serves, and is not on its way to what was written last.
fn is_served(fleet: &Fleet) -> bool {
    let keeps = |shard: &Shard, pod: &Pod| {
        shard.live.as_ref().is_none_or(|live| live.mark == pod.mark || pod.ordinal < live.partition)
    };
    let serves =
        |shard: &Shard| shard.pods.iter().any(|pod| shard.is_new(pod) && pod.ready && keeps(shard, pod));
    fleet.shards.iter().all(|shard| shard.replicas == 0 || serves(shard))
}

/// The image that `live` has where `wanted` has one container. Others may put containers beside it.
pub(super) fn image<'a>(live: &'a PodTemplateSpec, wanted: &PodTemplateSpec) -> Option<&'a str> {
    let name = &wanted.spec.as_ref()?.containers.first()?.name;
    live.spec.as_ref()?.containers.iter().find(|it| it.name == *name)?.image.as_deref()
}

/// Whether a pod has the image of a template. Others may put containers beside the one that counts.
pub(super) fn is_of_image(pod: &KubePod, template: &PodTemplateSpec) -> bool {
    let wanted = template.spec.as_ref().and_then(|spec| spec.containers.first());
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    wanted.is_some_and(|wanted| containers.any(|it| (&it.name, &it.image) == (&wanted.name, &wanted.image)))
}

/// The template of a Deployment.
pub(super) fn template(deployment: &Deployment) -> Option<&PodTemplateSpec> {
    Some(&deployment.spec.as_ref()?.template)
}

#[cfg(test)]
mod tests;
