//! A control plane over real backends with a clock that the test moves, and short ways to fill it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::provider::{Protocol, ProviderType};
use ez_contract::secret::SecretKey;
use ez_contract::snapshot::{SnapshotEntry, SnapshotKey};
use ez_contract::usage::{EndedBy, TokenUsage, UsageSource};
use ez_contract::{TokenDigest, UsageRecord};
use ez_control::api_keys::CreateApiKey;
use ez_control::bindings::CreateBinding;
use ez_control::child_keys::{CreateChildKey, IssuedChildKey};
use ez_control::credentials::MasterKey;
use ez_control::masters::{CreateMaster, CreatedMaster};
use ez_control::namespaces::CreateNamespace;
use ez_control::provider_groups::CreateProviderGroup;
use ez_control::{
    Actor, Control, ControlConfig, ControlError, ControlParts, Origin, Write, api_keys, bindings, child_keys, masters,
    namespaces, provider_groups,
};
use ez_state::SharedState;
use ez_store::api_keys::ApiKey;
use ez_store::bindings::Binding;
use ez_store::namespaces::Namespace;
use ez_store::provider_groups::ProviderGroup;
use ez_store::{Backend, ConnectOptions, Page, Store, outbox};
use ez_testkit::clock::FakeClock;
use ez_testkit::database::TestDatabase;
use ez_testkit::redis_server::SharedRedis;
use secrecy::{ExposeSecret, SecretString};

pub(crate) const ADMIN_TOKEN: &str = "admin-token-of-the-tests";
pub(crate) const INTERNAL_TOKEN: &str = "internal-token-of-the-tests";
pub(crate) const FIRST_PAGE: Page = Page { offset: 0, limit: 100 };

/// A control plane and what it stands on.
pub(crate) struct Plane {
    pub(crate) control: Control,
    pub(crate) clock: FakeClock,
    pub(crate) database: TestDatabase,
    state: StateSource,
}

/// Where the shared state is.
#[derive(Clone)]
pub(crate) enum StateSource {
    InProcess(SharedState),
    Redis { url: String, prefix: String },
}

impl Plane {
    /// SQLite and in-process state.
    pub(crate) async fn embedded() -> Self {
        Self::over(TestDatabase::sqlite(), StateSource::InProcess(SharedState::in_process())).await
    }

    /// PostgreSQL and Redis.
    pub(crate) async fn scaled_out() -> Self {
        let SharedRedis { url, prefix } = SharedRedis::for_this_test();
        Self::over(TestDatabase::postgres().await, StateSource::Redis { url, prefix }).await
    }

    pub(crate) async fn over(database: TestDatabase, state: StateSource) -> Self {
        let clock = FakeClock::now();
        let store = connect(&database).await;
        store.migrate().await.unwrap();
        let parts = parts(store, state.connect().await, &clock, config());
        let (control, _) = Control::prepare(parts).await.unwrap();
        Self { control, clock, database, state }
    }

    /// What another control plane on the same backends is made from: another process, where these can be shared by
    /// processes.
    pub(crate) async fn parts_of_another(&self, config: ControlConfig) -> ControlParts {
        let store = match self.control.store().backend() {
            Backend::Sqlite => self.control.store().clone(),
            Backend::Postgres => connect(&self.database).await,
        };
        parts(store, self.state.connect().await, &self.clock, config)
    }

    /// Another control plane on the same backends.
    pub(crate) async fn another(&self) -> Control {
        Control::prepare(self.parts_of_another(config()).await).await.unwrap().0
    }

    /// A unit of work of an administrator.
    pub(crate) async fn write(&self) -> Write {
        self.control.write(Actor::admin(origin())).await.unwrap()
    }

    pub(crate) async fn try_master(&self, new: CreateMaster) -> Result<CreatedMaster, ControlError> {
        let key = MasterKey::generate().await?;
        let write = self.write().await;
        let created = masters::create(&write, new, key).await?;
        write.commit().await?;
        Ok(created)
    }

    pub(crate) async fn master(&self, name: &str) -> CreatedMaster {
        self.try_master(CreateMaster { name: name.to_owned(), ..CreateMaster::default() }).await.unwrap()
    }

    pub(crate) async fn try_key(&self, master_id: i64, new: CreateChildKey) -> Result<IssuedChildKey, ControlError> {
        let write = self.write().await;
        let issued = child_keys::create(&write, master_id, new).await?;
        write.commit().await?;
        Ok(issued)
    }

    pub(crate) async fn key(&self, master_id: i64) -> IssuedChildKey {
        self.try_key(master_id, CreateChildKey::default()).await.unwrap()
    }

    pub(crate) async fn namespace(&self, name: &str) -> Namespace {
        let write = self.write().await;
        let new = CreateNamespace { name: name.to_owned(), ..CreateNamespace::default() };
        let namespace = namespaces::create(&write, new).await.unwrap();
        write.commit().await.unwrap();
        namespace
    }

    pub(crate) async fn try_group(&self, new: CreateProviderGroup) -> Result<ProviderGroup, ControlError> {
        let write = self.write().await;
        let group = provider_groups::create(&write, new).await?;
        write.commit().await?;
        Ok(group)
    }

    /// A group of type `openai` with the model `m`.
    pub(crate) async fn group(&self, name: &str) -> ProviderGroup {
        self.try_group(openai_group(name)).await.unwrap()
    }

    pub(crate) async fn try_api_key(&self, new: CreateApiKey) -> Result<ApiKey, ControlError> {
        let write = self.write().await;
        let api_key = api_keys::create(&write, new).await?;
        write.commit().await?;
        Ok(api_key)
    }

    pub(crate) async fn api_key(&self, group_id: i64) -> ApiKey {
        self.try_api_key(secret_in(group_id, "sk-upstream")).await.unwrap()
    }

    pub(crate) async fn try_binding(&self, new: CreateBinding) -> Result<Binding, ControlError> {
        let write = self.write().await;
        let binding = bindings::create(&write, new).await?;
        write.commit().await?;
        Ok(binding)
    }

    /// A binding of the model `m` in the namespace `default`.
    pub(crate) async fn binding(&self, group_id: i64) -> Binding {
        self.try_binding(model_of(group_id)).await.unwrap()
    }

    /// The entry that is published under a key.
    pub(crate) async fn published(&self, key: &SnapshotKey) -> Option<SnapshotEntry> {
        let image = self.control.state().read_snapshot().await.unwrap();
        assert_eq!(image.damaged, Vec::<String>::new());
        image.entries.into_iter().find(|entry| entry.key() == *key)
    }

    /// Runs a statement behind the control plane's back.
    pub(crate) async fn sql(&self, statement: &'static str) {
        self.database.execute(statement).await;
    }

    pub(crate) async fn version(&self) -> u64 {
        self.control.state().meta().await.unwrap().version
    }

    pub(crate) async fn outbox_depth(&self) -> u64 {
        outbox::depth(self.control.store()).await.unwrap()
    }
}

impl StateSource {
    async fn connect(&self) -> SharedState {
        match self {
            Self::InProcess(state) => state.clone(),
            Self::Redis { url, prefix } => SharedState::connect_redis(url, prefix).await.unwrap(),
        }
    }
}

pub(crate) async fn connect(database: &TestDatabase) -> Store {
    let options = ConnectOptions { max_connections: 4, ..ConnectOptions::default() };
    Store::connect(database.url(), options).await.unwrap()
}

fn parts(store: Store, state: SharedState, clock: &FakeClock, config: ControlConfig) -> ControlParts {
    ControlParts { store, state, clock: Arc::new(clock.clone()), secret_key: Arc::new(secret_key()), config }
}

pub(crate) fn config() -> ControlConfig {
    ControlConfig {
        admin_token: Some(SecretString::from(ADMIN_TOKEN)),
        internal_token: Some(SecretString::from(INTERNAL_TOKEN)),
        job_spread: Duration::ZERO,
        ..ControlConfig::default()
    }
}

pub(crate) fn secret_key() -> SecretKey {
    SecretKey::from_bytes(&[7; 32]).unwrap()
}

pub(crate) fn origin() -> Origin {
    Origin { request_id: "req-1".to_owned(), client_ip: Some("192.0.2.7".parse().unwrap()) }
}

pub(crate) fn openai_group(name: &str) -> CreateProviderGroup {
    CreateProviderGroup {
        name: name.to_owned(),
        provider_type: ProviderType::Openai,
        protocols: None,
        route_group: None,
        base_url: None,
        google_project: None,
        google_location: None,
        api_version: None,
        models: Some(vec!["m".to_owned()]),
        status: None,
    }
}

pub(crate) fn secret_in(group_id: i64, secret: &str) -> CreateApiKey {
    CreateApiKey {
        group_id,
        name: None,
        api_key: SecretString::from(secret),
        weight: None,
        max_concurrency: None,
        status: None,
        auto_ban: None,
    }
}

pub(crate) fn model_of(group_id: i64) -> CreateBinding {
    CreateBinding {
        namespace: "default".to_owned(),
        public_model: "m".to_owned(),
        group_id,
        ..CreateBinding::default()
    }
}

pub(crate) fn token_of(issued: &IssuedChildKey) -> SnapshotKey {
    SnapshotKey::Token(TokenDigest::of(issued.token.expose_secret()))
}

pub(crate) fn usage_record(id: &str, master_id: i64, created_at: DateTime<Utc>) -> UsageRecord {
    UsageRecord {
        id: id.to_owned(),
        request_id: format!("req-{id}"),
        created_at,
        master_id,
        key_id: 1,
        group_id: None,
        api_key_id: None,
        namespace: "default".to_owned(),
        model: "m".to_owned(),
        upstream_model: None,
        protocol: Protocol::OpenaiChat,
        provider_type: None,
        status: 200,
        error: None,
        stream: false,
        ended_by: EndedBy::Complete,
        attempts: 1,
        latency_ms: 12,
        first_byte_ms: Some(7),
        tokens: TokenUsage::default(),
        usage_source: UsageSource::Unknown,
        cost: None,
        price_version: None,
        client_ip: None,
        request_bytes: 10,
        response_bytes: 20,
    }
}

/// The faults of a refused request as `pointer: message`; panics on any other outcome.
#[track_caller]
pub(crate) fn faults<T: std::fmt::Debug>(outcome: Result<T, ControlError>) -> Vec<String> {
    match outcome {
        Err(ControlError::Invalid(faults)) => {
            faults.into_iter().map(|fault| format!("{}: {}", fault.pointer, fault.message)).collect()
        }
        other => panic!("expected faults, got {other:?}"),
    }
}

/// The pointers of those faults, in their order.
#[track_caller]
pub(crate) fn pointers<T: std::fmt::Debug>(outcome: Result<T, ControlError>) -> Vec<String> {
    faults(outcome).iter().map(|fault| fault.split(':').next().unwrap().to_owned()).collect()
}

/// The message and references of a conflict; panics on any other outcome.
#[track_caller]
pub(crate) fn conflict<T: std::fmt::Debug>(outcome: Result<T, ControlError>) -> (String, Vec<String>) {
    match outcome {
        Err(ControlError::Conflict { message, references }) => (message, references),
        other => panic!("expected a conflict, got {other:?}"),
    }
}

#[track_caller]
pub(crate) fn assert_not_found<T: std::fmt::Debug>(outcome: Result<T, ControlError>) {
    assert!(matches!(outcome, Err(ControlError::NotFound { .. })), "{outcome:?}");
}

#[track_caller]
pub(crate) fn assert_unauthenticated<T: std::fmt::Debug>(outcome: Result<T, ControlError>) {
    assert!(matches!(outcome, Err(ControlError::Unauthenticated { .. })), "{outcome:?}");
}

#[track_caller]
pub(crate) fn assert_too_many<T: std::fmt::Debug>(outcome: Result<T, ControlError>) {
    assert!(matches!(outcome, Err(ControlError::TooMany { .. })), "{outcome:?}");
}
