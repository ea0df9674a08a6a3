//! How records become rows: many in a statement, and none of an id that is there already.

use std::collections::HashSet;
use std::fmt::Write;

use ez_contract::UsageRecord;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ColumnType, ConnectionTrait, DbBackend, DbErr, EntityTrait, IdenStatic, Iterable,
    QueryResult, QueryTrait, Statement, Value,
};

use crate::error::{Doing, on};
use crate::pieces::pieces;
use crate::{StoreError, StoreTx};

use super::TABLE;
use super::row::{self, ActiveModel, Column, Entity};

/// Stores the records whose id is not there yet; which these are.
pub(super) async fn insert(
    tx: &StoreTx,
    records: &[&UsageRecord],
    batch_id: i64,
) -> Result<HashSet<String>, StoreError> {
    let rows: Vec<ActiveModel> = records.iter().map(|record| row::from_record(record, batch_id)).collect();
    let db = tx.transaction();
    let stored = match db.get_database_backend() {
        DbBackend::Postgres => {
            let statement = as_columns(&rows).map_err(on(TABLE, Doing::Write))?;
            db.query_all_raw(statement).await.map_err(on(TABLE, Doing::Write))?
        }
        _ => insert_as_rows(tx, &rows).await?,
    };
    let ids: Result<_, _> = stored.iter().map(|row| row.try_get_by_index(0)).collect();
    ids.map_err(on(TABLE, Doing::Read))
}

async fn insert_as_rows(tx: &StoreTx, rows: &[ActiveModel]) -> Result<Vec<QueryResult>, StoreError> {
    let mut stored = Vec::new();
    for rows in pieces(rows) {
        let keep = OnConflict::new().do_nothing().to_owned();
        let mut insert = Entity::insert_many(rows.iter().cloned()).on_conflict(keep).into_query();
        insert.returning_col(Column::Id);
        stored.extend(tx.transaction().query_all(&insert).await.map_err(on(TABLE, Doing::Write))?);
    }
    Ok(stored)
}

/// The same for PostgreSQL, which takes half as long over a list for each column: one statement for any number of rows,
/// with a value for each column and not for each field. The lists are arrays as texts, since SeaORM's know no nulls.
fn as_columns(rows: &[ActiveModel]) -> Result<Statement, DbErr> {
    let (mut names, mut lists, mut values) = (Vec::new(), Vec::new(), Vec::<Value>::new());
    for (number, column) in (1..).zip(Column::iter()) {
        names.push(column.as_str());
        lists.push(format!("${number}::{}[]", type_of(column)));
        values.push(array(rows.iter().map(|row| row.get(column).into_value()))?.into());
    }
    let (names, lists) = (names.join(", "), lists.join(", "));
    let insert = format!(
        "INSERT INTO {TABLE} ({names}) SELECT * FROM UNNEST({lists}) ON CONFLICT DO NOTHING RETURNING {}",
        Column::Id.as_str()
    );
    Ok(Statement::from_sql_and_values(DbBackend::Postgres, insert, values))
}

fn type_of(column: Column) -> &'static str {
    match column.def().get_column_type() {
        ColumnType::BigInteger => "bigint",
        ColumnType::Boolean => "boolean",
        _ => "text",
    }
}

/// An array as PostgreSQL writes it (its documentation, 8.15.6), in which every text is quoted.
fn array(values: impl Iterator<Item = Option<Value>>) -> Result<String, DbErr> {
    let mut array = String::from("{");
    for value in values {
        if array.len() > 1 {
            array.push(',');
        }
        match value {
            Some(Value::BigInt(Some(number))) => write!(array, "{number}").map_err(|e| DbErr::Custom(e.to_string()))?,
            Some(Value::Bool(Some(is_so))) => array.push_str(if is_so { "t" } else { "f" }),
            Some(Value::String(Some(text))) => push_quoted(&mut array, &text),
            None | Some(Value::BigInt(None) | Value::Bool(None) | Value::String(None)) => array.push_str("NULL"),
            Some(other) => return Err(DbErr::Custom(format!("a log record has no such value: {other:?}"))),
        }
    }
    array.push('}');
    Ok(array)
}

fn push_quoted(array: &mut String, text: &str) {
    array.push('"');
    for char in text.chars() {
        if matches!(char, '"' | '\\') {
            array.push('\\');
        }
        array.push(char);
    }
    array.push('"');
}
