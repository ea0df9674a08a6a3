//! The schema, as migrations that are applied in order and never changed once released.
//!
//! Rules are named after what they rule, because errors are read back from the names: `uq__<table>__<column>…` for
//! unique indexes, `fk__<table>__<column>` for foreign keys, `ix__<table>__<column>…` for plain indexes.

mod m0001_records;
mod m0002_journals;
mod m0003_logs;
mod m0004_idempotency;
mod m0005_models;
mod m0006_client_gone;
mod m0007_usage;
mod m0008_capabilities;
mod m0009_log_batches;
mod m0010_alerts;
mod m0011_webhook;
mod m0012_flushes;
mod m0013_log_bodies;
mod m0014_rollups;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr};
use sea_orm_migration::prelude::{ColumnDef, ForeignKey, ForeignKeyAction, ForeignKeyCreateStatement, Index};
use sea_orm_migration::prelude::{IndexCreateStatement, MigrationTrait, MigratorTrait};

/// Every foreign key of the schema: referring table and column, table and column referred to.
const REFERENCES: &[(&str, &str, &str, &str)] = &[
    ("child_keys", "master_id", "masters", "id"),
    ("api_keys", "group_id", "provider_groups", "id"),
    ("bindings", "namespace", "namespaces", "name"),
    ("bindings", "group_id", "provider_groups", "id"),
];

/// Taken while migrating: "ez-api", read as a number.
const POSTGRES_LOCK: &str = "SELECT pg_advisory_xact_lock(111519731281001)";

struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_records::Migration),
            Box::new(m0002_journals::Migration),
            Box::new(m0003_logs::Migration),
            Box::new(m0004_idempotency::Migration),
            Box::new(m0005_models::Migration),
            Box::new(m0006_client_gone::Migration),
            Box::new(m0007_usage::Migration),
            Box::new(m0008_capabilities::Migration),
            Box::new(m0009_log_batches::Migration),
            Box::new(m0010_alerts::Migration),
            Box::new(m0011_webhook::Migration),
            Box::new(m0012_flushes::Migration),
            Box::new(m0013_log_bodies::Migration),
            Box::new(m0014_rollups::Migration),
        ]
    }
}

/// Applies what is missing. One process at a time: an advisory lock on PostgreSQL, the write lock that the transaction
/// already holds on SQLite.
pub(crate) async fn run(transaction: &DatabaseTransaction) -> Result<(), DbErr> {
    if transaction.get_database_backend() == DbBackend::Postgres {
        transaction.execute_unprepared(POSTGRES_LOCK).await?;
    }
    Migrator::up(transaction, None).await
}

/// How many migrations are still to be applied. Writes its own table where that is missing: undo the transaction.
pub(crate) async fn pending(transaction: &DatabaseTransaction) -> Result<usize, DbErr> {
    Ok(Migrator::get_pending_migrations(transaction).await?.len())
}

/// The columns of `table` that refer to others.
pub(crate) fn references_of(table: &str) -> Vec<String> {
    REFERENCES.iter().filter(|(from, ..)| *from == table).map(|(_, column, ..)| (*column).to_owned()).collect()
}

/// The `table.column`s that refer to `table`.
pub(crate) fn referrers_of(table: &str) -> Vec<String> {
    REFERENCES
        .iter()
        .filter(|(_, _, to, _)| *to == table)
        .map(|(from, column, ..)| format!("{from}.{column}"))
        .collect()
}

/// The foreign keys of `table`. Nothing is deleted along: what goes with a record is the control plane's decision.
fn foreign_keys(table: &'static str) -> Vec<ForeignKeyCreateStatement> {
    let of_table = REFERENCES.iter().filter(|(from, ..)| *from == table);
    of_table
        .map(|(from, column, to, to_column)| {
            ForeignKey::create()
                .name(format!("fk__{from}__{column}"))
                .from(*from, *column)
                .to(*to, *to_column)
                .on_delete(ForeignKeyAction::Restrict)
                .on_update(ForeignKeyAction::Cascade)
                .to_owned()
        })
        .collect()
}

fn unique(table: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    index_named("uq", table, columns).unique().to_owned()
}

fn index(table: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    index_named("ix", table, columns)
}

fn index_named(prefix: &str, table: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    let mut index = Index::create();
    index.name(format!("{prefix}__{table}__{}", columns.join("__"))).table(table);
    for column in columns {
        index.col(*column);
    }
    index
}

/// The key that the database assigns. SQLite never gives one twice, so that a log record of a deleted key cannot be
/// taken for one of a newer key.
fn id() -> ColumnDef {
    ColumnDef::new("id").big_integer().not_null().auto_increment().primary_key().to_owned()
}

fn text(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).text().not_null().to_owned()
}

fn text_null(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).text().to_owned()
}

fn integer(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().to_owned()
}

fn integer_null(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().to_owned()
}

fn boolean(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).boolean().not_null().to_owned()
}

fn json(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).json().not_null().to_owned()
}

fn json_null(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).json().to_owned()
}
