//! Roll-ups: what log records add up to by hour, day and month, which outlives them.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::{
    DbErr, Index, MigrationName, MigrationTrait, SchemaManager, Table, TableCreateStatement, async_trait,
};

use super::{index, integer, text};

pub(super) struct Migration;

/// What a roll-up adds up.
const SUMS: [&str; 17] = [
    "requests",
    "failures",
    "limited",
    "streams",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_dollars",
    "cost_nanos",
    "cost_attos",
    "cost_rest",
    "unpriced",
    "latency_ms",
    "first_bytes",
    "first_byte_ms",
];

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0014_rollups"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_database_backend();
        // The master before the time: most who ask are masters, and where a roll-up keeps none, it is the same for all.
        let mut rollups = Table::create()
            .table("rollups")
            .col(integer("facet"))
            .col(integer("grain"))
            .col(integer("at"))
            .col(integer("master_id"))
            .col(integer("key_id"))
            .col(integer("group_id"))
            .col(integer("api_key_id"))
            .col(text("model"))
            .primary_key(
                Index::create()
                    .name("pk__rollups")
                    .col("facet")
                    .col("grain")
                    .col("master_id")
                    .col("at")
                    .col("key_id")
                    .col("group_id")
                    .col("api_key_id")
                    .col("model"),
            )
            .to_owned();
        for sum in SUMS {
            rollups.col(integer(sum));
        }
        let mut latencies = Table::create()
            .table("rollup_latencies")
            .col(integer("facet"))
            .col(integer("grain"))
            .col(integer("at"))
            .col(integer("master_id"))
            .col(integer("group_id"))
            .col(text("model"))
            .col(integer("bin"))
            .col(integer("requests"))
            .primary_key(
                Index::create()
                    .name("pk__rollup_latencies")
                    .col("facet")
                    .col("grain")
                    .col("master_id")
                    .col("at")
                    .col("group_id")
                    .col("model")
                    .col("bin"),
            )
            .to_owned();
        for (name, table) in [("rollups", &mut rollups), ("rollup_latencies", &mut latencies)] {
            store_by_key(table, backend);
            manager.create_table(table.clone()).await?;
            manager.create_index(index(name, &["facet", "grain", "at"])).await?;
        }
        Ok(())
    }
}

/// SQLite keeps the rows in the order of their key. PostgreSQL leaves room beside a row, as those of now change all the time.
fn store_by_key(table: &mut TableCreateStatement, backend: DbBackend) {
    table.extra(match backend {
        DbBackend::Postgres => "WITH (fillfactor = 80)",
        _ => "WITHOUT ROWID",
    });
}
