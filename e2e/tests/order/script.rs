//! Orders in which events may happen: what must come before what, and for the rest a number decides.

use super::SHARDS;
use super::state::Event;

/// An event, and those before it, by their places in the list.
type Step = (Event, Vec<usize>);

/// Everything that happens, in the order of this number.
pub(crate) fn script(seed: u64) -> Vec<Event> {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut events = shuffled(&beginning(dice.below(SHARDS)), &mut dice);
    events.extend(shuffled(&loss(dice.below(SHARDS)), &mut dice));
    events
}

/// From nothing to a token. One pod has to wait for its image.
fn beginning(waits: u32) -> Vec<Step> {
    let mut steps = vec![
        (Event::ManifestKnown, vec![]),
        (Event::GatewayStarts, vec![]),
        (Event::GatewayReady, vec![1]),
        (Event::BootstrapStarts, vec![]),
        (Event::BootstrapReady, vec![3]),
    ];
    let mut add = |event: Event, after: Vec<usize>| {
        steps.push((event, after));
        steps.len() - 1
    };
    let mut loaded = Vec::new();
    for id in 0..SHARDS {
        // There are no pods before the operator knows their size.
        let mut last = add(Event::PodStarts(id), vec![0, 2]);
        if id == waits {
            for event in
                [Event::PullFails(id), Event::PullPauses(id), Event::PullFails(id), Event::PullPauses(id)]
            {
                last = add(event, vec![last]);
            }
        }
        let downloads = add(Event::Downloads(id), vec![last]);
        loaded.push(add(Event::Loads(id), vec![downloads]));
        add(Event::PodReady(id), vec![last]);
    }
    add(Event::Proves, loaded);
    steps
}

/// A pod and the gateway are lost, and come back.
fn loss(id: u32) -> Vec<Step> {
    vec![
        (Event::PodGoes(id), vec![]),
        (Event::PodLost(id), vec![0]),
        (Event::Misses(id), vec![]),
        (Event::PodStarts(id), vec![1]),
        (Event::PodReady(id), vec![3]),
        (Event::Loads(id), vec![2, 3]),
        (Event::Proves, vec![5]),
        (Event::GatewayGoes, vec![]),
        (Event::GatewayLost, vec![7]),
        (Event::GatewayStarts, vec![8]),
        (Event::GatewayReady, vec![9]),
    ]
}

fn shuffled(steps: &[Step], dice: &mut Dice) -> Vec<Event> {
    let mut done: Vec<usize> = Vec::new();
    while done.len() < steps.len() {
        let is_next =
            |at: &usize| !done.contains(at) && steps[*at].1.iter().all(|before| done.contains(before));
        let next: Vec<usize> = (0..steps.len()).filter(is_next).collect();
        done.push(next[dice.below(next.len() as u32) as usize]);
    }
    done.into_iter().map(|at| steps[at].0).collect()
}

/// The same numbers for the same seed, on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 33) % u64::from(limit)) as u32
    }
}
