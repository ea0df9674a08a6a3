//! Log records by day and batch: what statistics, retention and large tables need of them.

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sea_orm_migration::prelude::{DbErr, MigrationName, MigrationTrait, SchemaManager, Table, async_trait};

use super::{id, index, integer};

pub(super) struct Migration;

/// Microseconds of an hour and of a day.
const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

/// What every log record has had so far.
const COLUMNS: &str = "id, request_id, created_at, master_id, key_id, group_id, api_key_id, namespace, model, \
    upstream_model, protocol, provider_type, status, error, stream, ended_by, attempts, latency_ms, first_byte_ms, \
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, usage_source, cost, \
    price_version, client_ip, request_bytes, response_bytes";

/// What a table split by time cannot have otherwise: a primary key without the time. The same record always carries the
/// same time, so it is found again by both.
const POSTGRES_TABLE: &str = "CREATE TABLE logs (
    id text NOT NULL,
    request_id text NOT NULL,
    created_at bigint NOT NULL,
    master_id bigint NOT NULL,
    key_id bigint NOT NULL,
    group_id bigint,
    api_key_id bigint,
    namespace text NOT NULL,
    model text NOT NULL,
    upstream_model text,
    protocol text NOT NULL,
    provider_type text,
    status bigint NOT NULL,
    error text,
    stream boolean NOT NULL,
    ended_by text NOT NULL,
    attempts bigint NOT NULL,
    latency_ms bigint NOT NULL,
    first_byte_ms bigint,
    input_tokens bigint,
    output_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    reasoning_tokens bigint,
    usage_source text NOT NULL,
    cost text,
    price_version text,
    client_ip text,
    request_bytes bigint NOT NULL,
    response_bytes bigint NOT NULL,
    batch_id bigint NOT NULL,
    cost_nanos bigint,
    cost_attos bigint,
    cost_rest bigint,
    latency_bin bigint NOT NULL,
    CONSTRAINT pk__logs PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at)";

/// Failing records are few, and what operators ask for most.
const FAILING: &str =
    "CREATE INDEX ix__logs__failing ON logs (created_at, id) WHERE status >= 400 OR error IS NOT NULL";

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0009_log_batches"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let batches =
            Table::create().table("log_batches").col(id()).col(integer("first_at")).col(integer("last_at")).to_owned();
        manager.create_table(batches).await?;
        // What is stored already is rolled up like all else, an hour of it at a time.
        let hours = format!(
            "INSERT INTO log_batches (first_at, last_at) \
             SELECT min(created_at), max(created_at) FROM logs GROUP BY created_at / {HOUR}"
        );
        manager.get_connection().execute_unprepared(&hours).await?;
        match manager.get_database_backend() {
            DbBackend::Postgres => split_by_day(manager).await?,
            _ => add_columns(manager).await?,
        }
        // A client may give a million calls one request id: their list is walked in order too.
        manager.create_index(index("logs", &["request_id", "created_at", "id"])).await?;
        manager.create_index(index("logs", &["batch_id"])).await?;
        manager.get_connection().execute_unprepared(FAILING).await?;
        Ok(())
    }
}

/// PostgreSQL: the table anew, a part for each day.
async fn split_by_day(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let db = manager.get_connection();
    for statement in [
        "ALTER TABLE logs RENAME TO logs_whole",
        "DROP INDEX ix__logs__created_at__id, ix__logs__master_id__created_at__id, ix__logs__key_id__created_at__id, \
         ix__logs__request_id",
        POSTGRES_TABLE,
    ] {
        db.execute_unprepared(statement).await?;
    }
    let days = format!("SELECT DISTINCT created_at / {DAY} FROM logs_whole ORDER BY 1");
    for row in db.query_all_raw(Statement::from_string(DbBackend::Postgres, days)).await? {
        let day: i64 = row.try_get_by_index(0)?;
        for create in crate::logs::partition_statements(day) {
            db.execute_unprepared(&create).await?;
        }
    }
    let computed = computed_columns(DbBackend::Postgres);
    let copy = format!(
        "INSERT INTO logs ({COLUMNS}, batch_id, latency_bin, cost_nanos, cost_attos, cost_rest) \
         SELECT {COLUMNS}, {BATCH}, {}, {}, {}, {} FROM logs_whole",
        computed.latency_bin, computed.cost_nanos, computed.cost_attos, computed.cost_rest
    );
    db.execute_unprepared(&copy).await?;
    db.execute_unprepared("DROP TABLE logs_whole").await?;
    for columns in [&["created_at", "id"][..], &["master_id", "created_at", "id"], &["key_id", "created_at", "id"]] {
        manager.create_index(index("logs", columns)).await?;
    }
    Ok(())
}

/// SQLite: the table as it is, and more columns.
async fn add_columns(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let db = manager.get_connection();
    for column in [
        "batch_id bigint NOT NULL DEFAULT 0",
        "cost_nanos bigint",
        "cost_attos bigint",
        "cost_rest bigint",
        "latency_bin bigint NOT NULL DEFAULT 0",
    ] {
        db.execute_unprepared(&format!("ALTER TABLE logs ADD COLUMN {column}")).await?;
    }
    db.execute_unprepared("DROP INDEX ix__logs__request_id").await?;
    let computed = computed_columns(DbBackend::Sqlite);
    let update = format!(
        "UPDATE logs SET batch_id = {BATCH}, latency_bin = {}, cost_nanos = {}, cost_attos = {}, cost_rest = {}",
        computed.latency_bin, computed.cost_nanos, computed.cost_attos, computed.cost_rest
    );
    db.execute_unprepared(&update).await?;
    Ok(())
}

/// The hour's batch of a record.
const BATCH: &str =
    "(SELECT log_batches.id FROM log_batches WHERE created_at BETWEEN log_batches.first_at AND log_batches.last_at)";

/// What newer records have computed for them, as the databases compute it for those that stand.
struct Computed {
    latency_bin: String,
    cost_nanos: String,
    cost_attos: String,
    cost_rest: String,
}

fn computed_columns(backend: DbBackend) -> Computed {
    // Each doubling of the latency has 32 bins.
    let steps: String =
        (1..=40).map(|e| format!("WHEN latency_ms < {} THEN {} + (latency_ms >> {e}) ", 64_i64 << e, 32 * e)).collect();
    let latency_bin = format!("CASE WHEN latency_ms < 64 THEN latency_ms {steps}ELSE 1343 END");
    let (place, is_amount) = match backend {
        DbBackend::Postgres => ("strpos(cost, '.')", r"cost ~ '^[0-9]{1,7}([.][0-9]{1,28})?$'"),
        _ => ("instr(cost, '.')", "cost NOT GLOB '*[^0-9.]*' AND cost GLOB '[0-9]*' AND length(cost) <= 36"),
    };
    let whole = format!("CASE WHEN {place} = 0 THEN cost ELSE substr(cost, 1, {place} - 1) END");
    let digits =
        format!("CASE WHEN {place} = 0 THEN '' ELSE substr(cost, {place} + 1) END || '0000000000000000000000000000'");
    let part = |from: u32, length: u32| format!("CAST(substr({digits}, {from}, {length}) AS bigint)");
    let amount = |value: String| format!("CASE WHEN {is_amount} THEN {value} END");
    Computed {
        latency_bin,
        cost_nanos: amount(format!("CAST({whole} AS bigint) * 1000000000 + {}", part(1, 9))),
        cost_attos: amount(part(10, 9)),
        cost_rest: amount(part(19, 10)),
    }
}

#[cfg(test)]
mod tests {
    use ez_testkit::database::TestDatabase;
    use sea_orm_migration::prelude::MigratorTrait;

    use super::*;
    use crate::migrations::Migrator;
    use crate::{ConnectOptions, Store};

    /// Latency, cost, bin, nanos, attos and rest.
    type Row = (i64, &'static str, i64, Option<i64>, Option<i64>, Option<i64>);

    const ROWS: &[Row] = &[
        (63, "NULL", 63, None, None, None),
        (64, "'0.000000375'", 64, Some(375), Some(0), Some(0)),
        (
            1234,
            "'12.3456789012345678901234567'",
            5 * 32 + 38,
            Some(12_345_678_901),
            Some(234_567_890),
            Some(1_234_567_000),
        ),
        (1_000_000, "'3'", 14 * 32 + 61, Some(3_000_000_000), Some(0), Some(0)),
        (5, "'1.2.3x'", 5, None, None, None),
    ];

    async fn records_of_before_are_kept_and_computed(database: TestDatabase) {
        let store = Store::connect(database.url(), ConnectOptions::default()).await.unwrap();
        let tx = store.begin().await.unwrap();
        let db = tx.transaction();
        Migrator::up(db, Some(8)).await.unwrap();
        for (number, (latency, cost, ..)) in ROWS.iter().enumerate() {
            let at = 1_767_139_200_000_000 + i64::try_from(number).unwrap() * 20 * HOUR;
            db.execute_unprepared(&format!(
                "INSERT INTO logs (id, request_id, created_at, master_id, key_id, namespace, model, protocol, status, \
                 stream, ended_by, attempts, latency_ms, usage_source, cost, request_bytes, response_bytes) VALUES \
                 ('log-{number}', 'r', {at}, 1, 2, 'default', 'm', 'gemini', 200, true, 'complete', 1, {latency}, \
                 'exact', {cost}, 1, 2)"
            ))
            .await
            .unwrap();
        }
        Migrator::up(db, None).await.unwrap();
        for (number, (latency, _, bin, nanos, attos, rest)) in ROWS.iter().enumerate() {
            let query = format!(
                "SELECT latency_bin, cost_nanos, cost_attos, cost_rest FROM logs JOIN log_batches \
                 ON log_batches.id = batch_id AND created_at BETWEEN first_at AND last_at WHERE logs.id = 'log-{number}'"
            );
            let row =
                db.query_one_raw(Statement::from_string(db.get_database_backend(), query)).await.unwrap().unwrap();
            let column = |at| row.try_get_by_index::<Option<i64>>(at).unwrap();
            assert_eq!(
                (column(0), column(1), column(2), column(3)),
                (Some(*bin), *nanos, *attos, *rest),
                "{latency} ms"
            );
            assert_eq!(crate::logs::latency_bin_of(u64::try_from(*latency).unwrap()), *bin);
        }
        tx.rollback().await.unwrap();
    }

    #[tokio::test]
    async fn records_of_before_are_kept_and_computed_by_sqlite() {
        records_of_before_are_kept_and_computed(TestDatabase::sqlite()).await;
    }

    #[tokio::test]
    async fn records_of_before_are_kept_and_computed_by_postgres() {
        records_of_before_are_kept_and_computed(TestDatabase::postgres().await).await;
    }
}
