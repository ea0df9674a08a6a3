//! A migrated store on a database of its own, and records to put into it.

use chrono::{DateTime, TimeDelta, Utc};
use ez_contract::TokenDigest;
use ez_contract::provider::{Protocol, ProviderType};
use ez_contract::selector::SelectorType;
use ez_contract::status::{ApiKeyStatus, KeyStatus, RecordStatus};
use ez_store::api_keys::{ApiKey, NewApiKey};
use ez_store::bindings::NewBinding;
use ez_store::child_keys::{ChildKey, NewChildKey};
use ez_store::masters::{Master, NewMaster};
use ez_store::namespaces::NewNamespace;
use ez_store::provider_groups::{NewProviderGroup, ProviderGroup};
use ez_store::{Backend, ConnectOptions, IssuedBy, Page, QuotaReset, Store, StoreTx};
use ez_store::{api_keys, child_keys, masters, provider_groups};
use ez_testkit::database::TestDatabase;
use sqlx::Connection;
use uuid::Uuid;

pub(crate) const FIRST_PAGE: Page = Page { offset: 0, limit: 100 };

pub(crate) struct Fixture {
    // Before the database, so that its connections are gone first.
    pub(crate) store: Store,
    pub(crate) database: TestDatabase,
}

impl Fixture {
    pub(crate) async fn sqlite() -> Self {
        Self::on(TestDatabase::sqlite()).await
    }

    pub(crate) async fn postgres() -> Self {
        Self::on(TestDatabase::postgres().await).await
    }

    async fn on(database: TestDatabase) -> Self {
        let store = connect(&database).await;
        store.migrate().await.unwrap();
        Self { store, database }
    }

    /// A database of the same kind to which nothing was applied.
    pub(crate) async fn empty_beside(other: &Self) -> Self {
        let database = match other.store.backend() {
            Backend::Sqlite => TestDatabase::sqlite(),
            Backend::Postgres => TestDatabase::postgres().await,
        };
        Self { store: connect(&database).await, database }
    }

    /// Does in a transaction of its own what `work` does.
    pub(crate) async fn commit<T>(&self, work: impl AsyncFnOnce(&StoreTx) -> Result<T, ez_store::StoreError>) -> T {
        let tx = self.store.begin().await.unwrap();
        let outcome = work(&tx).await.unwrap();
        tx.commit().await.unwrap();
        outcome
    }

    /// Does something that must fail, and rolls back.
    pub(crate) async fn refusal<T: std::fmt::Debug>(
        &self,
        work: impl AsyncFnOnce(&StoreTx) -> Result<T, ez_store::StoreError>,
    ) -> ez_store::StoreError {
        let tx = self.store.begin().await.unwrap();
        work(&tx).await.unwrap_err()
    }

    /// Runs a statement behind the store's back.
    pub(crate) async fn sql(&self, statement: &'static str) {
        match self.store.backend() {
            Backend::Sqlite => {
                let mut connection = sqlx::SqliteConnection::connect(self.database.url()).await.unwrap();
                sqlx::query(statement).execute(&mut connection).await.unwrap();
            }
            Backend::Postgres => {
                let mut connection = sqlx::PgConnection::connect(self.database.url()).await.unwrap();
                sqlx::query(statement).execute(&mut connection).await.unwrap();
            }
        }
    }

    pub(crate) async fn master(&self, name: &str) -> Master {
        self.commit(async |tx| masters::create(tx, &new_master(name)).await).await
    }

    pub(crate) async fn child_key(&self, master_id: i64, token: &str) -> ChildKey {
        self.commit(async |tx| child_keys::create(tx, &new_child_key(master_id, token)).await).await
    }

    pub(crate) async fn provider_group(&self, name: &str) -> ProviderGroup {
        self.commit(async |tx| provider_groups::create(tx, &new_provider_group(name)).await).await
    }

    pub(crate) async fn api_key(&self, group_id: i64, name: &str) -> ApiKey {
        self.commit(async |tx| api_keys::create(tx, &new_api_key(group_id, name)).await).await
    }
}

pub(crate) async fn connect(database: &TestDatabase) -> Store {
    let options = ConnectOptions { max_connections: 4, ..ConnectOptions::default() };
    Store::connect(database.url(), options).await.unwrap()
}

/// A fixed moment with microseconds, and the seconds after it.
pub(crate) fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_767_139_200_123_456).unwrap() + TimeDelta::seconds(second)
}

pub(crate) fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub(crate) fn new_master(name: &str) -> NewMaster {
    NewMaster {
        name: name.to_owned(),
        group: "research".to_owned(),
        key_hash: Some("$argon2id$…".to_owned()),
        key_digest: Some(TokenDigest::of(name)),
        prefix: "mk-ab".to_owned(),
        default_namespace: "default".to_owned(),
        namespaces: texts(&["default", "other"]),
        epoch: 1,
        status: RecordStatus::Active,
        max_child_keys: 10,
        global_qps: 100,
        rpm: Some(600),
        tpm: Some(100_000),
        rpd: None,
        tpd: Some(u64::from(u32::MAX) + 1),
        max_concurrency: Some(8),
        monthly_budget: Some("250.00".to_owned()),
        created_at: at(0),
    }
}

pub(crate) fn new_child_key(master_id: i64, token: &str) -> NewChildKey {
    NewChildKey {
        master_id,
        name: token.to_owned(),
        token_hash: None,
        token_digest: TokenDigest::of(token),
        prefix: "sk-ab".to_owned(),
        previous_digest: None,
        previous_expires_at: None,
        group: "research".to_owned(),
        scopes: texts(&["chat:*"]),
        default_namespace: "default".to_owned(),
        namespaces: texts(&["default"]),
        status: KeyStatus::Active,
        issued_at_epoch: 1,
        issued_by: IssuedBy::Master,
        expires_at: Some(at(3600)),
        allow_ips: texts(&["10.0.0.0/8"]),
        deny_ips: Vec::new(),
        model_limits_enabled: true,
        model_limits: texts(&["gpt-4.1", "модель \"x\""]),
        quota_limit: Some(1_000_000),
        quota_reset: QuotaReset::Daily,
        quota_reset_at: Some(at(60)),
        global_qps: 0,
        rpm: None,
        tpm: Some(5),
        rpd: Some(6),
        tpd: None,
        max_concurrency: None,
        quota_used: 7,
        request_count: 0,
        used_tokens: 0,
        last_used_at: None,
        created_at: at(0),
    }
}

pub(crate) fn new_namespace(name: &str) -> NewNamespace {
    NewNamespace {
        name: name.to_owned(),
        description: "for tests".to_owned(),
        status: RecordStatus::Active,
        created_at: at(0),
    }
}

pub(crate) fn new_provider_group(name: &str) -> NewProviderGroup {
    NewProviderGroup {
        name: name.to_owned(),
        provider_type: ProviderType::VertexExpress,
        protocols: vec![Protocol::Gemini, Protocol::OpenaiChat],
        route_group: "default".to_owned(),
        base_url: "https://upstream.test/v1".to_owned(),
        google_project: "proj-1".to_owned(),
        google_location: "global".to_owned(),
        api_version: Some("2026-01-01".to_owned()),
        models: texts(&["gemini-3-pro-preview"]),
        status: RecordStatus::Active,
        total_requests: 0,
        success_requests: 0,
        failure_requests: 0,
        last_used_at: None,
        created_at: at(0),
    }
}

pub(crate) fn new_api_key(group_id: i64, name: &str) -> NewApiKey {
    NewApiKey {
        uuid: Uuid::new_v4(),
        group_id,
        name: name.to_owned(),
        api_key: Some("enc:v1:AAAA".to_owned()),
        access_token: Some("enc:v1:BBBB".to_owned()),
        refresh_token: None,
        expires_at: Some(at(60)),
        account_id: Some("acct-1".to_owned()),
        project_id: None,
        weight: 3,
        max_concurrency: Some(4),
        status: ApiKeyStatus::Active,
        auto_ban: true,
        ban_reason: None,
        ban_until: None,
        total_requests: 0,
        success_requests: 0,
        failure_requests: 0,
        last_used_at: None,
        created_at: at(0),
    }
}

pub(crate) fn new_binding(namespace: &str, public_model: &str, group_id: i64) -> NewBinding {
    NewBinding {
        namespace: namespace.to_owned(),
        public_model: public_model.to_owned(),
        group_id,
        weight: 1,
        priority: -5,
        on_client_gone: None,
        selector_type: SelectorType::NormalizeExact,
        selector_value: String::new(),
        status: RecordStatus::Active,
        created_at: at(0),
    }
}
