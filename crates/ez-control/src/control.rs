//! The control plane as a value: what every rule needs, made once at start.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use ez_contract::secret::{SecretKey, SecretPlace};
use ez_contract::{Clock, TokenDigest};
use ez_state::SharedState;
use ez_store::{Store, settings};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;

use crate::ControlError;
use crate::catalogue::Kept;
use crate::counters;
use crate::credentials::{ClearToken, random_text};
use crate::error::Faults;
use crate::ingestion::Queue;
use crate::log_cleaner::LogRetention;
use crate::outbound::Resolver;
use crate::publisher::KeptReport;
use crate::realtime;
use crate::sign_in::{Attempts, Legacy, Sessions};
use crate::statistics;
use crate::write::{Actor, Write};

/// Settings that the first start makes.
const ADMIN_TOKEN_DIGEST: &str = "admin_token_digest";
pub(crate) const JWT_SECRET: &str = "jwt_secret";

/// What a control plane is made from.
pub struct ControlParts {
    /// The database, migrated.
    pub store: Store,
    /// Where snapshots are published.
    pub state: SharedState,
    /// What tells the time.
    pub clock: Arc<dyn Clock>,
    /// Seals secrets at rest (`EZ_SECRET_KEY`).
    pub secret_key: Arc<SecretKey>,
    /// The rest.
    pub config: ControlConfig,
}

/// Settings of a control plane.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// `EZ_NODE_ID`; signs publications.
    pub node_id: String,
    /// `EZ_ADMIN_TOKEN`. Without it the first start makes one.
    pub admin_token: Option<SecretString>,
    /// `EZ_JWT_SECRET`. Without it the first start makes one.
    pub jwt_secret: Option<SecretString>,
    /// `EZ_INTERNAL_TOKEN`. Without it no gateway of another process is let in.
    pub internal_token: Option<SecretString>,
    /// Outbox entries published at once at most (`EZ_SYNC_OUTBOX_BATCH_SIZE`).
    pub outbox_batch_size: u64,
    /// Prompt retries after a publication that failed, until the interval of the job decides again
    /// (`EZ_SYNC_OUTBOX_MAX_RETRIES`).
    pub outbox_max_retries: u32,
    /// How often jobs run, by their names (`EZ_JOB_<NAME>_INTERVAL`). One that is not named keeps its default.
    pub job_intervals: BTreeMap<&'static str, Duration>,
    /// First runs of jobs with a lease are spread over this time, so that processes that start at once do not crowd.
    pub job_spread: Duration,
    /// TLS of test calls and of the webhook, which trusts what gateways trust (`EZ_UPSTREAM_CA_FILE`); the public certificate authorities
    /// alone where absent.
    pub upstream_tls: Option<Arc<rustls::ClientConfig>>,
    /// The most that is kept of a call's request body, bytes (`EZ_LOG_BODY_MAX_BYTES`); 0 keeps nothing of them.
    pub log_body_max_bytes: usize,
    /// How long log records and roll-ups are kept.
    pub log_retention: LogRetention,
    /// Usage records that are stored at once, give or take what one gateway hands in (`EZ_LOG_BATCH_SIZE`).
    pub log_batch_size: usize,
    /// How long fewer of them gather (`EZ_LOG_FLUSH_INTERVAL`).
    pub log_flush_interval: Duration,
    /// Usage records that may wait to be stored (`EZ_LOG_QUEUE_CAPACITY`).
    pub log_queue_capacity: usize,
    /// How long a gateway counts as seen after a heartbeat.
    pub gateway_ttl: Duration,
    /// Whether the webhook's receiver may be at a loopback or private address (`EZ_WEBHOOK_ALLOW_PRIVATE`).
    pub webhook_allow_private: bool,
    /// Finds the addresses of names that test calls and the webhook go to.
    pub resolver: Resolver,
}

/// What the very first start made and is to be shown once.
#[derive(Debug)]
pub struct FirstRun {
    /// The admin token, where this start made it. Only its digest is kept.
    pub admin_token: Option<SecretString>,
}

/// The control plane. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Control(Arc<Parts>);

struct Parts {
    store: Store,
    state: SharedState,
    clock: Arc<dyn Clock>,
    secret_key: Arc<SecretKey>,
    config: ControlConfig,
    admin_digest: TokenDigest,
    sessions: Sessions,
    attempts: Attempts,
    legacy: Legacy,
    publishing: Publishing,
    catalogue: Kept,
    ingestion: Queue,
    questions: Semaphore,
    realtime: realtime::Kept,
}

/// What the publisher of this process keeps in memory.
pub(crate) struct Publishing {
    /// Names this process among those that publish, even where two bear the same node id.
    pub(crate) holder: String,
    /// One publication at a time within this process; the lease only keeps processes apart.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// Rung by every commit.
    pub(crate) wake: Notify,
    /// The newest version of the snapshot that this process knows of.
    newest: AtomicU64,
    last_reconcile: Mutex<Option<KeptReport>>,
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            node_id: "control".to_owned(),
            admin_token: None,
            jwt_secret: None,
            internal_token: None,
            outbox_batch_size: 500,
            outbox_max_retries: 8,
            job_intervals: BTreeMap::new(),
            job_spread: Duration::from_secs(5),
            upstream_tls: None,
            log_body_max_bytes: 64 << 10,
            log_retention: LogRetention::default(),
            log_batch_size: 500,
            log_flush_interval: Duration::from_millis(200),
            log_queue_capacity: 10_000,
            gateway_ttl: Duration::from_secs(60),
            webhook_allow_private: false,
            resolver: Resolver::default(),
        }
    }
}

impl Control {
    /// Makes a control plane on a migrated database, and what the first start needs: an admin token and a JWT secret
    /// where none are configured. Processes that start at once agree on both.
    ///
    /// Errors: `Invalid` for a configured secret that is empty, `Internal` where the kept JWT secret cannot be opened
    /// (another `EZ_SECRET_KEY` than before), `Unavailable`.
    pub async fn prepare(parts: ControlParts) -> Result<(Self, FirstRun), ControlError> {
        let ControlParts { store, state, clock, secret_key, config } = parts;
        refuse_empty_secrets(&config)?;
        counters::show();
        let (admin_digest, first_run) = admin_digest(&store, &config).await?;
        let jwt_secret = jwt_secret(&store, &secret_key, &config).await?;
        let publishing = Publishing {
            holder: format!("{}:{}", config.node_id, Uuid::new_v4().simple()),
            turn: tokio::sync::Mutex::new(()),
            wake: Notify::new(),
            newest: AtomicU64::new(0),
            last_reconcile: Mutex::new(None),
        };
        let sessions = Sessions::new(jwt_secret);
        let attempts = Attempts::new();
        let legacy = Legacy::default();
        let catalogue = Kept::default();
        let realtime = realtime::Kept::default();
        let parts = Parts {
            store,
            state,
            clock,
            secret_key,
            config,
            admin_digest,
            sessions,
            attempts,
            legacy,
            publishing,
            catalogue,
            ingestion: Queue::default(),
            questions: Semaphore::new(statistics::QUESTIONS_AT_ONCE),
            realtime,
        };
        Ok((Self(Arc::new(parts)), first_run))
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The shared state.
    pub fn state(&self) -> &SharedState {
        &self.0.state
    }

    /// The settings.
    pub fn config(&self) -> &ControlConfig {
        &self.0.config
    }

    /// The time now, in the microseconds that the database keeps.
    pub fn now(&self) -> DateTime<Utc> {
        self.0.clock.now().trunc_subsecs(6)
    }

    /// Begins a unit of work. On SQLite it holds the only write connection until it ends: check what can be checked
    /// before, and wait for nothing else in it.
    pub async fn write(&self, actor: Actor) -> Result<Write, ControlError> {
        let tx = self.store().begin().await?;
        Ok(Write::new(self.clone(), tx, actor))
    }

    pub(crate) fn secret_key(&self) -> &SecretKey {
        &self.0.secret_key
    }

    pub(crate) fn admin_digest(&self) -> &TokenDigest {
        &self.0.admin_digest
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    pub(crate) fn attempts(&self) -> &Attempts {
        &self.0.attempts
    }

    /// Room for statistics that are added up from the records themselves.
    pub(crate) fn questions(&self) -> &Semaphore {
        &self.0.questions
    }

    pub(crate) fn legacy(&self) -> &Legacy {
        &self.0.legacy
    }

    /// The renewed model catalogue, as it was read last.
    pub(crate) fn catalogue(&self) -> &Kept {
        &self.0.catalogue
    }

    /// The live figures, as they were read last.
    pub(crate) fn realtime(&self) -> &realtime::Kept {
        &self.0.realtime
    }

    pub(crate) fn publishing(&self) -> &Publishing {
        &self.0.publishing
    }

    /// What gateways handed in and the writer has not taken yet.
    pub(crate) fn ingestion(&self) -> &Queue {
        &self.0.ingestion
    }
}

impl Publishing {
    /// Takes note of a version, and tells the newest one known.
    pub(crate) fn newest_with(&self, version: u64) -> u64 {
        self.newest.fetch_max(version, Ordering::Relaxed).max(version)
    }

    /// What the last full comparison of this process found.
    pub(crate) fn last_reconcile(&self) -> Option<KeptReport> {
        self.last_reconcile.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn keep_report(&self, report: KeptReport) {
        *self.last_reconcile.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("node_id", &self.config().node_id).finish_non_exhaustive()
    }
}

/// An empty secret would let in whoever sends nothing.
fn refuse_empty_secrets(config: &ControlConfig) -> Result<(), ControlError> {
    let mut faults = Faults::default();
    let secrets = [
        ("EZ_ADMIN_TOKEN", &config.admin_token),
        ("EZ_JWT_SECRET", &config.jwt_secret),
        ("EZ_INTERNAL_TOKEN", &config.internal_token),
    ];
    for (name, secret) in secrets {
        if secret.as_ref().is_some_and(|secret| secret.expose_secret().trim().is_empty()) {
            faults.add(name, "must not be empty; set it, or leave it out");
        }
    }
    faults.into_result()
}

async fn admin_digest(store: &Store, config: &ControlConfig) -> Result<(TokenDigest, FirstRun), ControlError> {
    if let Some(token) = &config.admin_token {
        return Ok((TokenDigest::of(token.expose_secret()), FirstRun { admin_token: None }));
    }
    if let Some(kept) = settings::get(store, ADMIN_TOKEN_DIGEST).await? {
        return Ok((kept.parse().map_err(ControlError::internal)?, FirstRun { admin_token: None }));
    }
    let made = ClearToken::for_admin();
    let kept = keep(store, ADMIN_TOKEN_DIGEST, &made.digest.to_string()).await?;
    let digest = kept.parse().map_err(ControlError::internal)?;
    // Another process may have been first; its token is the one that counts, and it shows it.
    let admin_token = (digest == made.digest).then_some(made.clear);
    Ok((digest, FirstRun { admin_token }))
}

async fn jwt_secret(store: &Store, key: &SecretKey, config: &ControlConfig) -> Result<SecretString, ControlError> {
    if let Some(secret) = &config.jwt_secret {
        return Ok(secret.clone());
    }
    let place = SecretPlace { table: "settings", uuid: Uuid::nil(), field: JWT_SECRET };
    let sealed = match settings::get(store, JWT_SECRET).await? {
        Some(kept) => kept,
        None => keep(store, JWT_SECRET, &key.seal(&random_text(), place, rand::random())?).await?,
    };
    Ok(SecretString::from(key.open(&sealed, place)?))
}

/// Keeps a setting unless another process has just done so, and returns the one that stands.
async fn keep(store: &Store, name: &str, value: &str) -> Result<String, ControlError> {
    let tx = store.begin().await?;
    let standing = settings::put_if_absent(&tx, name, value).await?;
    tx.commit().await?;
    Ok(standing)
}
