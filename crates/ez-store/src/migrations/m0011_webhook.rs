//! Webhook deliveries: what is to be sent and what became of it.

use sea_orm_migration::prelude::{DbErr, MigrationName, MigrationTrait, SchemaManager, Table, async_trait};

use super::{id, index, integer, integer_null, text, text_null};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0011_webhook"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let deliveries = Table::create()
            .table("webhook_deliveries")
            .col(id())
            .col(text("event_id"))
            .col(text("kind"))
            .col(text("payload"))
            .col(text("status"))
            .col(integer("attempts"))
            .col(integer_null("next_attempt_at"))
            .col(integer_null("last_status"))
            .col(text_null("last_error"))
            .col(integer("created_at"))
            .col(integer_null("delivered_at"))
            .to_owned();
        manager.create_table(deliveries).await?;
        // What waits alone has a time here, so what ended costs a look-up of what is due nothing.
        manager.create_index(index("webhook_deliveries", &["next_attempt_at"])).await?;
        manager.create_index(index("webhook_deliveries", &["created_at"])).await
    }
}
