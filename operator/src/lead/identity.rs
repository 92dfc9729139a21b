//! Under which name this process holds the lease.

use std::fmt::Write;

use rustix::system::uname;

/// The pod's name or the host's, and random digits: the container of a pod may be started anew, and two processes of
/// one host may run.
pub(crate) fn identity(pod_name: Option<&str>) -> Result<String, getrandom::Error> {
    let mut random = [0; 4];
    getrandom::fill(&mut random)?;
    let mut identity =
        pod_name.map_or_else(|| uname().nodename().to_string_lossy().into_owned(), ToOwned::to_owned);
    identity.push('_');
    for byte in random {
        let _ = write!(identity, "{byte:02x}");
    }
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_processes_have_the_same() {
        let (one, other) = (identity(Some("pod-1")).unwrap(), identity(Some("pod-1")).unwrap());
        assert!(one.starts_with("pod-1_") && one.len() == "pod-1_".len() + 8, "{one}");
        assert_ne!(one, other);
        assert!(identity(None).unwrap().len() > "_01234567".len(), "the host has a name");
    }
}
