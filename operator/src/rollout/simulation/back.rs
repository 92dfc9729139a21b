//! An image that speaks another wire version, and the one before it again, at any moment on the way.

use super::super::gateway::{Wire, stays};
use super::*;

/// The bootstrap of the wanted image is replaced, ready, has told what it speaks, has made its plan.
const MADE: usize = 3;

struct Back {
    world: World,
    is_back: bool,
    told: usize,
    /// The plan of the new image was known when it was wanted no more.
    had_made: bool,
    /// What the gateway's Deployment has.
    gateway: Mark,
    /// Of each shard: what its last rollout that went to its end has left.
    currents: Vec<Mark>,
}

fn old() -> Mark {
    mark("1", "a")
}

fn new() -> Mark {
    mark("3", "b")
}

/// The gateway of an image.
fn gateway_of(is_new: bool) -> Mark {
    mark(if is_new { "gateway 2" } else { "gateway 1" }, "")
}

fn answers(fleet: &Fleet, is_new: bool) -> bool {
    fleet.gateway.pods.iter().any(|pod| pod.ready && pod.mark == gateway_of(is_new))
}

fn serves_by(fleet: &Fleet, is_new: bool) -> bool {
    complete(&fleet.shards, &if is_new { new() } else { old() }) && answers(fleet, is_new)
}

impl Back {
    fn new(replicas: u32, surge: bool, careful: bool) -> Self {
        let mut fleet = Fleet { surge, ..fleet(replicas, &old(), &old()) };
        fleet.gateway.pods = vec![pod(0, &gateway_of(false), true)];
        let currents = vec![old(); fleet.shards.len()];
        let world = World::new(fleet, &old(), careful);
        let (gateway, told) = (gateway_of(false), MADE);
        let mut back = Self { world, is_back: false, told, had_made: false, gateway, currents };
        back.want(true);
        back
    }

    /// Another image is wanted.
    fn want(&mut self, is_new: bool) {
        (self.had_made, self.told) = (self.told == MADE && !is_new, 0);
        self.is_back = !is_new;
        // With the plan of the other image nobody can begin.
        self.world.bad = Some(if is_new { mark("2", "a") } else { mark("4", "b") });
        let fleet = &mut self.world.fleet;
        fleet.bootstrap.pods[0].ready = false;
        fleet.gateway.wanted = gateway_of(is_new);
        fleet.gateway.has_image = self.gateway == fleet.gateway.wanted;
        self.hear(0);
    }

    /// What is wanted of shards for a plan that is the one to have.
    fn wanted(&self, plan: &str) -> Mark {
        match (self.is_back, plan) {
            (false, "a") => mark("2", "a"),
            (false, _) => new(),
            (true, "a") => old(),
            (true, _) => mark("4", "b"),
        }
    }

    /// The gateways' last word comes in. Of two that are of equal worth any is believed.
    fn hear(&mut self, choice: usize) {
        let fleet = &self.world.fleet;
        let proves = [false, true].map(|is_new| serves_by(fleet, is_new));
        let answerer = match (proves, [false, true].map(|is_new| answers(fleet, is_new))) {
            ([true, true], _) | ([false, false], [true, true]) => Some(choice.is_multiple_of(2)),
            ([old, new], _) if old || new => Some(new),
            (_, [false, false]) => None,
            (_, [_, new]) => Some(new),
        };
        let taken = fleet.shards[0].live.as_ref().and_then(|live| live.mark.plan.clone()).unwrap_or_default();
        let plan: Option<String> = match (self.told, self.is_back, answerer) {
            (MADE, false, Some(_)) => Some("b".into()),
            (MADE, true, Some(_)) => Some("a".into()),
            (_, _, None) => Some(taken),
            (0 | 1, false, _) => Some("a".into()),
            (0 | 1, true, _) if self.had_made => Some("b".into()),
            // The origin speaks otherwise than who answers, and serves.
            (_, false, Some(false)) | (_, true, Some(true)) => None,
            (_, _, Some(_)) => Some(taken),
        };
        let wire = match (self.told, answerer) {
            (0 | 1, _) | (_, None) => Wire::Unheard,
            (_, Some(is_new)) if is_new != self.is_back => Wire::Same,
            _ => Wire::Other,
        };
        let wanted =
            plan.as_deref().map_or_else(|| Mark { plan: None, ..mark("5", "") }, |it| self.wanted(it));
        let fleet = &mut self.world.fleet;
        fleet.is_made = self.told == MADE && answerer.is_some();
        (fleet.known, fleet.wire, fleet.gateway.serves) = (plan.is_some(), wire, proves != [false, false]);
        fleet.shards.iter_mut().for_each(|shard| shard.wanted = wanted.clone());
    }

    /// What a Deployment controller does, and what a kubelet does with its pods: one more, none less.
    fn deployment(&mut self) {
        let (template, pods) = (&self.gateway, &mut self.world.fleet.gateway.pods);
        match pods.iter().position(|pod| pod.mark == *template && !pod.going) {
            None => pods.push(pod(0, template, false)),
            Some(at) if !pods[at].ready => pods[at].ready = true,
            Some(_) => {
                pods.retain(|pod| !pod.going);
                for pod in pods.iter_mut().filter(|pod| pod.mark != *template) {
                    (pod.ready, pod.going) = (false, true);
                }
            }
        }
    }

    fn step(&mut self, choice: usize) {
        match choice % 6 {
            0 => {
                self.told = (self.told + 1).min(MADE);
                self.world.fleet.bootstrap.pods[0].ready = true;
                self.hear(choice / 6);
            }
            1 => self.hear(choice / 6),
            2 => self.deployment(),
            _ => {
                let (choice, count) = (choice / 6, self.currents.len());
                let (decision, holds) = (decide(&self.world.fleet), stays(&self.world.fleet));
                self.world.before = self.currents[(choice / 3) % count].clone();
                self.world.step(&decision, choice);
                if choice.is_multiple_of(3) && !holds {
                    let gateway = &mut self.world.fleet.gateway;
                    (self.gateway, gateway.has_image) = (gateway.wanted.clone(), true);
                }
                self.complete();
            }
        }
    }

    /// A rollout at its end makes its revision the current one.
    fn complete(&mut self) {
        for (shard, current) in self.world.fleet.shards.iter_mut().zip(&mut self.currents) {
            let Some(live) = shard.live.clone() else { continue };
            let moved = |ordinal| shard.pod(ordinal).is_some_and(|pod| pod.mark == live.mark && pod.ready);
            if (0..live.replicas).all(moved) {
                current.clone_from(&live.mark);
            }
            let rolling = live.mark != *current;
            shard.live = Some(Live { rolling, ..live });
        }
    }

    fn is_over(&self) -> bool {
        let fleet = &self.world.fleet;
        let gateway = &fleet.gateway;
        let has_moved = gateway.pods.iter().all(|pod| pod.ready && pod.mark == gateway.wanted);
        self.told == MADE && has_moved && decide(fleet).rollout == Rollout::Done && super::is_over(fleet)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whoever_goes_back_midway_keeps_a_plan_and_a_gateway_of_one(
        replicas in 1..4_u32, surge: bool, careful: bool, first in 1..600_usize,
        order in proptest::collection::vec(0..5400_usize, 60..300),
    ) {
        let leaves_one = replicas > 1 || surge;
        let mut back = Back::new(replicas, surge, careful);
        let mut order = order.iter().copied().chain(0..6 * 9 * 4).cycle();
        for steps in [first, MAX_STEPS] {
            for _ in 0..steps {
                if back.is_over() {
                    break;
                }
                back.step(order.next().unwrap());
                let fleet = &back.world.fleet;
                let serves = serves_by(fleet, false) || serves_by(fleet, true);
                prop_assert!(serves || !leaves_one, "back: {}: {fleet:#?}", back.is_back);
            }
            if !back.is_back {
                back.want(false);
            }
        }
        prop_assert!(back.is_over(), "it does not end: {:#?}", back.world.fleet);
    }
}
