//! What roles grant to an account, against what it has asked for. Pure.
//!
//! ```text
//!  roles and bindings ─▶ granted ─┐
//!  audit              ─▶ requests ┼─▶ compare ─▶ differences: none, where rights are as small as they can be
//!  what is not tried here, and why┘
//! ```

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;
use thiserror::Error;

use crate::audit::Request;

/// One thing that may be done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// As `patch`.
    pub verb: String,
    /// `GROUP/RESOURCE/SUBRESOURCE`, without what is empty.
    pub resource: String,
    /// Where; `None` is everywhere.
    pub namespace: Option<String>,
    /// Of which object; `None` is any.
    pub name: Option<String>,
}

/// A right that is granted though nothing here asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Untried {
    /// Of the rights.
    pub resource: &'static str,
    /// Of the rights.
    pub verbs: &'static [&'static str],
    /// What it is for, and why that does not happen here.
    pub why: &'static str,
}

/// Where rights and requests do not fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// It was asked for, and not granted.
    Refused(String),
    /// It is granted, and nothing asks for it.
    Needless(Right),
    /// It is said not to be tried, and was.
    Tried(String),
    /// It is said not to be tried, and is not granted.
    NotGranted(String),
}

/// Why it is not known what is granted.
#[derive(Debug, Error)]
pub enum RightsError {
    /// A binding names a role that is none of the objects.
    #[error("{binding} binds {kind} {role}, which is not there")]
    NoRole {
        /// Name of the binding.
        binding: String,
        /// Of the role.
        kind: String,
        /// Its name.
        role: String,
    },
}

/// What the bindings among these objects give to an account.
///
/// # Errors
/// Where one binds a role that is not among them.
pub fn granted(objects: &[Value], namespace: &str, account: &str) -> Result<BTreeSet<Right>, RightsError> {
    let is_ours = |subject: &&Value| {
        subject["kind"] == "ServiceAccount" && subject["name"] == account && subject["namespace"] == namespace
    };
    let mut rights = BTreeSet::new();
    for binding in objects {
        let kind = binding["kind"].as_str().unwrap_or_default();
        if !["RoleBinding", "ClusterRoleBinding"].contains(&kind)
            || !list(&binding["subjects"]).any(|subject| is_ours(&subject))
        {
            continue;
        }
        let wanted = &binding["roleRef"];
        let role = objects.iter().find(|role| {
            let is_near = role["kind"] == "ClusterRole"
                || role["metadata"]["namespace"] == binding["metadata"]["namespace"];
            role["kind"] == wanted["kind"] && role["metadata"]["name"] == wanted["name"] && is_near
        });
        let Some(role) = role else {
            let [binding, kind, role] =
                [&binding["metadata"]["name"], &wanted["kind"], &wanted["name"]].map(text);
            return Err(RightsError::NoRole { binding, kind, role });
        };
        let within = (kind == "RoleBinding").then(|| text(&binding["metadata"]["namespace"]));
        rights.extend(list(&role["rules"]).flat_map(|rule| of_rule(rule, within.as_deref())));
    }
    Ok(rights)
}

fn of_rule(rule: &Value, namespace: Option<&str>) -> Vec<Right> {
    let names: Vec<_> = list(&rule["resourceNames"]).map(|name| Some(text(name))).collect();
    let names = if names.is_empty() { vec![None] } else { names };
    let mut rights = Vec::new();
    for (group, resource) in
        list(&rule["apiGroups"]).flat_map(|group| list(&rule["resources"]).map(move |one| (group, one)))
    {
        let (group, resource) = (text(group), text(resource));
        let resource = if group.is_empty() { resource } else { format!("{group}/{resource}") };
        for verb in list(&rule["verbs"]) {
            rights.extend(names.iter().map(|name| Right {
                verb: text(verb),
                resource: resource.clone(),
                namespace: namespace.map(str::to_owned),
                name: name.clone(),
            }));
        }
    }
    rights
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Every refusal, every right that nobody needs, and every excuse that is none.
#[must_use]
pub fn compare(granted: &BTreeSet<Right>, requests: &[Request], untried: &[Untried]) -> BTreeSet<Difference> {
    let refused = requests.iter().filter(|request| request.code == 403);
    let mut differences: BTreeSet<_> =
        refused.map(|request| Difference::Refused(request.to_string())).collect();
    let excused = |right: &Right| untried.iter().any(|excuse| excuse.covers(&right.verb, &right.resource));
    for right in granted {
        let used = requests.iter().any(|request| right.is_for(request));
        match (used, excused(right)) {
            (false, false) => drop(differences.insert(Difference::Needless(right.clone()))),
            (true, true) => drop(differences.insert(Difference::Tried(right.to_string()))),
            (true, false) | (false, true) => {}
        }
    }
    for (excuse, verb) in
        untried.iter().flat_map(|excuse| excuse.verbs.iter().map(move |verb| (excuse, verb)))
    {
        if !granted.iter().any(|right| right.verb == *verb && right.resource == excuse.resource) {
            differences.insert(Difference::NotGranted(format!("{verb} {}", excuse.resource)));
        }
    }
    differences
}

impl Right {
    /// Whether it was needed for the request.
    fn is_for(&self, request: &Request) -> bool {
        // To apply what does not exist is to patch, and to create it, too.
        let applied = request.verb == "patch" && request.code == 201 && self.verb == "create";
        let within = |have: &Option<String>, asked: &Option<String>| have.is_none() || have == asked;
        (request.verb == self.verb || applied)
            && request.resource == self.resource
            && within(&self.namespace, &request.namespace)
            && within(&self.name, &request.name)
    }
}

impl Untried {
    fn covers(&self, verb: &str, resource: &str) -> bool {
        self.resource == resource && self.verbs.contains(&verb)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(request) => write!(f, "refused: {request}"),
            Self::Needless(right) => write!(f, "granted, and nothing asks for it: {right}"),
            Self::Tried(right) => write!(f, "said to be untried, and tried: {right}"),
            Self::NotGranted(right) => write!(f, "said to be untried, and not granted: {right}"),
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, resource, namespace, name } = self;
        line(f, verb, resource, name.as_deref(), namespace.as_deref())
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, &self.verb, &self.resource, self.name.as_deref(), self.namespace.as_deref())?;
        write!(f, ": {} {}", self.code, self.message)
    }
}

fn line(
    f: &mut fmt::Formatter<'_>,
    verb: &str,
    resource: &str,
    name: Option<&str>,
    namespace: Option<&str>,
) -> fmt::Result {
    write!(f, "{verb} {resource}")?;
    name.map_or(Ok(()), |name| write!(f, " {name}"))?;
    namespace.map_or(Ok(()), |namespace| write!(f, " in {namespace}"))
}

#[cfg(test)]
mod tests;
