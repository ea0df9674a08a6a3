//! Outbox, audit and settings.

use sea_orm_migration::prelude::{DbErr, MigrationName, MigrationTrait, SchemaManager, Table, async_trait};

use super::{id, index, integer, integer_null, json_null, text, text_null};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0002_journals"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let outbox = Table::create()
            .table("outbox")
            .col(id())
            .col(text("kind"))
            .col(integer("record_id"))
            .col(text_null("detail"))
            .col(integer("created_at"))
            .col(integer("attempts"))
            .col(integer("next_attempt_at"))
            .col(text_null("last_error"))
            .to_owned();
        let audit = Table::create()
            .table("audit")
            .col(id())
            .col(integer("created_at"))
            .col(text("actor_kind"))
            .col(integer_null("actor_id"))
            .col(text("action"))
            .col(text("record_kind"))
            .col(integer_null("record_id"))
            .col(json_null("before"))
            .col(json_null("after"))
            .col(text_null("request_id"))
            .col(text_null("client_ip"))
            .to_owned();
        let settings = Table::create().table("settings").col(text("key").primary_key()).col(text("value")).to_owned();
        for table in [outbox, audit, settings] {
            manager.create_table(table).await?;
        }
        manager.create_index(index("outbox", &["next_attempt_at"])).await
    }
}
