//! The lease at the API server.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, PostParams};
use thiserror::Error;
use tokio::time::timeout;

use crate::desired::meta::MANAGER;

/// An API server that takes longer has lost the request, or is about to.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the lease could not be read or written.
#[derive(Debug, Error)]
pub enum LeaseError {
    /// The request failed.
    #[error("cannot {action} Lease {namespace}/{name} (--namespace says where it is)")]
    Request {
        /// What was to be done.
        action: &'static str,
        /// Of the lease.
        namespace: String,
        /// Of the lease.
        name: &'static str,
        /// Why.
        source: kube::Error,
    },
    /// There was no answer.
    #[error(
        "the API server does not answer within {PATIENCE:?} when told to {action} Lease {namespace}/{name}"
    )]
    Late {
        /// What was to be done.
        action: &'static str,
        /// Of the lease.
        namespace: String,
        /// Of the lease.
        name: &'static str,
    },
}

pub(super) struct LeaseApi {
    api: Api<Lease>,
    namespace: String,
    name: &'static str,
}

impl LeaseApi {
    pub(super) fn new(client: Client, namespace: String, name: &'static str) -> Self {
        Self { api: Api::namespaced(client, &namespace), namespace, name }
    }

    pub(super) async fn read(&self) -> Result<Option<Lease>, LeaseError> {
        self.within("get", self.api.get_opt(self.name)).await
    }

    pub(super) async fn create(&self, lease: &Lease) -> Result<Option<Lease>, LeaseError> {
        self.write("create", self.api.create(&params(), lease)).await
    }

    /// Where it is still of the version that `lease` was made from.
    pub(super) async fn replace(&self, lease: &Lease) -> Result<Option<Lease>, LeaseError> {
        self.write("update", self.api.replace(self.name, &params(), lease)).await
    }

    /// `None` where somebody else was faster.
    async fn write(
        &self,
        action: &'static str,
        request: impl Future<Output = Result<Lease, kube::Error>>,
    ) -> Result<Option<Lease>, LeaseError> {
        match self.within(action, request).await {
            Ok(lease) => Ok(Some(lease)),
            // 404: it was deleted meanwhile. To create it in a namespace that is not there is another matter.
            Err(LeaseError::Request { source: kube::Error::Api(status), .. })
                if status.code == 409 || (status.code == 404 && action == "update") =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn within<T>(
        &self,
        action: &'static str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, LeaseError> {
        let (namespace, name) = (self.namespace.clone(), self.name);
        match timeout(PATIENCE, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(LeaseError::Request { action, namespace, name, source }),
            Err(_) => Err(LeaseError::Late { action, namespace, name }),
        }
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}
