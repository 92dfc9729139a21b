//! One control plane for all tests of a program.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use crate::binaries::may_skip;
use crate::control_plane::ControlPlane;
use crate::error::ControlPlaneError;
use crate::options::Parts;

/// What a test waits for comes within this.
const DEADLINE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

// Also a failure: it takes minutes, and the next test would fare no better.
static SHARED: OnceCell<Result<ControlPlane, ControlPlaneError>> = OnceCell::const_new();

/// The control plane of this program, with everything; `None` where tests are left out, see [`skipped`].
///
/// # Errors
/// See [`ControlPlaneError`].
pub async fn shared() -> Result<Option<&'static ControlPlane>, &'static ControlPlaneError> {
    match SHARED.get_or_init(|| ControlPlane::start(Parts::ALL)).await {
        Ok(plane) => Ok(Some(plane)),
        Err(error) if skipped(error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a test is left out for this: its programs cannot be had, and the user has said that it may be. It is said,
/// too.
#[must_use]
pub fn skipped(error: &ControlPlaneError) -> bool {
    let skipped = may_skip() && matches!(error, ControlPlaneError::Binaries(_));
    if skipped {
        crate::say(&format!("skipped: {error}"));
    }
    skipped
}

/// A namespace of a test's own.
///
/// # Errors
/// The API server's.
pub async fn namespace(client: &Client, test: &str) -> Result<String, kube::Error> {
    let metadata = ObjectMeta { generate_name: Some(format!("{test}-")), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    let made = Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    Ok(made.metadata.name.unwrap_or_default())
}

/// Asks again and again until there is an answer.
///
/// # Panics
/// After a minute, with `what`.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        sleep(LOOK).await;
    }
}
