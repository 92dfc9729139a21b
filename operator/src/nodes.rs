//! All nodes, and how it stands with one of them. Pure.

mod node;

use std::collections::HashMap;

use k8s_openapi::jiff::Timestamp;

pub use node::NodeView;

/// More nodes than this, and [`MOST_PERCENT`] of all: the limits of Kubernetes' own node controller, which stops evicting
/// then, too.
const FEW: usize = 2;
const MOST_PERCENT: usize = 55;

/// How it stands with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its kubelet reports.
    Reachable,
    /// Its kubelet is silent.
    Unreachable {
        /// From when on.
        since: Timestamp,
    },
    /// There is no such node.
    Gone,
}

/// Nodes by what they are called.
pub(crate) struct Nodes<'a> {
    by_name: HashMap<&'a str, &'a NodeView>,
    by_hostname: HashMap<&'a str, &'a NodeView>,
    cut_off: bool,
}

impl<'a> Nodes<'a> {
    pub(crate) fn new(all: &'a [NodeView]) -> Self {
        Self {
            by_name: all.iter().map(|node| (&*node.name, node)).collect(),
            by_hostname: all.iter().map(|node| (&*node.hostname, node)).collect(),
            cut_off: cut_off(all),
        }
    }

    /// Whether it is rather the control plane that has lost its nodes.
    pub(crate) fn cut_off(&self) -> bool {
        self.cut_off
    }

    pub(crate) fn named(&self, name: &str) -> Standing {
        self.by_name.get(name).map_or(Standing::Gone, |node| standing(node))
    }

    /// A node, by its name or what volumes call it.
    pub(crate) fn called(&self, name: &str) -> Option<&'a NodeView> {
        self.by_name.get(name).or_else(|| self.by_hostname.get(name)).copied()
    }

    /// Of several nodes, each of which would do: the name of the one that is nearest to being there, and how it stands
    /// with it.
    pub(crate) fn best<'b>(&self, names: &[&'b str]) -> Option<(&'b str, Standing)>
    where
        'a: 'b,
    {
        let one = |name: &'b str| {
            self.called(name).map_or((name, Standing::Gone), |node| (&*node.name, standing(node)))
        };
        names.iter().copied().map(one).max_by_key(|(_, standing)| match standing {
            Standing::Gone => (0, None),
            Standing::Unreachable { since } => (1, Some(*since)),
            Standing::Reachable => (2, None),
        })
    }
}

fn standing(node: &NodeView) -> Standing {
    node.unreachable_since.map_or(Standing::Reachable, |since| Standing::Unreachable { since })
}

/// Nodes of the control plane tell nothing: it reaches its own machine when it reaches nobody else. And without any node
/// there is none to go to.
fn cut_off(all: &[NodeView]) -> bool {
    let nodes = || all.iter().filter(|node| !node.control_plane);
    let lost = nodes().filter(|node| node.unreachable_since.is_some()).count();
    let all = nodes().count();
    lost == all || (lost > FEW && lost * 100 >= all * MOST_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, since: Option<i64>, control_plane: bool) -> NodeView {
        let unreachable_since = since.map(|second| Timestamp::from_second(second).unwrap());
        NodeView { name: name.into(), hostname: format!("host-{name}"), unreachable_since, control_plane }
    }

    #[test]
    fn when_most_nodes_are_lost_it_is_rather_the_control_plane_that_is() {
        // Lost and reachable nodes, and reachable ones of the control plane.
        let table = [
            ((0, 0, 0), true),
            ((0, 0, 3), true),
            ((0, 1, 0), false),
            ((1, 0, 0), true),
            ((1, 0, 1), true),
            ((1, 1, 0), false),
            ((2, 1, 0), false),
            ((2, 0, 1), true),
            ((3, 1, 0), true),
            ((3, 2, 0), true),
            ((3, 3, 0), false),
            ((3, 3, 3), false),
            ((11, 9, 0), true),
            ((10, 9, 0), false),
        ];
        for ((lost, reachable, control_plane), expected) in table {
            let lost_nodes = (0..lost).map(|_| node("a", Some(1), false));
            let reachable_nodes = (0..reachable).map(|_| node("b", None, false));
            let others = (0..control_plane).map(|_| node("c", None, true));
            let all: Vec<_> = lost_nodes.chain(reachable_nodes).chain(others).collect();
            assert_eq!(
                cut_off(&all),
                expected,
                "{lost} lost, {reachable} there, {control_plane} of the control plane"
            );
        }
    }

    #[test]
    fn the_best_of_several_nodes_decides() {
        let all = [node("a", Some(5), false), node("b", Some(7), false), node("c", None, false)];
        let nodes = Nodes::new(&all);
        let since = |second| Standing::Unreachable { since: Timestamp::from_second(second).unwrap() };
        assert_eq!(nodes.best(&["host-a", "b"]), Some(("b", since(7))));
        assert_eq!(nodes.best(&["host-a", "x"]), Some(("a", since(5))));
        assert_eq!(nodes.best(&["a", "host-c", "x"]), Some(("c", Standing::Reachable)));
        assert_eq!(nodes.best(&["x"]), Some(("x", Standing::Gone)));
        assert_eq!(nodes.best(&[]), None);
        assert_eq!(nodes.named("host-a"), Standing::Gone, "a pod says the name");
    }
}
