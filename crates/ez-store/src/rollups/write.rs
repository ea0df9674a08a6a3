//! Adding to the roll-ups.

use sea_orm::sea_query::Value;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::error::{Doing, on};
use crate::executor::Runs;
use crate::{StoreError, StoreTx};

use super::cells::{Cells, Place};
use super::measures::{NAMES, Sums};
use super::{LATENCIES, TABLE};

/// Rows of a statement on SQLite: with 25 columns each, 6,400 bound values, below its 32,766.
const SQLITE_ROWS: usize = 256;

/// Rows of a statement on PostgreSQL, which takes each column as one value.
const POSTGRES_ROWS: usize = 20_000;

/// A table of sums: `keys` with the model among them, and what adds up.
struct Target {
    table: &'static str,
    /// Columns of the primary key but for the model.
    keys: &'static [&'static str],
    sums: &'static [&'static str],
}

const SUMS: Target = Target {
    table: TABLE,
    keys: &["facet", "grain", "master_id", "at", "key_id", "group_id", "api_key_id"],
    sums: &NAMES,
};

const BINS: Target =
    Target { table: LATENCIES, keys: &["facet", "grain", "master_id", "at", "group_id", "bin"], sums: &["requests"] };

/// A row to add: numbers of the key, model, sums.
struct Row<'a> {
    model: &'a str,
    /// As `keys` and then `sums` of its target name them.
    numbers: Vec<i64>,
}

/// Adds cells to the roll-ups.
pub(super) async fn add(tx: &StoreTx, cells: Cells) -> Result<(), StoreError> {
    let (sums, latencies) = cells.into_rows();
    let rows: Vec<Row<'_>> = sums.iter().map(|(place, sums)| sums_row(place, sums)).collect();
    add_rows(tx, &SUMS, &rows).await?;
    let rows: Vec<Row<'_>> = latencies.iter().map(|((place, bin), count)| bin_row(place, *bin, *count)).collect();
    add_rows(tx, &BINS, &rows).await
}

fn sums_row<'a>(place: &'a Place, sums: &Sums) -> Row<'a> {
    let Place { facet, grain, master_id, at, key_id, group_id, api_key_id, model } = place;
    let mut numbers = vec![*facet, *grain, *master_id, *at, *key_id, *group_id, *api_key_id];
    numbers.extend(sums.0);
    Row { model, numbers }
}

fn bin_row(place: &Place, bin: i64, count: i64) -> Row<'_> {
    let Place { facet, grain, master_id, at, group_id, model, .. } = place;
    Row { model, numbers: vec![*facet, *grain, *master_id, *at, *group_id, bin, count] }
}

async fn add_rows(tx: &StoreTx, target: &Target, rows: &[Row<'_>]) -> Result<(), StoreError> {
    let is_postgres = tx.dialect() == DbBackend::Postgres;
    let mut left = rows;
    while !left.is_empty() {
        let most = if is_postgres { POSTGRES_ROWS } else { SQLITE_ROWS };
        // On SQLite powers of two, so that there are few statements, each prepared once.
        let take = match left.len().checked_ilog2() {
            Some(log) if !is_postgres => std::cmp::min(1 << log, most),
            _ => std::cmp::min(left.len(), most),
        };
        let (rows, after) = left.split_at(take);
        let (source, values) = if is_postgres { as_arrays(target, rows) } else { as_values(target, rows) };
        let statement = Statement::from_sql_and_values(tx.dialect(), target.upsert(&source), values);
        tx.transaction().execute_raw(statement).await.map_err(on(target.table, Doing::Write))?;
        left = after;
    }
    Ok(())
}

impl Target {
    fn upsert(&self, source: &str) -> String {
        let Self { table, keys, sums } = self;
        let added: Vec<String> = sums.iter().map(|sum| format!("{sum} = {table}.{sum} + excluded.{sum}")).collect();
        format!(
            "INSERT INTO {table} (model, {keys}, {sums}) {source} ON CONFLICT (model, {keys}) DO UPDATE SET {added}",
            keys = keys.join(", "),
            sums = sums.join(", "),
            added = added.join(", ")
        )
    }
}

fn as_values(target: &Target, rows: &[Row<'_>]) -> (String, Vec<Value>) {
    let columns = 1 + target.keys.len() + target.sums.len();
    let row = format!("({})", vec!["?"; columns].join(", "));
    let values = rows
        .iter()
        .flat_map(|row| std::iter::once(Value::from(row.model)).chain(row.numbers.iter().copied().map(Value::from)));
    (format!("VALUES {}", vec![row; rows.len()].join(", ")), values.collect())
}

/// A column as one text, which PostgreSQL reads as an array: a tenth of the work of as many bound values.
fn as_arrays(target: &Target, rows: &[Row<'_>]) -> (String, Vec<Value>) {
    let columns = target.keys.len() + target.sums.len();
    let types = std::iter::once("text").chain(std::iter::repeat_n("bigint", columns));
    let arrays: Vec<String> = (1..).zip(types).map(|(at, of)| format!("CAST(CAST(${at} AS text) AS {of}[])")).collect();
    let models: Vec<String> = rows.iter().map(|row| quoted(row.model)).collect();
    let mut values = vec![Value::from(format!("{{{}}}", models.join(",")))];
    for column in 0..columns {
        let numbers: Vec<String> =
            rows.iter().map(|row| row.numbers.get(column).copied().unwrap_or_default().to_string()).collect();
        values.push(Value::from(format!("{{{}}}", numbers.join(","))));
    }
    (format!("SELECT * FROM unnest({})", arrays.join(", ")), values)
}

/// An element of an array that is written as text.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
