//! Byte-pair merging with a queue: the best pair of neighbours first, in n log n, as llama.cpp does it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No neighbour.
const END: u32 = u32::MAX;

/// A pair of neighbours that may be merged. The field order is the order of merging: rank, then from left to right.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pair<S> {
    rank: u32,
    left: u32,
    /// What the two were when the pair was queued: a later merge makes the entry stale.
    was: (S, S),
}

struct Node<S> {
    /// `None` once it is part of its left neighbour.
    symbol: Option<S>,
    prev: u32,
    next: u32,
}

/// Merges neighbours until no pair can be: `rank(left, right)` is the order of a pair (lowest first) and what the two
/// become, or `None`. At most `u32::MAX` symbols.
pub(super) fn merge<S: Copy + Ord>(
    symbols: impl Iterator<Item = S>,
    rank: impl Fn(S, S) -> Option<(u32, S)>,
) -> impl Iterator<Item = S> {
    let mut nodes: Vec<Node<S>> = (0_u32..)
        .zip(symbols)
        .map(|(i, symbol)| Node { symbol: Some(symbol), prev: i.wrapping_sub(1), next: i + 1 })
        .collect();
    if let Some(last) = nodes.last_mut() {
        last.next = END;
    }

    let symbol = |nodes: &[Node<S>], i: u32| nodes.get(i as usize)?.symbol;
    let pair = |nodes: &[Node<S>], left: u32, right: u32| {
        let was = (symbol(nodes, left)?, symbol(nodes, right)?);
        let (rank, _) = rank(was.0, was.1)?;
        Some(Reverse(Pair { rank, left, was }))
    };
    let mut queue: BinaryHeap<_> =
        (0..nodes.len() as u32).filter_map(|left| pair(&nodes, left, left + 1)).collect();

    while let Some(Reverse(Pair { left, was, .. })) = queue.pop() {
        let Node { prev, next: right, .. } = nodes[left as usize];
        if symbol(&nodes, left) != Some(was.0) || symbol(&nodes, right) != Some(was.1) {
            continue;
        }
        let Some((_, merged)) = rank(was.0, was.1) else { continue };
        let next = nodes[right as usize].next;
        nodes[right as usize].symbol = None;
        nodes[left as usize] = Node { symbol: Some(merged), prev, next };
        if let Some(next) = nodes.get_mut(next as usize) {
            next.prev = left;
        }
        queue.extend(pair(&nodes, prev, left));
        queue.extend(pair(&nodes, left, next));
    }
    nodes.into_iter().filter_map(|node| node.symbol)
}
