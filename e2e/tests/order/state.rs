//! What there is, and what each event makes of it.

use super::SHARDS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    BootstrapStarts,
    BootstrapReady,
    GatewayStarts,
    GatewayReady,
    /// It is on its way out: a deletion is two events, which a watch tells of one after the other.
    GatewayGoes,
    GatewayLost,
    /// The gateway learns what the origin has.
    ManifestKnown,
    /// A pod is there, and its image is on its way.
    PodStarts(u32),
    /// The kubelet cannot get the image, and says so in two ways by turns.
    PullFails(u32),
    PullPauses(u32),
    PodReady(u32),
    PodGoes(u32),
    PodLost(u32),
    /// The gateway says of a shard's replica that it fetches its part.
    Downloads(u32),
    Loads(u32),
    /// It has lost sight of it.
    Misses(u32),
    /// A token went through every shard.
    Proves,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pod {
    #[default]
    None,
    Starting,
    NoImage,
    Ready,
    Going,
}

/// A shard's replica, as the gateway has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Replica {
    #[default]
    None,
    Downloading,
    Loaded,
    Offline,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) bootstrap: Pod,
    pub(crate) gateway: Pod,
    /// The gateway has the manifest.
    pub(crate) manifest: bool,
    /// The operator has it, too: it asked when there was a gateway.
    pub(crate) known: bool,
    pub(crate) pods: [Pod; SHARDS as usize],
    pub(crate) replicas: [Replica; SHARDS as usize],
    pub(crate) proved: bool,
}

impl State {
    pub(crate) fn after(mut self, event: Event) -> Self {
        let at = |id: u32| id as usize;
        match event {
            Event::BootstrapStarts => self.bootstrap = Pod::Starting,
            Event::BootstrapReady => self.bootstrap = Pod::Ready,
            Event::GatewayStarts => self.gateway = Pod::Starting,
            Event::GatewayReady => self.gateway = Pod::Ready,
            Event::GatewayGoes => self.gateway = Pod::Going,
            Event::GatewayLost => self.gateway = Pod::None,
            Event::ManifestKnown => self.manifest = true,
            Event::PodStarts(id) => self.pods[at(id)] = Pod::Starting,
            Event::PullFails(id) | Event::PullPauses(id) => self.pods[at(id)] = Pod::NoImage,
            Event::PodReady(id) => self.pods[at(id)] = Pod::Ready,
            Event::PodGoes(id) => self.pods[at(id)] = Pod::Going,
            Event::PodLost(id) => self.pods[at(id)] = Pod::None,
            Event::Downloads(id) => self.replicas[at(id)] = Replica::Downloading,
            Event::Loads(id) => self.replicas[at(id)] = Replica::Loaded,
            Event::Misses(id) => {
                self.replicas[at(id)] = Replica::Offline;
                self.proved = false;
            }
            Event::Proves => self.proved = true,
        }
        self.known |= self.can_be_asked() && self.manifest;
        self
    }

    pub(crate) fn can_be_asked(&self) -> bool {
        self.gateway == Pod::Ready
    }
}
