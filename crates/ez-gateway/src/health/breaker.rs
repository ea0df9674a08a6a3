//! The circuit breaker of one credential (pure): opens after failures in a row, then lets one real call decide.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::HealthConfig;

/// How soon to ask again while a trial is under way: nobody knows when it ends.
const TRIAL_WAIT: Duration = Duration::from_secs(1);

/// Counts failures in a row and keeps calls away from a credential that does not work.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    state: State,
    /// Failures in a row while closed.
    failures: u32,
    /// Openings in a row; each doubles the time.
    openings: u32,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Calls go through.
    #[default]
    Closed,
    /// No calls until then; the first one after that is the trial.
    Open { until: Instant },
    /// The trial is under way.
    HalfOpen,
}

/// How a call got past the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// As any other.
    Ordinary,
    /// As the one call that decides.
    Trial,
}

/// What others should hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It opened until then.
    Opened(Instant),
    /// It closed.
    Closed,
}

impl Breaker {
    /// How long calls are kept away; `None` where one may go now.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Closed => None,
            State::Open { until } => until.checked_duration_since(now).filter(|left| !left.is_zero()),
            State::HalfOpen => Some(TRIAL_WAIT),
        }
    }

    /// Whether it is as new: nothing to remember.
    pub(super) fn is_pristine(&self) -> bool {
        self.state == State::Closed && self.failures == 0 && self.openings == 0
    }

    /// Whether it keeps calls away, and if so whether its trial is under way.
    pub(super) fn is_half_open(&self) -> Option<bool> {
        match self.state {
            State::Closed => None,
            State::Open { .. } => Some(false),
            State::HalfOpen => Some(true),
        }
    }

    /// Lets a call through where [`Self::wait`] says so. A trial must come to an end: by an outcome or by
    /// [`Self::give_back`].
    pub(super) fn enter(&mut self, now: Instant) -> Option<Pass> {
        if self.wait(now).is_some() {
            return None;
        }
        if self.state == State::Closed {
            return Some(Pass::Ordinary);
        }
        self.state = State::HalfOpen;
        Some(Pass::Trial)
    }

    /// The first of an answer came: a trial lets others through again, on probation, as its end may be long in coming.
    pub(super) fn answered(&mut self, pass: Pass, config: &HealthConfig) -> Option<Turn> {
        if pass != Pass::Trial || self.state != State::HalfOpen {
            return None;
        }
        self.probation(config);
        Some(Turn::Closed)
    }

    /// A call ended well.
    pub(super) fn succeeded(&mut self, pass: Pass) -> Option<Turn> {
        match (self.state, pass) {
            (State::Closed, _) => {
                *self = Self::default();
                None
            }
            (State::HalfOpen, Pass::Trial) => {
                *self = Self::default();
                Some(Turn::Closed)
            }
            // A call from before it opened says nothing of now.
            (State::Open { .. } | State::HalfOpen, _) => None,
        }
    }

    /// A call failed by the credential's fault.
    pub(super) fn failed(&mut self, pass: Pass, now: Instant, config: &HealthConfig) -> Option<Turn> {
        match (self.state, pass) {
            (State::Closed, _) => {
                self.failures += 1;
                (self.failures >= config.breaker_failures).then(|| self.open(now, config))
            }
            (State::HalfOpen, Pass::Trial) => Some(self.open(now, config)),
            (State::Open { .. } | State::HalfOpen, _) => None,
        }
    }

    /// A trial ended without an outcome: the next call is one.
    pub(super) fn give_back(&mut self, now: Instant) {
        if self.state == State::HalfOpen {
            self.state = State::Open { until: now };
        }
    }

    /// Another gateway's breaker opened. One that is being tried here is left to its trial.
    pub(super) fn open_elsewhere(&mut self, until: Instant) {
        let is_later = match self.state {
            State::Closed => true,
            State::Open { until: own } => own < until,
            State::HalfOpen => false,
        };
        if is_later {
            self.state = State::Open { until };
            self.openings = self.openings.max(1);
        }
    }

    /// Another gateway's trial went well.
    pub(super) fn close_elsewhere(&mut self, config: &HealthConfig) {
        if matches!(self.state, State::Open { .. }) {
            self.probation(config);
        }
    }

    /// Closed, and a single failure opens it again; only a call that ends well makes it forget.
    fn probation(&mut self, config: &HealthConfig) {
        self.state = State::Closed;
        self.failures = config.breaker_failures.saturating_sub(1);
    }

    fn open(&mut self, now: Instant, config: &HealthConfig) -> Turn {
        let doubled = config.breaker_open.saturating_mul(1 << self.openings.min(16));
        let until = now + doubled.min(config.breaker_max);
        self.state = State::Open { until };
        self.openings = self.openings.saturating_add(1);
        self.failures = 0;
        Turn::Opened(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn config() -> HealthConfig {
        HealthConfig::default()
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            assert_eq!(breaker.failed(Pass::Ordinary, now, &config()), None);
        }
        assert_eq!(breaker.failed(Pass::Ordinary, now, &config()), Some(Turn::Opened(now + S)));
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_for_twice_as_long_each_time() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert_eq!((breaker.enter(start), breaker.wait(start)), (None, Some(S)));
        let mut now = start;
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(breaker.wait(now), Some(expected * S));
            now += expected * S;
            assert_eq!(breaker.enter(now), Some(Pass::Trial));
            assert_eq!(breaker.enter(now), None, "one trial at a time");
            assert_eq!(breaker.wait(now), Some(TRIAL_WAIT));
            breaker.failed(Pass::Trial, now, &config());
        }
    }

    #[test]
    fn a_success_between_failures_starts_the_count_anew() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..20 {
            for _ in 0..4 {
                assert_eq!(breaker.failed(Pass::Ordinary, now, &config()), None);
            }
            assert_eq!(breaker.succeeded(Pass::Ordinary), None);
            assert!(breaker.is_pristine());
        }
    }

    #[test]
    fn a_trial_that_ends_well_closes_it_and_forgets() {
        let now = Instant::now() + S;
        let mut breaker = opened(now - S);
        assert_eq!(breaker.enter(now), Some(Pass::Trial));
        assert_eq!(breaker.succeeded(Pass::Ordinary), None, "a call from before says nothing");
        assert_eq!(breaker.wait(now), Some(TRIAL_WAIT));
        assert_eq!(breaker.succeeded(Pass::Trial), Some(Turn::Closed));
        assert!(breaker.is_pristine());
    }

    #[test]
    fn a_trial_without_an_outcome_is_given_back() {
        let now = Instant::now() + S;
        let mut breaker = opened(now - S);
        assert_eq!(breaker.enter(now), Some(Pass::Trial));
        breaker.give_back(now);
        assert_eq!(breaker.enter(now), Some(Pass::Trial), "the next call decides");
    }

    #[test]
    fn an_answer_that_has_begun_lets_others_through_on_probation() {
        let now = Instant::now() + S;
        let mut breaker = opened(now - S);
        assert_eq!(breaker.enter(now), Some(Pass::Trial));
        assert_eq!(breaker.answered(Pass::Trial, &config()), Some(Turn::Closed));
        assert_eq!(breaker.enter(now), Some(Pass::Ordinary));
        let turn = breaker.failed(Pass::Ordinary, now, &config());
        assert_eq!(turn, Some(Turn::Opened(now + 2 * S)), "one failure is enough, and the time doubles on");
    }

    #[test]
    fn what_other_gateways_find_holds_here() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        breaker.open_elsewhere(now + 4 * S);
        assert_eq!(breaker.wait(now), Some(4 * S));
        breaker.open_elsewhere(now + S);
        assert_eq!(breaker.wait(now), Some(4 * S), "the later end holds");
        breaker.close_elsewhere(&config());
        assert_eq!(breaker.enter(now), Some(Pass::Ordinary));
        assert_eq!(breaker.failed(Pass::Ordinary, now, &config()), Some(Turn::Opened(now + 2 * S)));
    }
}
