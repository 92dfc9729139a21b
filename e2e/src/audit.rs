//! What pods' accounts have asked an API server for, as it notes it down.

use std::io;
use std::path::Path;

use serde_json::Value;
use thiserror::Error;

/// Nothing of admins, nor of Kubernetes' own controllers. Of watches the beginning counts: their end may be far.
pub(crate) const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, userGroups: ['system:serviceaccounts:kube-system']}
- {level: Metadata, userGroups: ['system:serviceaccounts']}
- {level: None}
";

/// A request, once it was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// As `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// In the words of roles: `get`, `list`, `watch`, …
    pub verb: String,
    /// `GROUP/RESOURCE/SUBRESOURCE`, without what is empty, as `pods` or `apps/deployments/scale`; a path where it was
    /// for none.
    pub resource: String,
    /// `None` where it was for all, or for what belongs to none.
    pub namespace: Option<String>,
    /// `None` where it was for several, or for a new one.
    pub name: Option<String>,
    /// Of the answer, as 200.
    pub code: u16,
    /// What the API server had to say, where it refused.
    pub message: String,
}

/// Why it is not known who has asked for what.
#[derive(Debug, Error)]
pub enum AuditError {
    /// There is no log.
    #[error("no log: {0}")]
    Read(#[from] io::Error),
    /// A line is no object.
    #[error("{line}: {source}")]
    Line {
        /// The line.
        line: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// What an account has asked for until now.
pub(crate) fn requests_of(log: &Path, namespace: &str, account: &str) -> Result<Vec<Request>, AuditError> {
    let log = std::fs::read_to_string(log).map_err(AuditError::Read)?;
    let user = format!("system:serviceaccount:{namespace}:{account}");
    let mut requests = requests(&log)?;
    requests.retain(|request| request.user == user);
    Ok(requests)
}

fn requests(log: &str) -> Result<Vec<Request>, AuditError> {
    // The last line may be on its way.
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let parse = |line: &str| {
        let event = serde_json::from_str(line);
        event
            .map(|event| request(&event))
            .map_err(|source| AuditError::Line { line: line.to_owned(), source })
    };
    whole.lines().map(parse).collect()
}

fn request(event: &Value) -> Request {
    let said = |path: &str| event.pointer(path).and_then(Value::as_str).map(str::to_owned);
    let parts = ["apiGroup", "resource", "subresource"].map(|part| said(&format!("/objectRef/{part}")));
    let resource = match &parts {
        [_, None, _] => said("/requestURI").unwrap_or_default(),
        parts => parts.iter().flatten().map(String::as_str).collect::<Vec<_>>().join("/"),
    };
    let code = event.pointer("/responseStatus/code").and_then(Value::as_u64);
    Request {
        user: said("/user/username").unwrap_or_default(),
        verb: said("/verb").unwrap_or_default(),
        resource,
        namespace: said("/objectRef/namespace"),
        name: said("/objectRef/name"),
        code: code.and_then(|code| code.try_into().ok()).unwrap_or_default(),
        message: said("/responseStatus/message").unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_request() {
        let log = r#"
            {"verb":"patch","user":{"username":"a"},"objectRef":{"resource":"shardclusters","namespace":"n","name":"x","apiGroup":"g","subresource":"status"},"responseStatus":{"code":200}}
            {"verb":"list","user":{"username":"a"},"requestURI":"/api/v1/pods","objectRef":{"resource":"pods"},"responseStatus":{"code":403,"message":"no"}}
            {"verb":"get","user":{"username":"b"},"requestURI":"/version","responseStatus":{"code":200}}
            {"verb":"ge"#;
        let found = requests(log.trim_start()).unwrap();
        let [patch, list, version] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((patch.resource.as_str(), patch.code), ("g/shardclusters/status", 200));
        assert_eq!((patch.namespace.as_deref(), patch.name.as_deref()), (Some("n"), Some("x")));
        assert_eq!((list.resource.as_str(), list.code, list.message.as_str()), ("pods", 403, "no"));
        assert_eq!((version.resource.as_str(), version.user.as_str()), ("/version", "b"));
        assert!(requests("what\n").is_err());
    }
}
