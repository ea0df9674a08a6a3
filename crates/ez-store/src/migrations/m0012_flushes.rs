//! Flushes: which batches of counts gateways handed in, so that each counts once.

use sea_orm_migration::prelude::{DbErr, Index, MigrationName, MigrationTrait, SchemaManager, Table, async_trait};

use super::{index, integer, text};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0012_flushes"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let flushes = Table::create()
            .table("flushes")
            .col(text("kind"))
            .col(text("batch_id"))
            .col(integer("created_at"))
            .primary_key(Index::create().col("kind").col("batch_id"))
            .to_owned();
        manager.create_table(flushes).await?;
        manager.create_index(index("flushes", &["created_at"])).await
    }
}
