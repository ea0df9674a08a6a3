//! Log bodies: the request bodies of calls, apart from their log records.

use sea_orm_migration::prelude::{ColumnDef, DbErr, MigrationName, MigrationTrait, SchemaManager, Table, async_trait};

use super::{boolean, index, integer, text};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0013_log_bodies"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let bodies = Table::create()
            .table("log_bodies")
            .col(ColumnDef::new("log_id").text().not_null().primary_key())
            .col(integer("created_at"))
            .col(text("content"))
            .col(text("encoding"))
            .col(integer("bytes"))
            .col(boolean("is_cut"))
            .to_owned();
        manager.create_table(bodies).await?;
        manager.create_index(index("log_bodies", &["created_at"])).await
    }
}
