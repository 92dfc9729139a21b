//! What is owned and no longer desired.

use kube::ResourceExt;
use kube::api::{DeleteParams, Preconditions};

use super::{ApplyError, Writer};
use crate::observe::Children;
use crate::watch::Shelved;

impl Writer<'_> {
    /// Deletes it, kind by kind; `live` has only what the resource owns.
    pub(super) async fn prune(&mut self, live: &Children) -> Result<(), ApplyError> {
        let Children {
            service_accounts,
            services,
            stateful_sets,
            deployments,
            disruption_budgets,
            network_policies,
        } = live;
        self.prune_kind(stateful_sets).await?;
        self.prune_kind(deployments).await?;
        self.prune_kind(disruption_budgets).await?;
        self.prune_kind(services).await?;
        self.prune_kind(network_policies).await?;
        self.prune_kind(service_accounts).await
    }

    async fn prune_kind<K: Shelved>(&mut self, live: &[K]) -> Result<(), ApplyError> {
        let kind = K::kind(&()).into_owned();
        for child in live.iter().filter(|child| child.meta().deletion_timestamp.is_none()) {
            let name = child.name_any();
            if self.kept.contains(&(kind.clone(), name.clone())) {
                continue;
            }
            let same = Preconditions { uid: child.uid(), resource_version: None };
            let params = DeleteParams::background().preconditions(same);
            let done = self.delete::<K>("delete", &name, &params).await;
            self.go_on(done)?;
        }
        Ok(())
    }
}
