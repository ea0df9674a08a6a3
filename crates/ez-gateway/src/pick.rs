//! The pick: which credential takes the next attempt of a call. Tier by tier; within a tier by weight, among those that
//! health and concurrency allow, the less loaded of two draws, or the one that the call's session belongs to.

use std::sync::Arc;
use std::time::Duration;

use ez_protocol::error::FaultKind;
use ez_protocol::prefix::stable_prefix;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use http::StatusCode;
use http::header::{HeaderMap, HeaderValue};
use rand::Rng;
use tokio::time::{Instant, timeout_at};

use crate::call::CallScope;
use crate::config::Affinity;
use crate::health::{HealthBook, Permit, Readiness};
use crate::inspect::Inspected;
use crate::plan::{Choice, Plan, UpstreamChoice};
use crate::refusal::Refusal;

/// What a client names its conversation with, where `EZ_AFFINITY` says so.
const SESSION_HEADER: &str = "x-ez-session";

/// Retry-After where nothing tells when a credential can be used again: somebody has to mend it.
const MENDING: Duration = Duration::from_secs(30);

/// How one is preferred among those that may take a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preference {
    /// The less loaded of two that are drawn by weight.
    Load,
    /// The one that this session belongs to.
    Session(u64),
}

impl Preference {
    /// What the settings make of a call. Sessions of one master never meet another's.
    pub(crate) fn of(scope: &CallScope<'_>, inspected: &Inspected) -> Self {
        let affinity = scope.gateway.config.health.affinity;
        let prefix = || stable_prefix(inspected.api, &inspected.body);
        Self::with(affinity, &scope.arrival.headers, prefix, scope.caller.master.id)
    }

    fn with(affinity: Affinity, headers: &HeaderMap, prefix: impl Fn() -> Option<u64>, master_id: i64) -> Self {
        let named = || headers.get(SESSION_HEADER).filter(|name| !name.is_empty()).map(HeaderValue::as_bytes);
        let session = match affinity {
            Affinity::Off => None,
            Affinity::Header => named().map(|name| session_hash(master_id, name)),
            Affinity::Prefix => named()
                .map(|name| session_hash(master_id, name))
                .or_else(|| prefix().map(|prefix| session_hash(master_id, &prefix.to_be_bytes()))),
        };
        session.map_or(Self::Load, Self::Session)
    }
}

/// What a pick goes by.
pub(crate) struct PickRules<'c> {
    pub(crate) book: &'c Arc<HealthBook>,
    pub(crate) plan: &'c Plan,
    pub(crate) preference: Preference,
    /// The only API key that will do, for what one upstream alone has.
    pub(crate) pin: Option<i64>,
    /// When the call ends at the latest.
    pub(crate) deadline: Instant,
}

/// Picks for one call; none is picked twice.
pub(crate) struct Picker<'c> {
    rules: PickRules<'c>,
    tried: Vec<(i64, &'c str)>,
    /// When waiting for slots ends, once it has begun.
    queue_by: Option<Instant>,
}

/// Why there is no pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unpicked {
    /// None is left that health allows.
    NoneLeft,
    /// All that health allows are at their concurrency, and the wait was too long or the queue full.
    Busy,
}

/// One that may take the call.
#[derive(Debug, Clone, Copy)]
struct Contender<'c> {
    choice: &'c UpstreamChoice,
    /// Its part of the calls; only relations count.
    share: f64,
    /// Calls on it.
    load: u32,
}

/// The contenders of one tier.
#[derive(Debug, Default)]
struct Survey<'c> {
    free: Vec<Contender<'c>>,
    /// At their concurrency.
    busy: Vec<&'c UpstreamChoice>,
}

impl<'c> Picker<'c> {
    pub(crate) fn new(rules: PickRules<'c>) -> Self {
        Self { rules, tried: Vec::new(), queue_by: None }
    }

    /// The permit of the next attempt. Waits for a slot only where every one that health allows is at its concurrency.
    pub(crate) async fn next(&mut self) -> Result<Permit, Unpicked> {
        loop {
            let now = Instant::now();
            let plan = self.rules.plan;
            let mut busy = Vec::new();
            for tier in &plan.tiers {
                let mut survey = self.survey(tier, now);
                // What was free or ready a moment ago may be taken by now.
                while let Some(index) = prefer(&survey.free, self.rules.preference, || rand::rng().random()) {
                    let choice = survey.free.swap_remove(index).choice;
                    if let Some(permit) = self.take(choice) {
                        return Ok(self.picked(permit, choice));
                    }
                }
                busy.append(&mut survey.busy);
            }
            if busy.is_empty() {
                return Err(Unpicked::NoneLeft);
            }
            if let Some((permit, choice)) = self.wait_for(&busy).await? {
                return Ok(self.picked(permit, choice));
            }
        }
    }

    /// What the client hears where nothing was tried, or `last`, what the last attempt came to, with the time after which
    /// the first of all candidates can be used again.
    pub(crate) fn refusal(&self, unpicked: Option<Unpicked>, last: Option<Refusal>) -> Refusal {
        let outlook = Outlook::over(self.candidates().map(|choice| self.readiness(choice, Instant::now())));
        match (last, unpicked) {
            (Some(mut last), _) => {
                if last.retry_after.is_some()
                    && let Some(wait) = outlook.wait
                {
                    last.retry_after = Some(wait);
                }
                last
            }
            (None, Some(Unpicked::Busy)) => {
                let message = "every upstream credential that can serve this is at its concurrency: try again";
                Refusal::upstream(StatusCode::SERVICE_UNAVAILABLE, FaultKind::Unavailable, "upstream_busy", message)
                    .with_retry_after(Duration::from_secs(1))
            }
            (None, _) if outlook.is_limited => {
                let message = "every upstream that can serve this is limiting calls: try again later";
                let code = "upstream_rate_limited";
                Refusal::upstream(StatusCode::TOO_MANY_REQUESTS, FaultKind::RateLimit, code, message)
                    .with_retry_after(outlook.wait.unwrap_or(MENDING))
            }
            (None, _) => {
                let message = "no upstream that can serve this is healthy at the moment: try again later";
                let code = "no_healthy_upstream";
                Refusal::upstream(StatusCode::SERVICE_UNAVAILABLE, FaultKind::Unavailable, code, message)
                    .with_retry_after(outlook.wait.unwrap_or(MENDING))
            }
        }
    }

    fn picked(&mut self, permit: Permit, choice: &'c UpstreamChoice) -> Permit {
        self.tried.push((choice.upstream.snapshot.id, &choice.upstream_model));
        permit
    }

    fn take(&self, choice: &UpstreamChoice) -> Option<Permit> {
        let slot = self.rules.book.of(&choice.upstream).slots().take(choice.upstream.snapshot.max_concurrency)?;
        Permit::enter(self.rules.book, choice, slot)
    }

    /// Waits in the queues of all of these for the first slot that comes free; `None` where they all went bad meanwhile. The
    /// other places are given up then, and a slot that one of them was handed in the same moment goes to the next.
    async fn wait_for(
        &mut self,
        busy: &[&'c UpstreamChoice],
    ) -> Result<Option<(Permit, &'c UpstreamChoice)>, Unpicked> {
        let book = self.rules.book;
        let config = book.config();
        let by = *self.queue_by.get_or_insert_with(|| Instant::now() + config.queue_timeout);
        let mut places = FuturesUnordered::new();
        let mut asked = Vec::with_capacity(busy.len());
        for choice in busy.iter().copied() {
            let id = choice.upstream.snapshot.id;
            // One credential may stand for several models.
            if asked.contains(&id) {
                continue;
            }
            asked.push(id);
            // Without a limit there is always room.
            let max = choice.upstream.snapshot.max_concurrency.unwrap_or(u32::MAX);
            let place = book.of(&choice.upstream).slots().wait(max, config.queue);
            places.extend(place.map(|place| place.map(move |slot| (choice, slot))));
        }
        if places.is_empty() {
            return Err(Unpicked::Busy);
        }
        let _waiting = book.note_waiting();
        let by = by.min(self.rules.deadline);
        while let Some((choice, slot)) = timeout_at(by, places.next()).await.map_err(|_| Unpicked::Busy)? {
            if let Some(permit) = slot.ok().and_then(|slot| Permit::enter(book, choice, slot)) {
                return Ok(Some((permit, choice)));
            }
        }
        Ok(None)
    }

    fn survey(&self, tier: &'c [Choice], now: Instant) -> Survey<'c> {
        let mut survey = Survey::default();
        for candidate in tier {
            let free_from = survey.free.len();
            let mut ready_weight = 0;
            for choice in candidate.upstreams.iter().filter(|choice| self.is_eligible(choice)) {
                if self.readiness(choice, now) != Readiness::Ready {
                    continue;
                }
                let slots = self.rules.book.of(&choice.upstream).slots();
                if slots.has_room(choice.upstream.snapshot.max_concurrency) {
                    let weight = choice.upstream.weight();
                    ready_weight += weight;
                    survey.free.push(Contender { choice, share: weight as f64, load: slots.in_flight() });
                } else {
                    survey.busy.push(choice);
                }
            }
            // A candidate's weight goes to those of its credentials that can take calls. A session's place must not move
            // with them, so for sessions it is spread over all.
            let spread_over = match self.rules.preference {
                Preference::Load => ready_weight,
                Preference::Session(_) => candidate.upstreams.iter().map(|choice| choice.upstream.weight()).sum(),
            };
            let scale = candidate.weight as f64 / spread_over.max(1) as f64;
            survey.free[free_from..].iter_mut().for_each(|contender| contender.share *= scale);
        }
        survey
    }

    fn is_eligible(&self, choice: &UpstreamChoice) -> bool {
        let id = choice.upstream.snapshot.id;
        self.rules.pin.is_none_or(|pin| pin == id) && !self.tried.contains(&(id, choice.upstream_model.as_str()))
    }

    fn readiness(&self, choice: &UpstreamChoice, now: Instant) -> Readiness {
        self.rules.book.of(&choice.upstream).readiness(&choice.upstream, &choice.upstream_model, now)
    }

    fn candidates(&self) -> impl Iterator<Item = &'c UpstreamChoice> {
        let pin = self.rules.pin;
        let all = self.rules.plan.tiers.iter().flatten().flat_map(|choice| &choice.upstreams);
        all.filter(move |choice| pin.is_none_or(|pin| pin == choice.upstream.snapshot.id))
    }
}

/// When the first of all candidates can be used again.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outlook {
    /// `None` where one can be used now, or nothing tells.
    wait: Option<Duration>,
    /// Whether all are resting because their vendors limit calls.
    is_limited: bool,
}

impl Outlook {
    fn over(states: impl Iterator<Item = Readiness>) -> Self {
        let mut outlook = Self::default();
        let (mut all, mut cooling) = (0_usize, 0_usize);
        for readiness in states {
            all += 1;
            let wait = match readiness {
                Readiness::Ready => return Self::default(),
                Readiness::Cooling(wait) => {
                    cooling += 1;
                    Some(wait)
                }
                Readiness::Broken(wait) => Some(wait),
                Readiness::Banned(wait) => wait,
            };
            outlook.wait = outlook.wait.into_iter().chain(wait).min();
        }
        outlook.is_limited = cooling > 0 && cooling == all;
        outlook
    }
}

/// The index of the preferred one; `draw` gives a number from 0 up to 1.
fn prefer(contenders: &[Contender<'_>], preference: Preference, mut draw: impl FnMut() -> f64) -> Option<usize> {
    if contenders.len() < 2 {
        return contenders.len().checked_sub(1);
    }
    match preference {
        Preference::Load => {
            let total = contenders.iter().map(|contender| contender.share).sum();
            let one = drawn(contenders, total, draw());
            let other = drawn(contenders, total, draw());
            // At equal load the first draw stands, so that weights hold where nothing is loaded.
            let is_heavier = per_share(&contenders[one]) > per_share(&contenders[other]);
            Some(if is_heavier { other } else { one })
        }
        Preference::Session(session) => {
            let score = |contender: &Contender<'_>| session_score(session, contender);
            let by_score = |(_, one): &(usize, &_), (_, other): &(usize, &_)| score(one).total_cmp(&score(other));
            contenders.iter().enumerate().max_by(by_score).map(|(index, _)| index)
        }
    }
}

fn drawn(contenders: &[Contender<'_>], total: f64, draw: f64) -> usize {
    let mut ticket = draw * total;
    let winner = contenders.iter().position(|contender| {
        let wins = ticket < contender.share;
        ticket -= contender.share;
        wins
    });
    // Sums of fractions may miss the last by a hair.
    winner.unwrap_or(contenders.len() - 1)
}

fn per_share(contender: &Contender<'_>) -> f64 {
    f64::from(contender.load) / contender.share.max(f64::MIN_POSITIVE)
}

/// Weighted rendezvous hashing: each contender draws for each session, always the same number; the highest score wins. A
/// contender that goes takes along its own sessions only.
fn session_score(session: u64, contender: &Contender<'_>) -> f64 {
    let id = contender.choice.upstream.snapshot.id as u64;
    let hash = mixed(session ^ mixed(id));
    // 53 bits make a fraction above 0 and below 1.
    let fraction = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -contender.share / fraction.ln()
}

/// FNV-1a over the session's name, from a start of each master's own. The same on every gateway of every build.
fn session_hash(master_id: i64, session: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ mixed(master_id as u64);
    session.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The finisher of SplitMix64: spreads each bit over all.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests;
