//! How long roll-ups are kept, and from when on what they are made of is whole.

use std::num::ParseIntError;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Value;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::error::{Doing, on};
use crate::executor::Runs;
use crate::stored::Stored;
use crate::{Executor, StoreError, StoreTx, settings};

use super::facet::{FACETS, Grain};
use super::{LATENCIES, TABLE};

/// Setting: log records that arrived before this, microseconds since 1970, may be gone. The retention of logs writes it.
pub const LOGS_DROPPED_BEFORE: &str = "logs_dropped_before";

/// Setting: roll-ups of hours before this may be gone.
const HOURS_DROPPED_BEFORE: &str = "rollup_hours_dropped_before";

/// Setting: roll-ups before this may be gone.
const DROPPED_BEFORE: &str = "rollups_dropped_before";

/// From when on what is kept is whole, microseconds since 1970; the lowest number where nothing was deleted yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Of the log records.
    pub(crate) records: i64,
    /// Of the roll-ups of hours.
    pub(crate) hours: i64,
    /// Of all roll-ups.
    pub(crate) rollups: i64,
}

/// What is kept now.
pub(crate) async fn kept(db: &impl Executor) -> Result<Kept, StoreError> {
    Ok(Kept {
        records: dropped_before(db, LOGS_DROPPED_BEFORE).await?,
        hours: dropped_before(db, HOURS_DROPPED_BEFORE).await?,
        rollups: dropped_before(db, DROPPED_BEFORE).await?,
    })
}

/// The time, microseconds since 1970, that one of these settings holds; the lowest number where nothing was deleted yet.
/// Errors: `Corrupt` for what is no number, as nobody knows then what is whole.
pub(crate) async fn dropped_before(db: &impl Executor, setting: &str) -> Result<i64, StoreError> {
    let Some(value) = settings::get(db, setting).await? else { return Ok(i64::MIN) };
    value.parse().map_err(|error: ParseIntError| StoreError::Corrupt {
        table: "settings",
        column: "value".to_owned(),
        id: setting.to_owned(),
        reason: error.to_string(),
    })
}

/// Which roll-ups go for their age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aged {
    /// Those of hours of days that ended: most of all roll-ups. Statistics of so long ago are told by whole days then.
    Hours,
    /// All of months that ended: statistics begin with the month after.
    All,
}

impl Aged {
    /// The end of what goes, the setting that it is noted in, and of what grains it is.
    fn bounds(self, at: i64) -> (i64, &'static str, &'static [Grain]) {
        match self {
            Self::Hours => (Grain::Day.floor(at), HOURS_DROPPED_BEFORE, &[Grain::Hour]),
            Self::All => (Grain::Month.floor(at), DROPPED_BEFORE, &[Grain::Hour, Grain::Day, Grain::Month]),
        }
    }
}

/// Deletes roll-ups of what ended before a time, up to `limit` rows; how many it were. Call it again, in a transaction of its
/// own, while they are as many as that.
pub async fn delete_before(tx: &StoreTx, aged: Aged, at: DateTime<Utc>, limit: u64) -> Result<u64, StoreError> {
    let (until, setting, grains) = aged.bounds(at.store());
    if dropped_before(tx, setting).await? < until {
        settings::put(tx, setting, &until.to_string()).await?;
    }
    let mut deleted = 0;
    let parts = FACETS.iter().flat_map(|facet| grains.iter().map(move |grain| (facet.dims.number(), grain.number())));
    // Listed before the first wait: such a chain could not be carried from thread to thread.
    let parts: Vec<_> = parts.flat_map(|part| [(part, TABLE), (part, LATENCIES)]).collect();
    for ((facet, grain), table) in parts {
        if deleted >= limit {
            break;
        }
        // The earliest first: in the order of an index, whatever else PostgreSQL thinks of a table that is mostly to go.
        let place = "facet = $1 AND grain = $2 AND at < $3 ORDER BY at LIMIT $4";
        let query = match tx.dialect() {
            DbBackend::Postgres => {
                format!("DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {place}))")
            }
            _ => {
                let rest = if table == TABLE { "key_id, group_id, api_key_id, model" } else { "group_id, model, bin" };
                let key = format!("facet, grain, master_id, at, {rest}");
                format!("DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {place})")
            }
        };
        let room = i64::try_from(limit - deleted).unwrap_or(i64::MAX);
        let values = [facet, grain, until, room];
        let statement = Statement::from_sql_and_values(tx.dialect(), query, values.map(Value::from));
        let done = tx.transaction().execute_raw(statement).await.map_err(on(table, Doing::Delete))?;
        deleted += done.rows_affected();
    }
    Ok(deleted)
}
