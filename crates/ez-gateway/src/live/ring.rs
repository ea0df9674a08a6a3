//! The last minute of one master, slot by slot.

use std::time::Duration;

use ez_contract::live::{LIVE_RATE_SECONDS, LIVE_WINDOW_SECONDS, LiveFigures};

/// How long a slot is.
pub(super) const SLOT: Duration = Duration::from_millis(500);
const SLOTS_PER_SECOND: u64 = 2;
/// Slots that figures look back on.
const WINDOW: u64 = LIVE_WINDOW_SECONDS * SLOTS_PER_SECOND;
/// Slots that the rate looks back on.
const RATE_WINDOW: u64 = LIVE_RATE_SECONDS * SLOTS_PER_SECOND;
/// The window and the slot under way.
const SLOTS: usize = WINDOW as usize + 1;

/// Counts by slot. Slots are numbered from the start of the gateway.
#[derive(Debug)]
pub(super) struct Ring {
    slots: [Slot; SLOTS],
    /// The newest slot that was counted in; what lies further back than the ring is long is gone.
    newest: u64,
}

/// What was counted in one slot.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slot {
    pub(super) requests: u32,
    pub(super) limited_requests: u32,
    pub(super) tokens: u64,
}

impl Ring {
    pub(super) fn new() -> Self {
        Self { slots: [Slot::default(); SLOTS], newest: 0 }
    }

    /// The slot to count in. Where another call was quicker to a newer one, and this one has left the ring by then, it is
    /// the newest.
    pub(super) fn slot(&mut self, number: u64) -> &mut Slot {
        if number > self.newest {
            let stale = (number - self.newest).min(SLOTS as u64);
            for older in 0..stale {
                self.slots[place(number - older)] = Slot::default();
            }
            self.newest = number;
        }
        let is_gone = self.newest - number.min(self.newest) >= SLOTS as u64;
        &mut self.slots[place(if is_gone { self.newest } else { number })]
    }

    /// The figures of the window that ends where slot `end` begins.
    pub(super) fn figures_before(&self, end: u64) -> LiveFigures {
        let mut figures = LiveFigures::default();
        for number in end.saturating_sub(WINDOW)..end {
            let Some(slot) = self.counted(number) else { continue };
            figures.requests += u64::from(slot.requests);
            figures.limited_requests += u64::from(slot.limited_requests);
            figures.tokens = figures.tokens.saturating_add(slot.tokens);
            if number + RATE_WINDOW >= end {
                figures.recent_requests += u64::from(slot.requests);
            }
        }
        figures
    }

    /// Whether nothing is left to tell at the beginning of slot `now`, nor will be unless more is counted.
    pub(super) fn is_over(&self, now: u64) -> bool {
        self.newest + WINDOW < now
    }

    /// A slot that stands in the ring.
    fn counted(&self, number: u64) -> Option<&Slot> {
        let stands = number <= self.newest && number + SLOTS as u64 > self.newest;
        stands.then(|| &self.slots[place(number)])
    }
}

fn place(number: u64) -> usize {
    (number % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_window_is_as_long_as_it_says() {
        let mut ring = Ring::new();
        ring.slot(7).requests += 1;
        assert_eq!(ring.figures_before(7).requests, 0, "the slot under way is not told");
        assert_eq!(ring.figures_before(8).requests, 1);
        assert_eq!(ring.figures_before(7 + RATE_WINDOW).recent_requests, 1);
        assert_eq!(ring.figures_before(8 + RATE_WINDOW).recent_requests, 0);
        assert_eq!(ring.figures_before(7 + WINDOW).requests, 1);
        assert!(!ring.is_over(7 + WINDOW));
        assert_eq!(ring.figures_before(8 + WINDOW).requests, 0);
        assert!(ring.is_over(8 + WINDOW));
    }

    #[test]
    fn what_comes_late_counts_where_it_belongs_or_in_the_newest_slot() {
        let mut ring = Ring::new();
        ring.slot(1_000).requests += 1;
        ring.slot(999).requests += 1;
        ring.slot(3).requests += 1;
        assert_eq!(ring.figures_before(1_000).requests, 1);
        assert_eq!(ring.figures_before(1_001).requests, 3);
    }

    proptest! {
        /// Against a plain list of all that was ever counted.
        #[test]
        fn figures_are_those_of_a_plain_list(
            steps in proptest::collection::vec((0_u64..40, 1_u32..4, 0_u64..100), 1..200),
            ahead in 0_u64..300,
        ) {
            let (mut ring, mut counted, mut now) = (Ring::new(), Vec::new(), 0);
            for (step, requests, tokens) in steps {
                now += step;
                let slot = ring.slot(now);
                slot.requests += requests;
                slot.limited_requests += 1;
                slot.tokens += tokens;
                counted.push((now, requests, tokens));
            }
            let end = now + ahead;
            let within = |window: u64| counted.iter().filter(move |(at, ..)| *at < end && at + window >= end);
            let expected = LiveFigures {
                requests: within(WINDOW).map(|(_, requests, _)| u64::from(*requests)).sum(),
                recent_requests: within(RATE_WINDOW).map(|(_, requests, _)| u64::from(*requests)).sum(),
                tokens: within(WINDOW).map(|(.., tokens)| tokens).sum(),
                limited_requests: within(WINDOW).count() as u64,
                ..LiveFigures::default()
            };
            prop_assert_eq!(ring.figures_before(end), expected);
            prop_assert!(!ring.is_over(end) || expected.is_zero());
        }
    }
}
