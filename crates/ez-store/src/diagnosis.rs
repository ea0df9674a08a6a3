//! Diagnosis: what a database tells of itself.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use crate::executor::Runs;
use crate::stored::Stored;
use crate::{Store, StoreError, migrations, settings};

/// Where the probe writes before it takes it back.
const PROBE: &str = "doctor";

/// What a database server tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// Its version, as it writes it.
    pub version: String,
    /// The time that it has.
    pub now: DateTime<Utc>,
}

impl Store {
    /// Asks the server for its version and time.
    pub async fn facts(&self) -> Result<DatabaseFacts, StoreError> {
        let backend = self.dialect();
        let query = match backend {
            DbBackend::Sqlite => "SELECT sqlite_version(), CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
            _ => {
                "SELECT current_setting('server_version'), CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"
            }
        };
        let row = self
            .executor()
            .query_one_raw(Statement::from_string(backend, query))
            .await
            .map_err(StoreError::from_connection)?
            .ok_or_else(|| StoreError::Backend(DbErr::Custom("the database does not tell its version".to_owned())))?;
        let version: String = row.try_get_by_index(0).map_err(StoreError::from_connection)?;
        let now: i64 = row.try_get_by_index(1).map_err(StoreError::from_connection)?;
        let out_of_range = |reason| StoreError::Backend(DbErr::Custom(reason));
        Ok(DatabaseFacts { version, now: DateTime::load(now).map_err(out_of_range)? })
    }

    /// How many migrations of this build are still to be applied. Changes nothing. Errors: also for a schema that a newer
    /// build made.
    pub async fn pending_migrations(&self) -> Result<usize, StoreError> {
        let tx = self.begin().await?;
        let pending = migrations::pending(tx.transaction()).await.map_err(StoreError::from_connection)?;
        tx.rollback().await?;
        Ok(pending)
    }

    /// Whether the database takes writes: one is made and taken back.
    pub async fn probe_write(&self) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        settings::put(&tx, PROBE, "probe").await?;
        tx.rollback().await
    }
}
