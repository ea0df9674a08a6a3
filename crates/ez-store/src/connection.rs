//! The store: pools of connections, transactions, migration.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{
    AccessMode, DatabaseConnection, DatabaseTransaction, DbErr, IsolationLevel, SqliteTransactionMode,
    SqlxPostgresConnector, SqlxSqliteConnector, TransactionOptions, TransactionTrait,
};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::error::StoreError;
use crate::logs::KnownDays;
use crate::migrations;

/// Which database a store runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// SQLite, in one file.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

/// How a store connects.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// PostgreSQL: size of the pool. SQLite: size of the read pool; there is always one connection that writes.
    pub max_connections: u32,
    /// How long a caller waits for a free connection before [`StoreError::Unavailable`].
    pub acquire_timeout: Duration,
    /// PostgreSQL: how long a statement of a statistic may take ([`StoreError::took_too_long`]).
    pub question_timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            max_connections: 10,
            acquire_timeout: Duration::from_secs(10),
            question_timeout: Duration::from_secs(20),
        }
    }
}

/// The database. Cheap to clone; all clones share the pools.
#[derive(Debug, Clone)]
pub struct Store {
    backend: Backend,
    /// Where transactions run. SQLite takes one writer at a time: a pool of one makes writers queue here, in order,
    /// where waiting costs nothing and cannot fail with SQLITE_BUSY.
    writer: DatabaseConnection,
    /// Where reads outside of a transaction run; the writer's pool on PostgreSQL.
    reader: DatabaseConnection,
    known_days: Arc<KnownDays>,
    question_timeout: Duration,
}

/// A transaction that writes. Dropping it rolls back.
///
/// After any error drop it: PostgreSQL refuses what follows, and its COMMIT would then silently roll back.
#[derive(Debug)]
#[must_use = "a transaction that is not committed is rolled back"]
pub struct StoreTx(DatabaseTransaction);

impl Store {
    /// Connects to `sqlite://path?mode=rwc` or `postgres://…`. Does not migrate.
    ///
    /// Errors: `Unavailable` when the database cannot be reached, `Backend` when the URL is not understood.
    pub async fn connect(url: &str, options: ConnectOptions) -> Result<Self, StoreError> {
        if url.starts_with("sqlite:") {
            Self::connect_sqlite(url, options).await
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            Self::connect_postgres(url, options).await
        } else {
            let reason = "the database URL must start with sqlite:// or postgres://";
            Err(StoreError::Backend(DbErr::Custom(reason.to_owned())))
        }
    }

    async fn connect_sqlite(url: &str, options: ConnectOptions) -> Result<Self, StoreError> {
        // WAL lets reads go on beside the writer. With it, synchronous=NORMAL survives kill -9 but a power cut may take
        // the last commits; FULL costs one fsync a commit, and what is frequent (logs, deltas) commits in batches.
        let connection = SqliteConnectOptions::from_str(url)
            .map_err(StoreError::from_driver)?
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .foreign_keys(true);
        // The writer first: it creates the file and switches it to WAL.
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(options.acquire_timeout)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(connection.clone())
            .await
            .map_err(StoreError::from_driver)?;
        let reader = SqlitePoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            .connect_with(connection.pragma("query_only", "ON"))
            .await
            .map_err(StoreError::from_driver)?;
        Ok(Self {
            backend: Backend::Sqlite,
            writer: SqlxSqliteConnector::from_sqlx_sqlite_pool(writer),
            reader: SqlxSqliteConnector::from_sqlx_sqlite_pool(reader),
            known_days: Arc::default(),
            question_timeout: options.question_timeout,
        })
    }

    async fn connect_postgres(url: &str, options: ConnectOptions) -> Result<Self, StoreError> {
        let connection = PgConnectOptions::from_str(url).map_err(StoreError::from_driver)?.application_name("ez-api");
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            .connect_with(connection)
            .await
            .map_err(StoreError::from_driver)?;
        let pool = SqlxPostgresConnector::from_sqlx_postgres_pool(pool);
        Ok(Self {
            backend: Backend::Postgres,
            writer: pool.clone(),
            reader: pool,
            known_days: Arc::default(),
            question_timeout: options.question_timeout,
        })
    }

    /// Brings the schema up to date; everything or nothing. Safe when several processes do it at once.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        migrations::run(tx.transaction()).await.map_err(StoreError::from_connection)?;
        tx.commit().await
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.reader.ping().await.map_err(StoreError::from_connection)
    }

    /// Which database this is.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Begins a transaction that writes. On SQLite it holds the only write connection until it ends, so keep it short
    /// and do no other I/O in it. On PostgreSQL it is READ COMMITTED: lock what you read to change (`get_for_update`).
    pub async fn begin(&self) -> Result<StoreTx, StoreError> {
        // A deferred transaction that reads before it writes fails at once with SQLITE_BUSY when another process has
        // written in between, whatever the busy timeout.
        let options = TransactionOptions {
            sqlite_transaction_mode: (self.backend == Backend::Sqlite).then_some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let transaction = self.writer.begin_with_options(options).await.map_err(StoreError::from_connection)?;
        Ok(StoreTx(transaction))
    }

    /// Begins a transaction that only reads, and sees the database as it stood at its first read until it ends. Writers
    /// don't wait for it.
    pub(crate) async fn snapshot(&self) -> Result<StoreTx, StoreError> {
        let is_postgres = self.backend == Backend::Postgres;
        let options = TransactionOptions {
            isolation_level: is_postgres.then_some(IsolationLevel::RepeatableRead),
            access_mode: is_postgres.then_some(AccessMode::ReadOnly),
            sqlite_transaction_mode: (!is_postgres).then_some(SqliteTransactionMode::Deferred),
        };
        let transaction = self.reader.begin_with_options(options).await.map_err(StoreError::from_connection)?;
        Ok(StoreTx(transaction))
    }

    /// Closes all connections once they are idle; later calls fail with `Unavailable`.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.reader.close_by_ref().await.map_err(StoreError::from_connection)?;
        self.writer.close_by_ref().await.map_err(StoreError::from_connection)
    }

    pub(crate) fn question_timeout(&self) -> Duration {
        self.question_timeout
    }

    pub(crate) fn reader(&self) -> &DatabaseConnection {
        &self.reader
    }

    pub(crate) fn known_days(&self) -> &KnownDays {
        &self.known_days
    }
}

impl StoreTx {
    /// Makes the changes durable and visible.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.0.commit().await.map_err(StoreError::from_connection)
    }

    /// Gives the changes up. Dropping does the same, a little later.
    pub async fn rollback(self) -> Result<(), StoreError> {
        self.0.rollback().await.map_err(StoreError::from_connection)
    }

    pub(crate) fn transaction(&self) -> &DatabaseTransaction {
        &self.0
    }
}
