//! What becomes of a stream whose client left, per binding.

use sea_orm_migration::prelude::{DbErr, MigrationName, MigrationTrait, SchemaManager, Table, async_trait};

use super::text_null;

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0006_client_gone"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let bindings = Table::alter().table("bindings").add_column(text_null("on_client_gone")).to_owned();
        manager.alter_table(bindings).await
    }
}
