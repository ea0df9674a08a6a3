//! The pick (pure but for the draws it is given): the order in which a call tries its upstreams.

use crate::plan::{Plan, UpstreamChoice};

/// At most `max_attempts` upstreams: tier by tier, within a tier candidates drawn by weight, within a candidate its
/// credentials drawn by weight. No upstream is tried twice. `draw(n)` gives a number below `n`.
pub(crate) fn order(plan: Plan, max_attempts: usize, mut draw: impl FnMut(u64) -> u64) -> Vec<UpstreamChoice> {
    let mut attempts = Vec::with_capacity(max_attempts);
    for tier in plan.tiers {
        for choice in shuffle(tier, |choice| choice.weight, &mut draw) {
            let room = max_attempts - attempts.len();
            let upstreams = shuffle(choice.upstreams, |choice| choice.upstream.weight(), &mut draw);
            attempts.extend(upstreams.into_iter().take(room));
        }
    }
    attempts
}

/// Draws without putting back, each with a chance in proportion to its weight.
fn shuffle<T>(mut items: Vec<T>, weight: impl Fn(&T) -> u64, draw: &mut impl FnMut(u64) -> u64) -> Vec<T> {
    let mut drawn = Vec::with_capacity(items.len());
    while items.len() > 1 {
        let total: u64 = items.iter().map(&weight).sum();
        if total == 0 {
            break;
        }
        let mut ticket = draw(total);
        let winner = items.iter().position(|item| {
            let weight = weight(item);
            let wins = ticket < weight;
            ticket = ticket.saturating_sub(weight);
            wins
        });
        drawn.push(items.swap_remove(winner.unwrap_or(0)));
    }
    drawn.append(&mut items);
    drawn
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::shuffle;

    #[test]
    fn first_places_follow_the_weights() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut draw = |n: u64| rng.random_range(0..n);
        let mut firsts = [0_u32; 3];
        for _ in 0..10_000 {
            let order = shuffle(vec![(0_usize, 1_u64), (1, 3), (2, 6)], |(_, weight)| *weight, &mut draw);
            assert_eq!(order.len(), 3);
            firsts[order[0].0] += 1;
        }
        for (count, expected) in firsts.iter().zip([1_000_i32, 3_000, 6_000]) {
            assert!((*count as i32 - expected).abs() < 200, "{firsts:?}");
        }
    }
}
