//! An image that speaks another wire version: gateways of the old one serve the old plan, those of the new one the new.
//! Meanwhile gateways are lost, and come back as their Deployment has them.

use super::super::gateway::{Gateway, Wire, stays};
use super::*;

/// What has become of the bootstrap, in this order: it is replaced, it is ready, it has told what it speaks, its
/// plan's manifest is known.
const KNOWN: usize = 3;

struct Wired {
    world: World,
    told: usize,
    /// So often all gateways are lost yet.
    losses: usize,
}

fn old() -> Mark {
    mark("1", "a")
}

/// The new template with the plan that was, and with the one that the new origin makes.
fn new(told: usize) -> Mark {
    match told {
        0 | 1 => mark("2", "a"),
        2 => Mark { plan: None, ..mark("2", "") },
        _ => mark("3", "b"),
    }
}

fn gateways(fleet: &Fleet, is_new: bool) -> bool {
    fleet.gateway.pods.iter().any(|pod| pod.ready && (pod.mark == fleet.gateway.wanted) == is_new)
}

/// Something answers whoever asks.
fn serves(fleet: &Fleet) -> bool {
    (complete(&fleet.shards, &old()) && gateways(fleet, false))
        || (complete(&fleet.shards, &new(KNOWN)) && gateways(fleet, true))
}

impl Wired {
    fn new(replicas: u32, surge: bool, careful: bool, losses: usize) -> Self {
        let mut fleet = Fleet { surge, ..fleet(replicas, &old(), &new(0)) };
        fleet.bootstrap.pods[0].ready = false;
        fleet.gateway.has_image = false;
        fleet.gateway.pods = vec![pod(0, &mark("gateway 1", ""), true)];
        // Nobody has the plan before for a node of the new image.
        let world = World { bad: Some(new(0)), ..World::new(fleet, &old(), careful) };
        let mut wired = Self { world, told: 0, losses };
        wired.hear(0);
        wired
    }

    /// The gateways' last word comes in. Of two that are of equal worth any is believed.
    fn hear(&mut self, choice: usize) {
        let fleet = &mut self.world.fleet;
        let proves_old = complete(&fleet.shards, &old()) && gateways(fleet, false);
        let proves_new = complete(&fleet.shards, &new(KNOWN)) && gateways(fleet, true);
        fleet.gateway.serves = proves_old || proves_new;
        let answers_old = match (proves_old, proves_new) {
            (true, true) => choice.is_multiple_of(2),
            (false, false) => gateways(fleet, false),
            (answers_old, _) => answers_old,
        };
        let is_silent = !fleet.gateway.pods.iter().any(|pod| pod.ready);
        fleet.wire = match self.told {
            0 | 1 => Wire::Unheard,
            _ if is_silent => Wire::Unheard,
            _ if answers_old => Wire::Other,
            _ => Wire::Same,
        };
        // While none tells of the new plan, that of the last status is the one to have.
        if self.told == 2 {
            fleet.known = is_silent;
            let wanted = new(if is_silent { 0 } else { 2 });
            fleet.shards.iter_mut().for_each(|shard| shard.wanted = wanted.clone());
        }
    }

    /// All gateways at once.
    fn lose(&mut self) {
        if self.losses > 0 {
            self.losses -= 1;
            self.world.fleet.gateway.pods.iter_mut().for_each(|pod| pod.ready = false);
            self.hear(0);
        }
    }

    fn origin(&mut self) {
        self.told = (self.told + 1).min(KNOWN);
        let fleet = &mut self.world.fleet;
        fleet.bootstrap.pods[0].ready = true;
        fleet.known = self.told != 2;
        fleet.shards.iter_mut().for_each(|shard| shard.wanted = new(self.told));
    }

    /// What a Deployment controller does, and what a kubelet does with its pods: one more, none less.
    fn deployment(&mut self) {
        let Gateway { wanted, has_image, pods, .. } = &mut self.world.fleet.gateway;
        if !*has_image {
            pods.iter_mut().for_each(|pod| pod.ready = true);
            return;
        }
        match pods.iter().position(|pod| pod.mark == *wanted) {
            None => pods.push(pod(0, wanted, false)),
            Some(at) if !pods[at].ready => pods[at].ready = true,
            Some(_) => {
                pods.retain(|pod| !pod.going);
                for pod in pods.iter_mut().filter(|pod| pod.mark != *wanted) {
                    (pod.ready, pod.going) = (false, true);
                }
            }
        }
    }

    fn step(&mut self, choice: usize) {
        match choice % 7 {
            0 => self.origin(),
            1 => self.hear(choice / 7),
            2 => self.deployment(),
            3 => self.lose(),
            _ => {
                let (decision, holds) = (decide(&self.world.fleet), stays(&self.world.fleet));
                self.world.step(&decision, choice / 7);
                // It writes both at once, or neither.
                let writes = (choice / 7).is_multiple_of(3);
                self.world.fleet.gateway.has_image |= writes && !holds;
            }
        }
    }

    fn is_over(&self) -> bool {
        let fleet = &self.world.fleet;
        let gateway = &fleet.gateway;
        let has_moved = gateway.pods.iter().all(|pod| pod.ready && pod.mark == gateway.wanted);
        self.told == KNOWN && has_moved && decide(fleet).rollout == Rollout::Done && super::is_over(fleet)
    }

    fn run(mut self, choices: &[usize], check: impl Fn(&Fleet)) {
        for step in 0..2 * MAX_STEPS {
            if self.is_over() {
                return;
            }
            self.step(choices[step % choices.len()]);
            check(&self.world.fleet);
        }
        panic!("it does not end: {:?}\n{:#?}", decide(&self.world.fleet), self.world.fleet);
    }
}

/// Any order, in which each of the things that can happen comes up.
fn order() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..6300_usize, 24..96).prop_map(|mut order| {
        order.extend(0..7 * 9 * 4);
        order
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn another_wire_version_leaves_a_plan_and_a_gateway_of_one(
        replicas in 1..4_u32, surge: bool, careful: bool, losses in 0..4_usize, order in order(),
    ) {
        let leaves_one = replicas > 1 || surge;
        Wired::new(replicas, surge, careful, losses).run(&order, |fleet| {
            let is_lost = !fleet.gateway.pods.iter().any(|pod| pod.ready);
            assert!(serves(fleet) || is_lost || !leaves_one, "{fleet:#?}");
        });
    }
}
