//! What usage records add up to.

use sea_orm_migration::prelude::{DbErr, Index, MigrationName, MigrationTrait, SchemaManager, Table, async_trait};

use super::{integer, text};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0007_usage"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let spend = Table::create()
            .table("spend")
            .col(integer("master_id"))
            .col(text("month"))
            .col(integer("nanos"))
            .primary_key(Index::create().col("master_id").col("month"))
            .to_owned();
        manager.create_table(spend).await?;
        let unpublished = Table::create()
            .table("unpublished_use")
            .col(text("kind"))
            .col(integer("record_id"))
            .primary_key(Index::create().col("kind").col("record_id"))
            .to_owned();
        manager.create_table(unpublished).await
    }
}
