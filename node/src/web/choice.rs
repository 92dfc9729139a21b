//! Which plan a gateway serves while the fleet has several. Pure.
//!
//! ```text
//! the old plan is whole ─▶ served ─ a part of it is gone, and of the new one less is missing ─▶ the new one
//!                            └───── the origin's plan is whole, and tokens have gone through it ─────▲
//! ```

use crate::cluster::PlanView;

/// The plan that is nearest to complete: of equals the origin's, then the one that is served.
pub(super) fn best<'a>(
    plans: &[&'a PlanView],
    served: Option<&str>,
    origin: Option<&str>,
) -> Option<&'a PlanView> {
    let is = |plan: &PlanView, name: Option<&str>| name == Some(&plan.name);
    plans.iter().copied().min_by_key(|plan| (plan.lacks(), !is(plan, origin), !is(plan, served)))
}

/// The plan to serve: the best, but a whole one is left only for one that is proved.
pub(super) fn served<'a>(
    plans: &[&'a PlanView],
    served: Option<&str>,
    origin: Option<&str>,
    is_proved: impl Fn(&str) -> bool,
) -> Option<&'a PlanView> {
    let best = best(plans, served, origin)?;
    let is_whole = |plan: &&PlanView| Some(plan.name.as_str()) == served && plan.missing.is_empty();
    let whole = plans.iter().copied().find(is_whole);
    Some(whole.filter(|_| !is_proved(&best.name)).unwrap_or(best))
}

#[cfg(test)]
mod tests {
    use shard_wire::layers::LayerRange;

    use super::*;

    /// Plans by name, and how many layers each lacks; those with more replicas first.
    fn views(plans: &[(&str, u32)]) -> Vec<PlanView> {
        let plan = |(name, lacks): &(&str, u32)| PlanView {
            name: (*name).into(),
            model_name: String::new(),
            model_sha256: String::new(),
            total_layers: 8,
            shards: Vec::new(),
            missing: (*lacks > 0).then_some(LayerRange { start: 0, end: *lacks }).into_iter().collect(),
        };
        plans.iter().map(plan).collect()
    }

    #[test]
    fn the_newest_whole_plan_is_served_and_left_for_nothing_unproved() {
        type Case<'a> = (&'a [(&'a str, u32)], Option<&'a str>, Option<&'a str>, &'a [&'a str], &'a str);
        // Plans with what they lack, the one that is served, the origin's, those that are proved; what is served then.
        let table: &[Case<'_>] = &[
            (&[("a", 0)], None, None, &[], "a"),
            (&[("a", 3), ("b", 2)], None, None, &[], "b"),
            (&[("a", 2), ("b", 2)], None, Some("b"), &[], "b"),
            // The new plan comes up, is whole, and is proved.
            (&[("a", 0), ("b", 4)], Some("a"), Some("b"), &["a"], "a"),
            (&[("a", 0), ("b", 0)], Some("a"), Some("b"), &["a"], "a"),
            (&[("a", 0), ("b", 0)], Some("a"), Some("b"), &["a", "b"], "b"),
            // The old one breaks before: what is whole is better, proved or not.
            (&[("b", 0), ("a", 1)], Some("a"), Some("b"), &[], "b"),
            (&[("a", 1), ("b", 4)], Some("a"), Some("b"), &[], "a"),
            (&[("b", 1), ("a", 4)], Some("a"), Some("b"), &[], "b"),
            // The new one breaks after the change.
            (&[("a", 0), ("b", 1)], Some("b"), Some("b"), &["b"], "a"),
            // No origin: more replicas are no reason to change.
            (&[("b", 0), ("a", 0)], Some("a"), None, &["a", "b"], "a"),
            (&[("b", 0), ("a", 0)], None, None, &[], "b"),
            // A gateway that is started meanwhile.
            (&[("a", 0), ("b", 0)], None, Some("b"), &[], "b"),
        ];
        for (plans, now, origin, proved, expected) in table {
            let views = views(plans);
            let chosen =
                served(&views.iter().collect::<Vec<_>>(), *now, *origin, |plan| proved.contains(&plan))
                    .unwrap();
            assert_eq!(&chosen.name, expected, "{plans:?}, {now:?} is served, {origin:?} is the origin's");
        }
        assert_eq!(served(&[], Some("a"), Some("a"), |_| true), None);
    }
}
