//! Idempotency keys: what creating requests were answered with.

use sea_orm_migration::prelude::{DbErr, MigrationName, MigrationTrait, SchemaManager, Table, async_trait};

use super::{id, index, integer, text, text_null, unique};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0004_idempotency"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let keys = Table::create()
            .table("idempotency_keys")
            .col(id())
            .col(text("scope"))
            .col(text("route"))
            .col(text("key"))
            .col(text("request_digest"))
            .col(text_null("answer"))
            .col(integer("created_at"))
            .to_owned();
        manager.create_table(keys).await?;
        manager.create_index(unique("idempotency_keys", &["scope", "route", "key"])).await?;
        manager.create_index(index("idempotency_keys", &["created_at"])).await
    }
}
