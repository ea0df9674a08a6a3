//! PostgreSQL keeps log records in a table for each day, so that old days go at once and the others stay small.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::error::{Doing, on};
use crate::rollups::{DAY, HOUR};
use crate::{Backend, Store, StoreError};

use super::TABLE;

/// A day's table is made so long before the day begins, so that its first records wait for nothing.
const AHEAD: i64 = 2 * HOUR;

/// Milliseconds to wait for a lock on the whole table where records need a day's table. Whoever hands them in comes again.
const PATIENCE: u32 = 2_000;

/// The same for a table that no record needs yet.
const PATIENCE_AHEAD: u32 = 50;

/// Taken while tables are made, as two that make the same one at once fail: "ez-api", read as a number, and one more.
const LOCK: &str = "SELECT pg_advisory_xact_lock(111519731281002)";

/// The tables of days that there are.
const ATTACHED: &str = "SELECT relname::text FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid \
     WHERE inhparent = 'logs'::regclass";

/// Days whose tables were there when this process last looked, so that an ingestion need not ask. Retention may have dropped
/// one since: PostgreSQL says so then ([`StoreError::misses_partition`]).
#[derive(Debug, Default)]
pub(crate) struct KnownDays(Mutex<BTreeSet<i64>>);

impl KnownDays {
    /// Looks anew, the next time.
    pub(super) fn forget(&self) {
        self.days().clear();
    }

    fn knows(&self, day: i64) -> bool {
        self.days().contains(&day)
    }

    fn add(&self, days: &[i64]) {
        self.days().extend(days);
    }

    fn days(&self) -> MutexGuard<'_, BTreeSet<i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the tables of the days that records of these times (microseconds since 1970) are of, where they are missing, and
/// towards the end of the last of these days the one of the next. Asks the database only about days that are new to this
/// process.
pub(super) async fn ensure(store: &Store, times: impl Iterator<Item = i64>) -> Result<(), StoreError> {
    if store.backend() != Backend::Postgres {
        return Ok(());
    }
    let known = store.known_days();
    let (mut missing, mut last) = (BTreeSet::new(), i64::MIN);
    for time in times {
        last = std::cmp::max(last, time);
        missing.insert(time.div_euclid(DAY));
    }
    missing.retain(|day| !known.knows(*day));
    if !missing.is_empty() {
        make(store, &Vec::from_iter(missing), PATIENCE).await?;
    }
    let next = last.div_euclid(DAY) + 1;
    if last.rem_euclid(DAY) >= DAY - AHEAD && !known.knows(next) {
        // Where it cannot be made now, it will be when it is needed.
        let _ = make(store, &[next], PATIENCE_AHEAD).await;
    }
    Ok(())
}

/// Makes what is missing of the tables of these days.
async fn make(store: &Store, days: &[i64], patience_ms: u32) -> Result<(), StoreError> {
    let tx = store.begin().await?;
    let db = tx.transaction();
    let patience = format!("SET LOCAL lock_timeout = {patience_ms}");
    for statement in [patience.as_str(), LOCK] {
        db.execute_unprepared(statement).await.map_err(on(TABLE, Doing::Write))?;
    }
    let query = Statement::from_string(DbBackend::Postgres, ATTACHED);
    let attached = db.query_all_raw(query).await.map_err(on(TABLE, Doing::Read))?;
    let attached: Result<BTreeSet<String>, _> = attached.iter().map(|row| row.try_get_by_index(0)).collect();
    let attached = attached.map_err(on(TABLE, Doing::Read))?;
    for day in days {
        if attached.contains(&name(*day)) {
            continue;
        }
        for statement in statements(*day) {
            db.execute_unprepared(&statement).await.map_err(on(TABLE, Doing::Write))?;
        }
    }
    tx.commit().await?;
    store.known_days().add(days);
    Ok(())
}

/// Makes the table of a day, counted from 1970, UTC. In two steps: what is made by itself and then attached leaves those be
/// who write to other days meanwhile, where `PARTITION OF` waits for all of them, and lets all others wait for it.
pub(crate) fn statements(day: i64) -> [String; 2] {
    let (name, from, to) = (name(day), day * DAY, (day + 1) * DAY);
    [
        format!("CREATE TABLE IF NOT EXISTS {name} (LIKE logs INCLUDING ALL)"),
        format!("ALTER TABLE logs ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({to})"),
    ]
}

fn name(day: i64) -> String {
    DateTime::<Utc>::from_timestamp_micros(day * DAY).unwrap_or_default().format("logs_%Y%m%d").to_string()
}
