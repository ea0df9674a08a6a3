//! The fold: batches of log records are added to the roll-ups and go.

use std::collections::HashSet;
use std::sync::Arc;

use sea_orm::sea_query::Value;
use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement};

use crate::error::{Doing, on};
use crate::executor::Runs;
use crate::{Backend, Store, StoreError, StoreTx};

use super::cells::{Cells, Counted};
use super::measures::{COUNT, MODEL, NAMES, Sums, of_record};
use super::{TABLE, write};

const BATCHES: &str = "log_batches";
const LOGS: &str = "logs";

/// Batches that one step looks at.
const MAX_BATCHES: usize = 256;

/// What one step adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Folded {
    /// Records that were added to the roll-ups.
    pub records: u64,
    /// Whether batches still stand.
    pub has_more: bool,
}

/// How much one transaction takes at most.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    records: usize,
    /// Rows of the roll-ups, about; the last batch may go over it.
    rows: usize,
}

/// A batch, or what is left of it: the records that arrived from one time to the other, microseconds.
#[derive(Debug, Clone, Copy)]
struct Batch {
    id: i64,
    first_at: i64,
    last_at: i64,
}

/// What is taken of the batches that stand.
#[derive(Debug, Default)]
struct Taken {
    whole: Vec<Batch>,
    /// A batch that is too large for one transaction, and where what is left of it begins.
    part: Option<(Batch, i64)>,
}

/// Adds the records of the oldest batches to the roll-ups, as many as one transaction should take: call it again while
/// [`Folded::has_more`]. Several processes may do it at once, and any may die at any point: each record counts once.
///
/// On SQLite the write connection is held only to add what was read before. Errors: `Unavailable`; nothing was added then.
pub async fn fold(store: &Store) -> Result<Folded, StoreError> {
    let bounds = match store.backend() {
        // Ingestion waits for the only writer.
        Backend::Sqlite => Bounds { records: 2_000, rows: 8_000 },
        Backend::Postgres => Bounds { records: 20_000, rows: 200_000 },
    };
    let batches = standing(store).await?;
    let mut cells = Cells::new();
    let mut taken = Taken::default();
    let mut records = 0;
    for batch in &batches {
        let room = bounds.records - std::cmp::min(records, bounds.records);
        let Some(found) = records_of(store, *batch, room).await? else {
            if taken.whole.is_empty() {
                taken.part = Some(take_part(store, *batch, bounds.records, &mut cells, &mut records).await?);
            }
            break;
        };
        records += found.len();
        found.iter().for_each(|record| cells.add(record));
        taken.whole.push(*batch);
        if cells.rows() >= bounds.rows {
            break;
        }
    }
    let has_more = taken.part.is_some() || taken.whole.len() < batches.len() || batches.len() == MAX_BATCHES;
    if batches.is_empty() {
        return Ok(Folded { records: 0, has_more: false });
    }
    let tx = store.begin().await?;
    if !claim(&tx, &taken).await? {
        // Another process added them meanwhile.
        tx.rollback().await?;
        return Ok(Folded { records: 0, has_more: true });
    }
    write::add(&tx, cells).await?;
    tx.commit().await?;
    Ok(Folded { records: records as u64, has_more })
}

/// The oldest batches that stand.
async fn standing(store: &Store) -> Result<Vec<Batch>, StoreError> {
    let query = format!("SELECT id, first_at, last_at FROM log_batches ORDER BY id LIMIT {MAX_BATCHES}");
    let rows = store.executor().query_all_raw(Statement::from_string(store.dialect(), query)).await;
    let batch = |row: QueryResult| {
        Ok(Batch {
            id: row.try_get_by_index(0)?,
            first_at: row.try_get_by_index(1)?,
            last_at: row.try_get_by_index(2)?,
        })
    };
    rows.and_then(|rows| rows.into_iter().map(batch).collect()).map_err(on(BATCHES, Doing::Read))
}

/// The records of a batch; none where they are more than `max`.
async fn records_of(store: &Store, batch: Batch, max: usize) -> Result<Option<Vec<Counted>>, StoreError> {
    let measures = NAMES.map(of_record).join(", ");
    let query = format!(
        "SELECT logs.created_at, logs.master_id, logs.key_id, COALESCE(logs.group_id, 0), COALESCE(logs.api_key_id, 0), \
         {MODEL}, logs.latency_bin, {measures} FROM logs \
         WHERE logs.batch_id = $1 AND logs.created_at >= $2 AND logs.created_at <= $3 LIMIT $4"
    );
    let values = [batch.id, batch.first_at, batch.last_at, i64::try_from(max).unwrap_or(i64::MAX).saturating_add(1)];
    let rows = store
        .executor()
        .query_all_raw(Statement::from_sql_and_values(store.dialect(), query, values.map(Value::from)))
        .await
        .map_err(on(LOGS, Doing::Read))?;
    if rows.len() > max {
        return Ok(None);
    }
    let mut models: HashSet<Arc<str>> = HashSet::new();
    let counted = rows.iter().map(|row| counted(row, &mut models)).collect::<Result<_, _>>();
    counted.map(Some).map_err(on(LOGS, Doing::Read))
}

fn counted(row: &QueryResult, models: &mut HashSet<Arc<str>>) -> Result<Counted, DbErr> {
    let model: String = row.try_get_by_index(5)?;
    let model = match models.get(model.as_str()) {
        Some(known) => known.clone(),
        None => {
            let model: Arc<str> = model.into();
            models.insert(model.clone());
            model
        }
    };
    let mut sums = Sums([0; COUNT]);
    for (place, sum) in (7..).zip(&mut sums.0) {
        *sum = row.try_get_by_index(place)?;
    }
    Ok(Counted {
        created_at: row.try_get_by_index(0)?,
        master_id: row.try_get_by_index(1)?,
        key_id: row.try_get_by_index(2)?,
        group_id: row.try_get_by_index(3)?,
        api_key_id: row.try_get_by_index(4)?,
        model,
        latency_bin: row.try_get_by_index(6)?,
        sums,
    })
}

/// Takes the earliest records of a batch that is too large for one transaction, up to a time; that batch and where the rest
/// of it begins.
async fn take_part(
    store: &Store,
    batch: Batch,
    max: usize,
    cells: &mut Cells,
    records: &mut usize,
) -> Result<(Batch, i64), StoreError> {
    let query = "SELECT created_at FROM logs WHERE batch_id = $1 AND created_at >= $2 AND created_at <= $3 \
                 ORDER BY created_at LIMIT 1 OFFSET $4";
    let values = [batch.id, batch.first_at, batch.last_at, i64::try_from(max).unwrap_or(i64::MAX)];
    let row = store
        .executor()
        .query_one_raw(Statement::from_sql_and_values(store.dialect(), query, values.map(Value::from)))
        .await
        .map_err(on(LOGS, Doing::Read))?;
    let next = match row {
        Some(row) => row.try_get_by_index::<i64>(0).map_err(on(LOGS, Doing::Read))?,
        None => batch.last_at.saturating_add(1),
    };
    // Where all of them arrived in one microsecond, they are taken together.
    let rest = std::cmp::max(next, batch.first_at.saturating_add(1));
    let part = Batch { last_at: rest.saturating_sub(1), ..batch };
    let found = records_of(store, part, usize::MAX).await?.unwrap_or_default();
    *records += found.len();
    found.iter().for_each(|record| cells.add(record));
    Ok((batch, rest))
}

/// Takes the batches away, which no other process can do then; whether all of them still stood as they were read.
async fn claim(tx: &StoreTx, taken: &Taken) -> Result<bool, StoreError> {
    if let Some((batch, rest)) = taken.part {
        let query = "UPDATE log_batches SET first_at = $1 WHERE id = $2 AND first_at = $3";
        return Ok(execute(tx, query.to_owned(), vec![rest, batch.id, batch.first_at]).await? == 1);
    }
    let places: Vec<String> = (0..taken.whole.len()).map(|at| format!("(${}, ${})", 2 * at + 1, 2 * at + 2)).collect();
    let values = taken.whole.iter().flat_map(|batch| [batch.id, batch.first_at]).collect();
    let query = format!("DELETE FROM log_batches WHERE (id, first_at) IN (VALUES {})", places.join(", "));
    Ok(execute(tx, query, values).await? == taken.whole.len() as u64)
}

async fn execute(tx: &StoreTx, query: String, values: Vec<i64>) -> Result<u64, StoreError> {
    let values = values.into_iter().map(Value::from);
    let statement = Statement::from_sql_and_values(tx.dialect(), query, values);
    let done = tx.transaction().execute_raw(statement).await.map_err(on(TABLE, Doing::Write))?;
    Ok(done.rows_affected())
}
