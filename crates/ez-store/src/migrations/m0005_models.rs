//! Models that administrators enter, and a catalogue that took the place of the bundled one.

use sea_orm_migration::prelude::{DbErr, MigrationName, MigrationTrait, SchemaManager, Table, async_trait};

use super::{boolean, id, integer, text, text_null, unique};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0005_models"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let models = Table::create()
            .table("models")
            .col(id())
            .col(text("name"))
            .col(text("kind"))
            .col(integer("context_window"))
            .col(integer("max_output_tokens"))
            .col(text_null("input_price"))
            .col(text_null("output_price"))
            .col(text_null("cache_read_price"))
            .col(text_null("cache_write_price"))
            .col(boolean("supports_vision"))
            .col(boolean("supports_functions"))
            .col(boolean("supports_tool_choice"))
            .col(boolean("supports_fim"))
            .col(boolean("supports_stream"))
            .col(integer("created_at"))
            .col(integer("updated_at"))
            .to_owned();
        let catalogues =
            Table::create().table("catalogues").col(id()).col(text("document")).col(integer("created_at")).to_owned();
        manager.create_table(models).await?;
        manager.create_table(catalogues).await?;
        manager.create_index(unique("models", &["name"])).await
    }
}
