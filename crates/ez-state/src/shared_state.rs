//! The closed enum of backends: every operation on shared state starts here.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::health::{HealthKind, HealthState};
use ez_contract::live::LiveReport;
use ez_contract::models::{ModelsMeta, ModelsOrigin};
use ez_contract::response::ResponseOwner;
use ez_contract::snapshot::{GatewayHeartbeat, SnapshotMeta};

use crate::publication::Scope;
use crate::{
    ConfigWatch, HealthChange, HealthCursor, InProcessState, Lease, Lessee, LimitAsk, LimitGrant, Publication,
    RedisState, ServerFacts, SnapshotDelta, SnapshotImage, StateError,
};

/// Health states that an API key has at most.
pub(crate) const MAX_HEALTH_STATES: usize = 64;

/// State that control planes and gateways share. Clones are cheap and see the same state.
///
/// Operations on Redis are bounded to about two seconds each and fail with [`StateError::Unavailable`] while it is
/// down; the connection heals by itself. The in-process backend never fails.
#[derive(Debug, Clone)]
pub enum SharedState {
    /// Within this process, for a single `ez-api serve`.
    InProcess(InProcessState),
    /// In Redis, for any number of processes.
    Redis(RedisState),
}

impl SharedState {
    /// An empty state that lives as long as its clones.
    pub fn in_process() -> Self {
        Self::InProcess(InProcessState::default())
    }

    /// State in the Redis at `url` (`redis://`, `rediss://`, `valkey://`), every key and channel behind `prefix`
    /// (`EZ_REDIS_PREFIX`, may be empty).
    ///
    /// Does not wait for Redis, as a gateway starts without it; [`Self::ping`] tells whether it is there. Async because
    /// the connection needs the running runtime. A URL that cannot be used is [`StateError::Backend`].
    pub async fn connect_redis(url: &str, prefix: &str) -> Result<Self, StateError> {
        RedisState::connect(url, prefix).map(Self::Redis)
    }

    /// `in-process` or `redis`.
    pub fn backend_name(&self) -> &'static str {
        match self {
            Self::InProcess(_) => "in-process",
            Self::Redis(_) => "redis",
        }
    }

    /// Whether the backend answers.
    pub async fn ping(&self) -> Result<(), StateError> {
        match self {
            Self::InProcess(_) => Ok(()),
            Self::Redis(state) => state.ping().await,
        }
    }

    /// What the server behind this state tells of itself; none within the process.
    pub async fn server_facts(&self) -> Result<Option<ServerFacts>, StateError> {
        match self {
            Self::InProcess(_) => Ok(None),
            Self::Redis(state) => state.server_facts().await.map(Some),
        }
    }

    /// Publishes at once, for readers: they see all of it or none of it. Returns the snapshot version that it made;
    /// versions of one state only grow. Changes that name nothing are no publication: the present version is returned.
    /// [`StateError::Overtaken`] where the publication's base does not stand any more.
    ///
    /// Where model entries change, so does the account of them ([`Self::models_meta`]); its origin stays.
    ///
    /// Publishers take turns; [`StateError::Unsettled`] means that the turn did not come within seconds. After any
    /// error readers keep waiting on what was begun, until some publication is completed: publish again.
    pub async fn publish(
        &self,
        publisher: &str,
        published_at: DateTime<Utc>,
        publication: Publication,
    ) -> Result<u64, StateError> {
        if names_nothing(&publication) {
            return self.stay(&publication).await;
        }
        self.publish_now(publisher, published_at, publication, None).await
    }

    /// The same by a publisher that knows which model catalogue the model entries are made with. Changes that name
    /// nothing are a publication where another catalogue is accounted for.
    pub async fn publish_with_models(
        &self,
        publisher: &str,
        published_at: DateTime<Utc>,
        publication: Publication,
        models: ModelsOrigin,
    ) -> Result<u64, StateError> {
        if names_nothing(&publication) && self.models_meta().await?.is_some_and(|standing| standing.origin() == models)
        {
            return self.stay(&publication).await;
        }
        self.publish_now(publisher, published_at, publication, Some(models)).await
    }

    async fn publish_now(
        &self,
        publisher: &str,
        published_at: DateTime<Utc>,
        publication: Publication,
        models: Option<ModelsOrigin>,
    ) -> Result<u64, StateError> {
        match self {
            Self::InProcess(state) => state.publish(publisher, published_at, publication, models),
            Self::Redis(state) => state.publish(publisher, published_at, publication, models).await,
        }
    }

    /// The version that stands, where that is what a publication of nothing was made for.
    async fn stay(&self, publication: &Publication) -> Result<u64, StateError> {
        let version = self.meta().await?.version;
        match publication.base {
            Some(base) if base.version != version => Err(StateError::Overtaken),
            _ => Ok(version),
        }
    }

    /// The account of the published models; none before the first publication, or where it is damaged.
    pub async fn models_meta(&self) -> Result<Option<ModelsMeta>, StateError> {
        match self {
            Self::InProcess(state) => Ok(state.models_meta()),
            Self::Redis(state) => state.models_meta().await,
        }
    }

    /// Which publication stands, and whether one is under way.
    pub async fn meta(&self) -> Result<SnapshotMeta, StateError> {
        match self {
            Self::InProcess(state) => Ok(state.meta()),
            Self::Redis(state) => state.meta().await,
        }
    }

    /// Reads the whole snapshot. [`StateError::Unsettled`] when publications got in the way for about a second.
    pub async fn read_snapshot(&self) -> Result<SnapshotImage, StateError> {
        match self {
            Self::InProcess(state) => Ok(state.read_snapshot()),
            Self::Redis(state) => state.read_snapshot().await,
        }
    }

    /// Reads what changed after version `since`, as consistently as [`Self::read_snapshot`].
    pub async fn read_changes(&self, since: u64) -> Result<SnapshotDelta, StateError> {
        match self {
            Self::InProcess(state) => Ok(state.read_changes(since)),
            Self::Redis(state) => state.read_changes(since).await,
        }
    }

    /// A wake-up for publications. Subscribe before the first read, so that nothing falls in between.
    pub fn subscribe(&self) -> ConfigWatch {
        match self {
            Self::InProcess(state) => state.subscribe(),
            Self::Redis(state) => state.subscribe(),
        }
    }

    /// Takes the lease `name` for `ttl`, or renews it where `holder` has it already; `None` where another has it.
    pub async fn acquire_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Lease>, StateError> {
        match self {
            Self::InProcess(state) => Ok(state.acquire_lease(name, holder, ttl)),
            Self::Redis(state) => state.acquire_lease(name, holder, ttl).await,
        }
    }

    /// Gives a lease back before its time. Does nothing to a lease that was granted anew since; says whether this one
    /// was still held.
    pub async fn release_lease(&self, lease: &Lease) -> Result<bool, StateError> {
        match self {
            Self::InProcess(state) => Ok(state.release_lease(lease)),
            Self::Redis(state) => state.release_lease(lease).await,
        }
    }

    /// Counts one event under `key` (`limit:{key}`) and returns how many there were in the window. The window begins
    /// with its first event and lasts `window`; later events do not prolong it. An event may count twice when the
    /// connection breaks meanwhile.
    pub async fn increment(&self, key: &str, window: Duration) -> Result<u64, StateError> {
        match self {
            Self::InProcess(state) => Ok(state.increment(key, window)),
            Self::Redis(state) => state.increment(key, window).await,
        }
    }

    /// Counts this run of a gateway among those that lease limits, for `ttl`; how many these are, itself included.
    pub async fn join_lessees(&self, instance: &str, ttl: Duration) -> Result<u64, StateError> {
        match self {
            Self::InProcess(state) => Ok(state.join_lessees(instance, ttl)),
            Self::Redis(state) => state.join_lessees(instance, ttl).await,
        }
    }

    /// Tells what a gateway holds of counters (`limit:{counter}`) and leases what it wants besides, as far as their
    /// limits allow: one round trip for all. The grants are in the order of the asks. Telling twice changes nothing.
    ///
    /// What all gateways hold together passes a limit only by what they say that they used beyond their grants.
    pub async fn lease_limits(&self, lessee: &Lessee, asks: &[LimitAsk]) -> Result<Vec<LimitGrant>, StateError> {
        match self {
            Self::InProcess(state) => Ok(state.lease_limits(lessee, asks)),
            Self::Redis(state) => state.lease_limits(lessee, asks).await,
        }
    }

    /// Tells of a gateway; forgotten after `ttl` unless told again.
    pub async fn report_gateway(&self, heartbeat: &GatewayHeartbeat, ttl: Duration) -> Result<(), StateError> {
        match self {
            Self::InProcess(state) => {
                state.report_gateway(heartbeat, ttl);
                Ok(())
            }
            Self::Redis(state) => state.report_gateway(heartbeat, ttl).await,
        }
    }

    /// Gateways heard of within their time, ordered by node id.
    pub async fn list_gateways(&self) -> Result<Vec<GatewayHeartbeat>, StateError> {
        match self {
            Self::InProcess(state) => Ok(state.list_gateways()),
            Self::Redis(state) => state.list_gateways().await,
        }
    }

    /// Tells the live figures of this run of a gateway, in place of those before; forgotten after `ttl` unless told again.
    pub async fn report_live(&self, run: &str, report: &LiveReport, ttl: Duration) -> Result<(), StateError> {
        match self {
            Self::InProcess(state) => {
                state.report_live(run, report, ttl);
                Ok(())
            }
            Self::Redis(state) => state.report_live(run, report, ttl).await,
        }
    }

    /// Forgets the live figures of a run that ends.
    pub async fn remove_live(&self, run: &str) -> Result<(), StateError> {
        match self {
            Self::InProcess(state) => {
                state.remove_live(run);
                Ok(())
            }
            Self::Redis(state) => state.remove_live(run).await,
        }
    }

    /// The live figures of all gateways within their time, by run: one round trip.
    pub async fn list_live(&self) -> Result<Vec<LiveReport>, StateError> {
        match self {
            Self::InProcess(state) => Ok(state.list_live()),
            Self::Redis(state) => state.list_live().await,
        }
    }

    /// Keeps a state of an API key for `ttl`, in place of the one of the same kind and model. An API key has at most 64
    /// of them; beyond that the one that passes first makes room.
    pub async fn put_health(&self, health: &HealthState, ttl: Duration) -> Result<(), StateError> {
        match self {
            Self::InProcess(state) => {
                state.put_health(health, ttl);
                Ok(())
            }
            Self::Redis(state) => state.put_health(health, ttl).await,
        }
    }

    /// Forgets the state of this kind and model before its time.
    pub async fn remove_health(
        &self,
        api_key_id: i64,
        kind: HealthKind,
        model: Option<&str>,
    ) -> Result<(), StateError> {
        match self {
            Self::InProcess(state) => {
                state.remove_health(api_key_id, kind, model);
                Ok(())
            }
            Self::Redis(state) => state.remove_health(api_key_id, kind, model).await,
        }
    }

    /// The states of an API key that have not passed yet, by kind and model.
    pub async fn list_health(&self, api_key_id: i64) -> Result<Vec<HealthState>, StateError> {
        match self {
            Self::InProcess(state) => Ok(state.list_health(api_key_id)),
            Self::Redis(state) => state.list_health(api_key_id).await,
        }
    }

    /// Keeps who made stored responses, by their ids, for `ttl`: one round trip for all. Who claims an id first owns it,
    /// because some servers let clients choose it; tells who owns each. Within the process the newest 100,000 are kept.
    pub async fn claim_responses(
        &self,
        claims: &[(String, ResponseOwner)],
        ttl: Duration,
    ) -> Result<Vec<ResponseOwner>, StateError> {
        match self {
            Self::InProcess(state) => Ok(state.claim_responses(claims, ttl)),
            Self::Redis(state) => state.claim_responses(claims, ttl).await,
        }
    }

    /// Who made a stored response.
    pub async fn response_owner(&self, id: &str) -> Result<Option<ResponseOwner>, StateError> {
        match self {
            Self::InProcess(state) => Ok(state.response_owner(id)),
            Self::Redis(state) => state.response_owner(id).await,
        }
    }

    /// Wakes a reader of [`Self::read_health_changes`].
    pub fn watch_health(&self) -> ConfigWatch {
        match self {
            Self::InProcess(state) => state.watch_health(),
            Self::Redis(state) => state.watch_health(),
        }
    }

    /// The changes of health states since `cursor`, oldest first and without what has passed, and the cursor to go on
    /// from. The last 1,000 changes are kept.
    pub async fn read_health_changes(
        &self,
        cursor: &HealthCursor,
    ) -> Result<(Vec<HealthChange>, HealthCursor), StateError> {
        match self {
            Self::InProcess(state) => Ok(state.read_health_changes(cursor)),
            Self::Redis(state) => state.read_health_changes(cursor).await,
        }
    }

    /// Keeps a note under `name`, in place of the one before: what a job of the control planes did last, as whoever
    /// writes and reads it understands it. It stands until the state is lost, so names must be few and notes short.
    pub async fn put_job_note(&self, name: &str, note: &str) -> Result<(), StateError> {
        match self {
            Self::InProcess(state) => {
                state.put_job_note(name, note);
                Ok(())
            }
            Self::Redis(state) => state.put_job_note(name, note).await,
        }
    }

    /// The note that stands under `name`.
    pub async fn job_note(&self, name: &str) -> Result<Option<String>, StateError> {
        match self {
            Self::InProcess(state) => Ok(state.job_note(name)),
            Self::Redis(state) => state.job_note(name).await,
        }
    }

    /// All notes, by name.
    pub async fn list_job_notes(&self) -> Result<BTreeMap<String, String>, StateError> {
        match self {
            Self::InProcess(state) => Ok(state.list_job_notes()),
            Self::Redis(state) => state.list_job_notes().await,
        }
    }
}

fn names_nothing(publication: &Publication) -> bool {
    publication.scope == Scope::Changes && publication.changes.is_empty()
}
