//! Log records.

use sea_orm_migration::prelude::{DbErr, MigrationName, MigrationTrait, SchemaManager, Table, async_trait};

use super::{boolean, index, integer, integer_null, text, text_null};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0003_logs"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let logs = Table::create()
            .table("logs")
            .col(text("id").primary_key())
            .col(text("request_id"))
            .col(integer("created_at"))
            .col(integer("master_id"))
            .col(integer("key_id"))
            .col(integer_null("group_id"))
            .col(integer_null("api_key_id"))
            .col(text("namespace"))
            .col(text("model"))
            .col(text_null("upstream_model"))
            .col(text("protocol"))
            .col(text_null("provider_type"))
            .col(integer("status"))
            .col(text_null("error"))
            .col(boolean("stream"))
            .col(text("ended_by"))
            .col(integer("attempts"))
            .col(integer("latency_ms"))
            .col(integer_null("first_byte_ms"))
            .col(integer_null("input_tokens"))
            .col(integer_null("output_tokens"))
            .col(integer_null("cache_read_tokens"))
            .col(integer_null("cache_write_tokens"))
            .col(integer_null("reasoning_tokens"))
            .col(text("usage_source"))
            .col(text_null("cost"))
            .col(text_null("price_version"))
            .col(text_null("client_ip"))
            .col(integer("request_bytes"))
            .col(integer("response_bytes"))
            .to_owned();
        manager.create_table(logs).await?;
        // Each index costs ingestion: only the views that page through everything have one. Rarer filters scan the
        // first, which the caller bounds by time.
        let indexes = [
            index("logs", &["created_at", "id"]),
            index("logs", &["master_id", "created_at", "id"]),
            index("logs", &["key_id", "created_at", "id"]),
            index("logs", &["request_id"]),
        ];
        for index in indexes {
            manager.create_index(index).await?;
        }
        Ok(())
    }
}
