//! The health book of a gateway: the health of every credential that calls have met, and what others hear of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use chrono::TimeDelta;
use ez_contract::clock::Clock;
use ez_contract::health::{BreakerState, CredentialReport, Evidence, Finding, HealthKind, HealthState};
use ez_protocol::vendor_limits::LimitScope;
use ez_telemetry::metrics::{UPSTREAM_FINDINGS, UPSTREAM_HEALTH, UPSTREAM_WAITING};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::breaker::Turn;
use super::key::KeyHealth;
use super::outbox::{Outbox, Place};
use crate::attempts::AttemptCounts;
use crate::config::HealthConfig;
use crate::failure::{Blame, Death, USUAL_PAUSE};
use crate::plan::UpstreamChoice;
use crate::routing::{RoutingSnapshot, Upstream};

const SHARDS: usize = 64;

/// How long a model that a credential is refused is not asked for with it.
const DENIED_PAUSE: Duration = Duration::from_secs(30);
/// How long a credential whose account has no money rests: money comes back without a change of the credential.
const UNPAID_PAUSE: Duration = Duration::from_secs(3_600);
/// The longest pause that a vendor is believed to mean.
const MAX_PAUSE: Duration = Duration::from_secs(24 * 3_600);
/// A ban is shared as a pause of all models, until the control plane publishes it.
const SHARED_BAN: Duration = Duration::from_secs(30);
const SHARE_BAN_EVERY: Duration = Duration::from_secs(10);

/// The health of all credentials.
#[derive(Debug)]
pub(crate) struct HealthBook {
    config: HealthConfig,
    clock: ClockSeam,
    attempts: Arc<AttemptCounts>,
    shards: Vec<RwLock<HashMap<i64, Arc<KeyHealth>>>>,
    pub(super) outbox: Outbox,
    bans: Mutex<BTreeMap<i64, BanNote>>,
    /// Woken when there is a ban to report.
    ban_noted: Notify,
    /// Calls that wait for a slot.
    waiting: AtomicU32,
}

/// A call that waits for a slot, until it is dropped.
pub(crate) struct Waiting<'b>(&'b AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The attempt that found something.
pub(super) struct FoundBy<'p> {
    pub(super) health: &'p KeyHealth,
    pub(super) choice: &'p UpstreamChoice,
    pub(super) request_id: &'p str,
    pub(super) now: Instant,
}

struct ClockSeam(Arc<dyn Clock>);

impl std::fmt::Debug for ClockSeam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock(…)")
    }
}

/// A ban of this gateway that the snapshot does not show yet.
#[derive(Debug)]
struct BanNote {
    report: CredentialReport,
    is_reported: bool,
    shared_at: Instant,
}

impl HealthBook {
    pub(crate) fn new(config: HealthConfig, clock: Arc<dyn Clock>) -> Self {
        Self {
            config,
            attempts: AttemptCounts::new(clock.clone()),
            clock: ClockSeam(clock),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            outbox: Outbox::default(),
            bans: Mutex::default(),
            ban_noted: Notify::new(),
            waiting: AtomicU32::new(0),
        }
    }

    pub(crate) fn config(&self) -> &HealthConfig {
        &self.config
    }

    /// What comes of attempts, by API key.
    pub(crate) fn attempts(&self) -> &Arc<AttemptCounts> {
        &self.attempts
    }

    /// The health of a credential; looked up once per snapshot.
    pub(crate) fn of<'u>(&self, upstream: &'u Upstream) -> &'u Arc<KeyHealth> {
        upstream.health.get_or_init(|| self.lookup(upstream.snapshot.id))
    }

    /// Keeps what a failed attempt says of its credential. Whether that counts as a failure of the breaker's.
    pub(super) fn take_blame(&self, found: &FoundBy<'_>, blame: Blame, pause: Option<Duration>) -> bool {
        let model = Some(found.choice.upstream_model.as_str());
        match blame {
            Blame::Failed => return true,
            Blame::Limited(scope) => {
                let model = model.filter(|_| scope == LimitScope::Model);
                self.cool_down(found, model, pause.unwrap_or(USUAL_PAUSE), "the upstream asked for a pause");
            }
            // Nothing is known of it before another credential was served the same call: see `note_denied`.
            Blame::Denied | Blame::Unfit => {}
            // The operator does not trust this vendor's refusals, so they are failures like others.
            Blame::Dead { .. } if !found.choice.upstream.snapshot.auto_ban => return true,
            Blame::Dead { death, status } => self.ban(found, death, status),
        }
        false
    }

    /// Keeps that a credential was refused a call that another one was served, so that it was not the call's own fault.
    pub(crate) fn note_denied(&self, choice: &UpstreamChoice, request_id: &str) {
        let found = FoundBy { health: self.of(&choice.upstream), choice, request_id, now: Instant::now() };
        let model = Some(choice.upstream_model.as_str());
        self.cool_down(&found, model, DENIED_PAUSE, "the upstream refuses the model to this credential");
    }

    /// Counts a call among those that wait, in however many queues.
    pub(crate) fn note_waiting(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    /// Lets others hear of a breaker's turn.
    pub(super) fn tell_turn(&self, choice: &UpstreamChoice, turn: Option<Turn>) {
        let api_key_id = choice.upstream.snapshot.id;
        match turn {
            None => {}
            Some(Turn::Closed) => {
                tracing::info!(api_key_id, "circuit breaker closed: the credential works again");
                self.outbox.remove(Place { api_key_id, kind: HealthKind::Breaker, model: None });
            }
            Some(Turn::Opened(until)) => {
                metrics::counter!(UPSTREAM_FINDINGS, "kind" => "breaker").increment(1);
                tracing::warn!(api_key_id, "circuit breaker opened: calls with this credential fail");
                let reason = "calls with this credential fail";
                self.share(api_key_id, HealthKind::Breaker, None, reason, until, Instant::now());
            }
        }
    }

    /// What another gateway (or this one) shared of a credential.
    pub(super) fn merge(&self, state: &HealthState, left: Duration) {
        let (health, now) = (self.lookup(state.api_key_id), Instant::now());
        let until = now + left.min(MAX_PAUSE);
        match (state.kind, state.state) {
            // The shared form of a ban, which this gateway knows itself: its own end is the better one.
            (HealthKind::Cooldown, _) if state.model.is_none() && self.bans().contains_key(&state.api_key_id) => {}
            (HealthKind::Cooldown, _) => {
                health.cool_down(state.model.as_deref(), until, now);
            }
            // What does not work there may work here: after the shortest time a call of this gateway's own tries.
            (HealthKind::Breaker, Some(BreakerState::Open)) => {
                health.open_elsewhere(until.min(now + self.config.breaker_open));
            }
            (HealthKind::Breaker, _) => {}
        }
    }

    /// What another gateway (or this one) took back.
    pub(super) fn merge_removed(&self, api_key_id: i64, kind: HealthKind, model: Option<&str>) {
        let health = self.lookup(api_key_id);
        match kind {
            HealthKind::Cooldown => health.end_cooldown(model),
            HealthKind::Breaker => health.close_elsewhere(&self.config),
        }
    }

    /// Bans that the control plane has not been told of.
    pub(super) fn unreported(&self, at_most: usize) -> Vec<CredentialReport> {
        let bans = self.bans();
        bans.values().filter(|note| !note.is_reported).map(|note| note.report.clone()).take(at_most).collect()
    }

    /// Notes that the control plane was told of these.
    pub(super) fn note_reported(&self, reports: &[CredentialReport]) {
        let mut bans = self.bans();
        for report in reports {
            if let Some(note) = bans.get_mut(&report.api_key_id).filter(|note| note.report == *report) {
                note.is_reported = true;
            }
        }
    }

    /// Resolves once there may be a ban to report.
    pub(super) async fn ban_noted(&self) {
        self.ban_noted.notified().await;
    }

    /// Forgets what has passed, shares bans that the snapshot does not show yet, and counts what stands.
    pub(super) fn tidy(&self, snapshot: &RoutingSnapshot) {
        let now = Instant::now();
        self.tidy_bans(snapshot, now);
        let (mut banned, mut cooling, mut open, mut half_open) = (0_u32, 0_u32, 0_u32, 0_u32);
        for shard in &self.shards {
            let mut keys = shard.write().unwrap_or_else(PoisonError::into_inner);
            keys.retain(|_, health| {
                let standing = health.tidy(now);
                banned += u32::from(standing.is_banned);
                cooling += u32::from(standing.is_cooling);
                open += u32::from(standing.breaker == Some(false));
                half_open += u32::from(standing.breaker == Some(true));
                // One that no snapshot and no call holds.
                Arc::strong_count(health) > 1 || !health.is_idle()
            });
        }
        for (state, count) in [("banned", banned), ("cooling", cooling), ("open", open), ("half_open", half_open)] {
            metrics::gauge!(UPSTREAM_HEALTH, "state" => state).set(f64::from(count));
        }
        metrics::gauge!(UPSTREAM_WAITING).set(f64::from(self.waiting.load(Ordering::Relaxed)));
    }

    fn tidy_bans(&self, snapshot: &RoutingSnapshot, now: Instant) {
        let mut bans = self.bans();
        bans.retain(|id, note| {
            let stands = snapshot.upstream(*id).is_some_and(|upstream| self.of(upstream).is_banned(upstream, now));
            if !stands {
                self.outbox.remove(Place { api_key_id: *id, kind: HealthKind::Cooldown, model: None });
                self.lookup(*id).end_cooldown(None);
            } else if now >= note.shared_at + SHARE_BAN_EVERY {
                note.shared_at = now;
                self.share(*id, HealthKind::Cooldown, None, &note.report.reason, now + SHARED_BAN, now);
            }
            stands
        });
    }

    fn cool_down(&self, found: &FoundBy<'_>, model: Option<&str>, pause: Duration, reason: &str) {
        let until = found.now + pause.min(MAX_PAUSE);
        if found.health.cool_down(model, until, found.now) {
            metrics::counter!(UPSTREAM_FINDINGS, "kind" => "cooldown").increment(1);
            let api_key_id = found.choice.upstream.snapshot.id;
            self.share(api_key_id, HealthKind::Cooldown, model, reason, until, found.now);
        }
    }

    fn ban(&self, found: &FoundBy<'_>, death: Death, status: u16) {
        let FoundBy { health, choice, request_id, now } = *found;
        let (pause, reason) = match death {
            Death::Refused => (None, "the upstream refuses this credential"),
            Death::Unpaid => (Some(UNPAID_PAUSE), "the upstream account has no money or quota left"),
        };
        if !health.ban(&choice.upstream, pause.map(|pause| now + pause), now) {
            return;
        }
        let api_key_id = choice.upstream.snapshot.id;
        metrics::counter!(UPSTREAM_FINDINGS, "kind" => "ban").increment(1);
        tracing::warn!(api_key_id, status, request_id, reason, "credential banned");
        let observed_at = self.clock.0.now();
        let until = pause.and_then(|pause| observed_at.checked_add_signed(TimeDelta::from_std(pause).ok()?));
        let report = CredentialReport {
            api_key_id,
            finding: Finding::Ban { until },
            reason: reason.to_owned(),
            evidence: Evidence { request_ids: vec![request_id.to_string()], status: Some(status) },
            observed_at: Some(observed_at),
        };
        self.bans().insert(api_key_id, BanNote { report, is_reported: false, shared_at: now });
        self.ban_noted.notify_one();
        self.share(api_key_id, HealthKind::Cooldown, None, reason, now + SHARED_BAN, now);
    }

    fn share(
        &self,
        api_key_id: i64,
        kind: HealthKind,
        model: Option<&str>,
        reason: &str,
        until: Instant,
        now: Instant,
    ) {
        let reported_at = self.clock.0.now();
        let left = TimeDelta::from_std(until - now).unwrap_or(TimeDelta::MAX);
        let state = HealthState {
            api_key_id,
            kind,
            model: model.map(str::to_owned),
            state: (kind == HealthKind::Breaker).then_some(BreakerState::Open),
            reason: reason.to_owned(),
            until: reported_at.checked_add_signed(left).unwrap_or(reported_at),
            reported_at,
        };
        self.outbox.put(state, until);
    }

    fn lookup(&self, api_key_id: i64) -> Arc<KeyHealth> {
        let shard = &self.shards[usize::try_from(api_key_id.rem_euclid(SHARDS as i64)).unwrap_or_default()];
        let known = shard.read().unwrap_or_else(PoisonError::into_inner).get(&api_key_id).cloned();
        known.unwrap_or_else(|| {
            shard.write().unwrap_or_else(PoisonError::into_inner).entry(api_key_id).or_default().clone()
        })
    }

    fn bans(&self) -> MutexGuard<'_, BTreeMap<i64, BanNote>> {
        self.bans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
