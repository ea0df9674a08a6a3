//! What the records of configuration are called whose ids items have.

use std::collections::BTreeMap;

use sea_orm::sea_query::Value;
use sea_orm::{ConnectionTrait, QueryResult};

use crate::error::{Doing, on};
use crate::{Executor, StoreError};

use super::source::Sql;
use super::{Grouping, Item, ItemKey};

/// The names of what items are of, by id: of those that still exist and have one. None where items have no ids. For up to a
/// few thousand items.
pub async fn names(db: &impl Executor, by: Grouping, items: &[Item]) -> Result<BTreeMap<i64, String>, StoreError> {
    let table = match by {
        Grouping::Master => "masters",
        Grouping::Key => "child_keys",
        Grouping::Provider => "provider_groups",
        Grouping::ApiKey => "api_keys",
        _ => return Ok(BTreeMap::new()),
    };
    let ids: Vec<i64> = items.iter().filter_map(|item| item.key.id()).collect();
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut sql = Sql::new(db.dialect());
    sql.push(&format!("SELECT id, name FROM {table} WHERE name IS NOT NULL AND id IN ("));
    sql.bind_all(ids.into_iter().map(Value::from));
    sql.push(")");
    let rows = db.executor().query_all_raw(sql.into_statement()).await;
    let name = |row: QueryResult| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?));
    rows.and_then(|rows| rows.into_iter().map(name).collect()).map_err(on(table, Doing::Read))
}

impl ItemKey {
    /// The id of a record of configuration, where it is one.
    pub fn id(&self) -> Option<i64> {
        match self {
            Self::Id(id) => Some(*id),
            _ => None,
        }
    }
}
