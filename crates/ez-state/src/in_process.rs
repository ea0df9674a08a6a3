//! The in-process backend: plain maps behind one lock that is never held across an await.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::CONTRACT_VERSION;
use ez_contract::health::{HealthKind, HealthState, health_field};
use ez_contract::live::LiveReport;
use ez_contract::models::{ModelsMeta, ModelsOrigin, models_checksum};
use ez_contract::response::ResponseOwner;
use ez_contract::snapshot::{ConfigEvent, GatewayHeartbeat, SnapshotChange, SnapshotEntry, SnapshotKey, SnapshotMeta};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::health::MAX_HEALTH_CHANGES;
use crate::in_process_limits::LimitTables;
use crate::in_process_responses::ResponseOwners;
use crate::publication::{MAX_EVENTS, Scope, changed_since, event, first_version, fold, next_models_meta};
use crate::shared_state::MAX_HEALTH_STATES;
use crate::{
    ConfigWatch, HealthChange, HealthCursor, Lease, Lessee, LimitAsk, LimitGrant, Publication, SnapshotDelta,
    SnapshotImage, StateError,
};

/// Counters are swept of expired ones when they pass this number, and then twice what was left.
const SWEEP_COUNTERS_AT: usize = 1024;

/// API keys with health states are swept of those whose states have all passed when they pass this number, and then
/// twice what was left.
const SWEEP_HEALTH_AT: usize = 1024;

/// State within this process. Made by [`crate::SharedState::in_process`].
#[derive(Clone)]
pub struct InProcessState(Arc<Shared>);

struct Shared {
    tables: Mutex<Tables>,
    version: watch::Sender<u64>,
    /// Number of the last change of health.
    health_change: watch::Sender<u64>,
}

struct Tables {
    meta: SnapshotMeta,
    entries: BTreeMap<SnapshotKey, SnapshotEntry>,
    models_meta: Option<ModelsMeta>,
    events: VecDeque<ConfigEvent>,
    leases: HashMap<String, Grant>,
    counters: HashMap<String, Window>,
    sweep_counters_at: usize,
    limits: LimitTables,
    gateways: BTreeMap<String, Expiring<GatewayHeartbeat>>,
    /// By run of a gateway.
    live: BTreeMap<String, Expiring<LiveReport>>,
    /// By API key, then by [`HealthState::field`].
    health: HashMap<i64, BTreeMap<String, Expiring<HealthState>>>,
    sweep_health_at: usize,
    health_changes: VecDeque<NumberedChange>,
    job_notes: BTreeMap<String, String>,
    response_owners: ResponseOwners,
}

/// A change of health with its number; a removal has no state.
struct NumberedChange {
    number: u64,
    api_key_id: i64,
    kind: HealthKind,
    model: Option<String>,
    state: Option<Expiring<HealthState>>,
}

/// The newest grant of a lease; kept after its end, for the fence.
struct Grant {
    holder: String,
    fence: u64,
    ends_at: Instant,
}

struct Window {
    count: u64,
    ends_at: Instant,
}

struct Expiring<Value> {
    value: Value,
    ends_at: Instant,
}

impl Default for InProcessState {
    fn default() -> Self {
        let tables = Tables {
            meta: SnapshotMeta::default(),
            entries: BTreeMap::new(),
            models_meta: None,
            events: VecDeque::new(),
            leases: HashMap::new(),
            counters: HashMap::new(),
            sweep_counters_at: SWEEP_COUNTERS_AT,
            limits: LimitTables::default(),
            gateways: BTreeMap::new(),
            live: BTreeMap::new(),
            health: HashMap::new(),
            sweep_health_at: SWEEP_HEALTH_AT,
            health_changes: VecDeque::new(),
            job_notes: BTreeMap::new(),
            response_owners: ResponseOwners::default(),
        };
        let (version, health_change) = (watch::Sender::new(0), watch::Sender::new(0));
        Self(Arc::new(Shared { tables: Mutex::new(tables), version, health_change }))
    }
}

impl fmt::Debug for InProcessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcessState").field("version", &*self.0.version.borrow()).finish_non_exhaustive()
    }
}

impl InProcessState {
    pub(crate) fn publish(
        &self,
        publisher: &str,
        published_at: DateTime<Utc>,
        publication: Publication,
        models: Option<ModelsOrigin>,
    ) -> Result<u64, StateError> {
        let mut tables = self.tables();
        let standing = tables.meta.version;
        let is_half = standing == 0 && publication.scope == Scope::Changes;
        if publication.base.is_some_and(|base| base.version != standing || is_half) {
            return Err(StateError::Overtaken);
        }
        let newest = publication.base.map_or(0, |base| base.newest);
        let is_whole = publication.scope == Scope::Everything || standing == 0;
        let changed = tables.apply(publication);
        let touches_models = changed.iter().any(|key| matches!(key, SnapshotKey::Model(_)));
        let accounted = tables.models_meta.as_ref().map(ModelsMeta::origin);
        // Adding up the models means writing out each of them: not where only other entries change.
        if is_whole || touches_models || models.as_ref().is_some_and(|origin| accounted.as_ref() != Some(origin)) {
            tables.account_for_models(models, published_at);
        }
        let version = match standing {
            0 => first_version(published_at),
            last => last + 1,
        };
        let version = version.max(newest + 1);
        tables.meta = SnapshotMeta {
            contract_version: CONTRACT_VERSION.to_owned(),
            version,
            pending: version,
            published_at: Some(published_at),
            publisher: publisher.to_owned(),
        };
        tables.events.push_back(event(version, Some(changed).filter(|_| standing >= newest)));
        if tables.events.len() > MAX_EVENTS {
            tables.events.pop_front();
        }
        // Within the lock, so that watchers see versions in their order.
        self.0.version.send_replace(version);
        Ok(version)
    }

    pub(crate) fn meta(&self) -> SnapshotMeta {
        self.tables().meta.clone()
    }

    pub(crate) fn models_meta(&self) -> Option<ModelsMeta> {
        self.tables().models_meta.clone()
    }

    pub(crate) fn read_snapshot(&self) -> SnapshotImage {
        let tables = self.tables();
        SnapshotImage {
            meta: tables.meta.clone(),
            entries: tables.entries.values().cloned().collect(),
            damaged: Vec::new(),
        }
    }

    pub(crate) fn read_changes(&self, since: u64) -> SnapshotDelta {
        let tables = self.tables();
        let version = tables.meta.version;
        if since == version {
            return SnapshotDelta::UpToDate;
        }
        let events = tables.events.iter().filter(|event| event.version > since);
        let Some(changed) = changed_since(since, version, events) else {
            return SnapshotDelta::TooOld;
        };
        let changes = changed
            .into_iter()
            .map(|key| match tables.entries.get(&key) {
                Some(entry) => SnapshotChange::Put(entry.clone()),
                None => SnapshotChange::Remove(key),
            })
            .collect();
        SnapshotDelta::Changes { meta: tables.meta.clone(), changes, damaged: Vec::new() }
    }

    pub(crate) fn subscribe(&self) -> ConfigWatch {
        ConfigWatch::in_process(self.0.version.subscribe())
    }

    pub(crate) fn acquire_lease(&self, name: &str, holder: &str, ttl: Duration) -> Option<Lease> {
        let mut tables = self.tables();
        let now = Instant::now();
        let last = tables.leases.get(name);
        let fence = match last {
            Some(grant) if grant.ends_at > now && grant.holder != holder => return None,
            Some(grant) if grant.ends_at > now => grant.fence,
            ended => ended.map_or(0, |grant| grant.fence + 1).max(clock_fence()),
        };
        tables.leases.insert(name.to_owned(), Grant { holder: holder.to_owned(), fence, ends_at: now + ttl });
        Some(Lease { name: name.to_owned(), holder: holder.to_owned(), fence })
    }

    pub(crate) fn release_lease(&self, lease: &Lease) -> bool {
        let mut tables = self.tables();
        let now = Instant::now();
        match tables.leases.get_mut(&lease.name) {
            Some(grant) if grant.holder == lease.holder && grant.fence == lease.fence && grant.ends_at > now => {
                grant.ends_at = now;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn increment(&self, key: &str, window: Duration) -> u64 {
        let mut tables = self.tables();
        let now = Instant::now();
        if let Some(counter) = tables.counters.get_mut(key).filter(|counter| counter.ends_at > now) {
            counter.count += 1;
            return counter.count;
        }
        tables.counters.insert(key.to_owned(), Window { count: 1, ends_at: now + window });
        if tables.counters.len() > tables.sweep_counters_at {
            tables.counters.retain(|_, counter| counter.ends_at > now);
            tables.sweep_counters_at = SWEEP_COUNTERS_AT.max(tables.counters.len() * 2);
        }
        1
    }

    pub(crate) fn join_lessees(&self, instance: &str, ttl: Duration) -> u64 {
        self.tables().limits.join(instance, ttl)
    }

    pub(crate) fn lease_limits(&self, lessee: &Lessee, asks: &[LimitAsk]) -> Vec<LimitGrant> {
        self.tables().limits.lease(lessee, asks)
    }

    pub(crate) fn report_gateway(&self, heartbeat: &GatewayHeartbeat, ttl: Duration) {
        let report = Expiring { value: heartbeat.clone(), ends_at: Instant::now() + ttl };
        self.tables().gateways.insert(heartbeat.node_id.clone(), report);
    }

    pub(crate) fn list_gateways(&self) -> Vec<GatewayHeartbeat> {
        let mut tables = self.tables();
        let now = Instant::now();
        tables.gateways.retain(|_, report| report.ends_at > now);
        tables.gateways.values().map(|report| report.value.clone()).collect()
    }

    pub(crate) fn report_live(&self, run: &str, report: &LiveReport, ttl: Duration) {
        let report = Expiring { value: report.clone(), ends_at: Instant::now() + ttl };
        self.tables().live.insert(run.to_owned(), report);
    }

    pub(crate) fn remove_live(&self, run: &str) {
        self.tables().live.remove(run);
    }

    pub(crate) fn list_live(&self) -> Vec<LiveReport> {
        let mut tables = self.tables();
        let now = Instant::now();
        tables.live.retain(|_, report| report.ends_at > now);
        tables.live.values().map(|report| report.value.clone()).collect()
    }

    pub(crate) fn put_health(&self, health: &HealthState, ttl: Duration) {
        let mut tables = self.tables();
        let now = Instant::now();
        let states = tables.health.entry(health.api_key_id).or_default();
        states.retain(|_, state| state.ends_at > now);
        let field = health.field();
        if states.len() >= MAX_HEALTH_STATES && !states.contains_key(&field) {
            let first = states.iter().min_by_key(|(_, state)| state.ends_at).map(|(field, _)| field.clone());
            first.and_then(|field| states.remove(&field));
        }
        states.insert(field, Expiring { value: health.clone(), ends_at: now + ttl });
        let state = Some(Expiring { value: health.clone(), ends_at: now + ttl });
        self.announce_health(&mut tables, health.api_key_id, health.kind, health.model.as_deref(), state);
        if tables.health.len() > tables.sweep_health_at {
            tables.health.retain(|_, states| states.values().any(|state| state.ends_at > now));
            tables.sweep_health_at = SWEEP_HEALTH_AT.max(tables.health.len() * 2);
        }
    }

    pub(crate) fn remove_health(&self, api_key_id: i64, kind: HealthKind, model: Option<&str>) {
        let mut tables = self.tables();
        let states = tables.health.get_mut(&api_key_id);
        if states.and_then(|states| states.remove(&health_field(kind, model))).is_some() {
            self.announce_health(&mut tables, api_key_id, kind, model, None);
        }
    }

    pub(crate) fn watch_health(&self) -> ConfigWatch {
        ConfigWatch::in_process(self.0.health_change.subscribe())
    }

    pub(crate) fn read_health_changes(&self, cursor: &HealthCursor) -> (Vec<HealthChange>, HealthCursor) {
        let tables = self.tables();
        let now = Instant::now();
        let since: u64 = cursor.0.parse().unwrap_or(0);
        let newer = tables.health_changes.iter().filter(|change| change.number > since);
        let changes = newer.filter_map(|change| match &change.state {
            Some(state) => {
                let left = state.ends_at.checked_duration_since(now).filter(|left| !left.is_zero())?;
                Some(HealthChange::Put { state: state.value.clone(), left })
            }
            None => {
                let NumberedChange { api_key_id, kind, ref model, .. } = *change;
                Some(HealthChange::Remove { api_key_id, kind, model: model.clone() })
            }
        });
        let last = tables.health_changes.back().map_or(since, |change| change.number);
        (changes.collect(), HealthCursor(last.to_string()))
    }

    fn announce_health(
        &self,
        tables: &mut Tables,
        api_key_id: i64,
        kind: HealthKind,
        model: Option<&str>,
        state: Option<Expiring<HealthState>>,
    ) {
        let number = tables.health_changes.back().map_or(0, |change| change.number) + 1;
        let model = model.map(str::to_owned);
        tables.health_changes.push_back(NumberedChange { number, api_key_id, kind, model, state });
        if tables.health_changes.len() > MAX_HEALTH_CHANGES {
            tables.health_changes.pop_front();
        }
        // Within the lock, so that watchers see changes in their order.
        self.0.health_change.send_replace(number);
    }

    pub(crate) fn list_health(&self, api_key_id: i64) -> Vec<HealthState> {
        let tables = self.tables();
        let now = Instant::now();
        let states = tables.health.get(&api_key_id).into_iter().flat_map(BTreeMap::values);
        states.filter(|state| state.ends_at > now).map(|state| state.value.clone()).collect()
    }

    pub(crate) fn put_job_note(&self, name: &str, note: &str) {
        self.tables().job_notes.insert(name.to_owned(), note.to_owned());
    }

    pub(crate) fn job_note(&self, name: &str) -> Option<String> {
        self.tables().job_notes.get(name).cloned()
    }

    pub(crate) fn list_job_notes(&self) -> BTreeMap<String, String> {
        self.tables().job_notes.clone()
    }

    pub(crate) fn claim_responses(&self, claims: &[(String, ResponseOwner)], ttl: Duration) -> Vec<ResponseOwner> {
        let mut tables = self.tables();
        claims.iter().map(|(id, owner)| tables.response_owners.claim(id, owner, ttl)).collect()
    }

    pub(crate) fn response_owner(&self, id: &str) -> Option<ResponseOwner> {
        self.tables().response_owners.get(id)
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Nothing in a locked section panics half-way, so a poisoned lock guards whole tables.
        self.0.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// Applies a publication and returns the keys that it touches.
    fn apply(&mut self, publication: Publication) -> Vec<SnapshotKey> {
        let mut desired = fold(publication.changes);
        if publication.scope == Scope::Everything {
            for key in self.entries.keys() {
                if !desired.contains_key(key) {
                    desired.insert(key.clone(), None);
                }
            }
        }
        let changed = desired.keys().cloned().collect();
        for (key, entry) in desired {
            match entry {
                Some(entry) => self.entries.insert(key, entry),
                None => self.entries.remove(&key),
            };
        }
        changed
    }

    fn account_for_models(&mut self, origin: Option<ModelsOrigin>, published_at: DateTime<Utc>) {
        let models = self.entries.values().filter_map(|entry| match entry {
            SnapshotEntry::Model(model) => Some((&model.name, serde_json::to_string(model).unwrap_or_default())),
            _ => None,
        });
        self.models_meta =
            Some(next_models_meta(self.models_meta.take(), origin, models_checksum(models), published_at));
    }
}

/// The least fence of a new grant: a process that starts anew must not repeat fences that a database remembers.
#[expect(clippy::disallowed_methods, reason = "a fence has to outgrow the last process's; no rule reads it as a time")]
fn clock_fence() -> u64 {
    u64::try_from(Utc::now().timestamp_millis()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_added_up_only_where_they_or_their_catalogue_change() {
        let state = InProcessState::default();
        let origin = |version: &str| ModelsOrigin { version: version.to_owned(), ..ModelsOrigin::default() };
        let publish = |entry, models| {
            let publication =
                Publication { changes: vec![SnapshotChange::Put(entry)], scope: Scope::Changes, base: None };
            state.publish("cp-1", DateTime::UNIX_EPOCH, publication, models).unwrap();
            state.models_meta().unwrap().checksum
        };
        let flag = || SnapshotEntry::Feature("flag".to_owned(), true);
        let right = publish(flag(), Some(origin("1")));

        // Whoever adds up finds this out.
        state.tables().models_meta.as_mut().unwrap().checksum = "wrong".to_owned();
        assert_eq!(publish(flag(), None), "wrong");
        assert_eq!(publish(flag(), Some(origin("1"))), "wrong");
        assert_eq!(publish(flag(), Some(origin("2"))), right);
        state.tables().models_meta.as_mut().unwrap().checksum = "wrong".to_owned();
        let model = serde_json::from_str(include_str!("../../ez-contract/goldens/model.json")).unwrap();
        assert_ne!(publish(SnapshotEntry::Model(model), None), "wrong");
    }
}
