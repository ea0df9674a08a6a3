//! What is known of one upstream credential: its ban, its cooldowns, its breaker, its calls in flight.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::breaker::{Breaker, Pass, Turn};
use super::slots::Slots;
use crate::config::HealthConfig;
use crate::routing::Upstream;

/// Cooldowns per credential: one per model, and one of all models. Beyond it the one that ends first makes room.
const MAX_COOLDOWNS: usize = 64;

/// The health of one credential, shared by all calls.
#[derive(Debug, Default)]
pub(crate) struct KeyHealth {
    slots: Arc<Slots>,
    /// Whether the marks say anything. Nearly always not, so the way of a call needs no lock.
    is_marked: AtomicBool,
    marks: Mutex<Marks>,
}

/// Whether a credential may take a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It may.
    Ready,
    /// Its vendor asked for a pause, which lasts as long.
    Cooling(Duration),
    /// Its breaker keeps calls away for as long.
    Broken(Duration),
    /// Its vendor refuses it; the pause, where it ends by itself.
    Banned(Option<Duration>),
}

/// What stands against a credential.
#[derive(Debug, Default)]
pub(super) struct Marks {
    ban: Option<Ban>,
    cooldowns: Vec<Cooldown>,
    breaker: Breaker,
}

/// A ban is about a credential as a snapshot had it: what is published anew is judged anew.
#[derive(Debug)]
struct Ban {
    upstream: Weak<Upstream>,
    until: Option<Instant>,
}

#[derive(Debug)]
struct Cooldown {
    /// `None` is all of them.
    model: Option<Box<str>>,
    until: Instant,
}

/// States of a credential that operators count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) is_banned: bool,
    pub(super) is_cooling: bool,
    /// Of a breaker that is not closed: whether its trial is under way.
    pub(super) breaker: Option<bool>,
}

impl KeyHealth {
    /// Whether it may take a call for this model.
    pub(crate) fn readiness(&self, upstream: &Arc<Upstream>, model: &str, now: Instant) -> Readiness {
        if !self.is_marked.load(Ordering::Acquire) {
            return Readiness::Ready;
        }
        self.marks().readiness(upstream, model, now)
    }

    /// The slots for its calls.
    pub(crate) fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// Lets a call begin where nothing stands against it.
    pub(super) fn enter(&self, upstream: &Arc<Upstream>, model: &str, now: Instant) -> Option<Pass> {
        if !self.is_marked.load(Ordering::Acquire) {
            return Some(Pass::Ordinary);
        }
        let mut marks = self.marks();
        if marks.readiness(upstream, model, now) != Readiness::Ready {
            return None;
        }
        marks.breaker.enter(now)
    }

    pub(super) fn answered(&self, pass: Pass, config: &HealthConfig) -> Option<Turn> {
        self.change(|marks| marks.breaker.answered(pass, config))
    }

    pub(super) fn succeeded(&self, pass: Pass) -> Option<Turn> {
        if !self.is_marked.load(Ordering::Acquire) {
            return None;
        }
        self.change(|marks| marks.breaker.succeeded(pass))
    }

    pub(super) fn failed(&self, pass: Pass, now: Instant, config: &HealthConfig) -> Option<Turn> {
        self.change(|marks| marks.breaker.failed(pass, now, config))
    }

    pub(super) fn give_back(&self, now: Instant) {
        self.change(|marks| marks.breaker.give_back(now));
    }

    /// Keeps calls of this model (of all models where there is none) away until then. Whether that is news: it was not
    /// known to last about as long.
    pub(super) fn cool_down(&self, model: Option<&str>, until: Instant, now: Instant) -> bool {
        self.change(|marks| marks.cool_down(model, until, now))
    }

    pub(super) fn end_cooldown(&self, model: Option<&str>) {
        self.change(|marks| marks.cooldowns.retain(|cooldown| cooldown.model.as_deref() != model));
    }

    /// Bans it as this snapshot has it. Whether that is news.
    pub(super) fn ban(&self, upstream: &Arc<Upstream>, until: Option<Instant>, now: Instant) -> bool {
        self.change(|marks| {
            let is_known = marks.ban.as_ref().is_some_and(|ban| ban.stands(upstream, now));
            if !is_known {
                marks.ban = Some(Ban { upstream: Arc::downgrade(upstream), until });
            }
            !is_known
        })
    }

    /// Whether a ban of this upstream stands.
    pub(super) fn is_banned(&self, upstream: &Arc<Upstream>, now: Instant) -> bool {
        self.is_marked.load(Ordering::Acquire) && self.marks().ban.as_ref().is_some_and(|ban| ban.stands(upstream, now))
    }

    pub(super) fn open_elsewhere(&self, until: Instant) {
        self.change(|marks| marks.breaker.open_elsewhere(until));
    }

    pub(super) fn close_elsewhere(&self, config: &HealthConfig) {
        self.change(|marks| marks.breaker.close_elsewhere(config));
    }

    /// Forgets what has passed, and tells what stands.
    pub(super) fn tidy(&self, now: Instant) -> Standing {
        if !self.is_marked.load(Ordering::Acquire) {
            return Standing::default();
        }
        self.change(|marks| {
            marks.cooldowns.retain(|cooldown| cooldown.until > now);
            marks.ban.take_if(|ban| ban.is_over(now));
            Standing {
                is_banned: marks.ban.is_some(),
                is_cooling: !marks.cooldowns.is_empty(),
                breaker: marks.breaker.is_half_open(),
            }
        })
    }

    /// Whether forgetting it would lose nothing.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_marked.load(Ordering::Acquire) && self.slots.in_flight() == 0 && self.slots.waiting() == 0
    }

    fn change<T>(&self, change: impl FnOnce(&mut Marks) -> T) -> T {
        let mut marks = self.marks();
        let outcome = change(&mut marks);
        self.is_marked.store(!marks.is_blank(), Ordering::Release);
        outcome
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        // Nothing in a locked section panics half-way, so a poisoned lock guards whole marks.
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Marks {
    fn readiness(&self, upstream: &Arc<Upstream>, model: &str, now: Instant) -> Readiness {
        if let Some(ban) = self.ban.as_ref().filter(|ban| ban.stands(upstream, now)) {
            return Readiness::Banned(ban.until.map(|until| until - now));
        }
        let cooling = self.cooldowns.iter().filter(|cooldown| cooldown.is_about(model) && cooldown.until > now);
        if let Some(until) = cooling.map(|cooldown| cooldown.until).max() {
            return Readiness::Cooling(until - now);
        }
        self.breaker.wait(now).map_or(Readiness::Ready, Readiness::Broken)
    }

    fn cool_down(&mut self, model: Option<&str>, until: Instant, now: Instant) -> bool {
        self.cooldowns.retain(|cooldown| cooldown.until > now);
        if let Some(known) = self.cooldowns.iter_mut().find(|cooldown| cooldown.model.as_deref() == model) {
            // Calls that were in flight together are told about the same end, each a little later.
            let is_news = until > known.until + NEWS;
            known.until = known.until.max(until);
            return is_news;
        }
        if self.cooldowns.len() >= MAX_COOLDOWNS {
            let first = self.cooldowns.iter().enumerate().min_by_key(|(_, cooldown)| cooldown.until);
            if let Some(first) = first.map(|(index, _)| index) {
                self.cooldowns.swap_remove(first);
            }
        }
        self.cooldowns.push(Cooldown { model: model.map(Box::from), until });
        true
    }

    fn is_blank(&self) -> bool {
        self.ban.is_none() && self.cooldowns.is_empty() && self.breaker.is_pristine()
    }
}

/// How much later the end of a cooldown must be for others to hear of it.
const NEWS: Duration = Duration::from_millis(500);

impl Ban {
    fn stands(&self, upstream: &Arc<Upstream>, now: Instant) -> bool {
        std::ptr::eq(self.upstream.as_ptr(), Arc::as_ptr(upstream)) && self.until.is_none_or(|until| until > now)
    }

    /// Whether it ended, or was about what no snapshot holds any more.
    fn is_over(&self, now: Instant) -> bool {
        self.upstream.strong_count() == 0 || self.until.is_some_and(|until| until <= now)
    }
}

impl Cooldown {
    fn is_about(&self, model: &str) -> bool {
        self.model.as_deref().is_none_or(|own| own == model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::test_upstream;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_cooldown_is_for_its_model_alone() {
        let (health, upstream, now) = (KeyHealth::default(), test_upstream(1), Instant::now());
        assert!(health.cool_down(Some("m"), now + 3 * S, now));
        assert_eq!(health.readiness(&upstream, "m", now), Readiness::Cooling(3 * S));
        assert_eq!(health.readiness(&upstream, "other", now), Readiness::Ready);
        assert_eq!(health.readiness(&upstream, "m", now + 3 * S), Readiness::Ready);
        assert!(!health.cool_down(Some("m"), now + S, now), "a shorter pause is no news");
        assert_eq!(health.readiness(&upstream, "m", now), Readiness::Cooling(3 * S));
        assert!(health.cool_down(None, now + 5 * S, now), "all models");
        assert_eq!(health.readiness(&upstream, "other", now), Readiness::Cooling(5 * S));
        health.end_cooldown(None);
        assert_eq!(health.readiness(&upstream, "other", now), Readiness::Ready);
        assert!(health.tidy(now).is_cooling && !health.tidy(now + 3 * S).is_cooling);
        assert!(health.is_idle(), "what has passed is forgotten");
    }

    #[test]
    fn cooldowns_are_bounded() {
        let (health, upstream, now) = (KeyHealth::default(), test_upstream(1), Instant::now());
        for number in 0..=MAX_COOLDOWNS as u32 {
            health.cool_down(Some(&format!("m{number}")), now + S * (number + 1), now);
        }
        assert_eq!(health.readiness(&upstream, "m0", now), Readiness::Ready, "what ends first made room");
        assert_eq!(health.readiness(&upstream, "m1", now), Readiness::Cooling(2 * S));
    }

    #[test]
    fn a_ban_stands_until_the_credential_is_published_anew_or_its_time_is_over() {
        let (health, upstream, now) = (KeyHealth::default(), test_upstream(1), Instant::now());
        assert!(health.ban(&upstream, None, now) && !health.ban(&upstream, None, now));
        assert_eq!(health.readiness(&upstream, "m", now), Readiness::Banned(None));
        let anew = test_upstream(1);
        assert_eq!(health.readiness(&anew, "m", now), Readiness::Ready);
        assert!(health.ban(&anew, Some(now + S), now), "the new one is judged by itself");
        assert_eq!(health.readiness(&anew, "m", now), Readiness::Banned(Some(S)));
        assert_eq!(health.readiness(&anew, "m", now + S), Readiness::Ready);
        assert!(!health.tidy(now + S).is_banned && health.is_idle());
    }
}
