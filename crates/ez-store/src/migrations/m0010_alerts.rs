//! Alerts.

use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm_migration::prelude::{
    ConditionalStatement, DbErr, MigrationName, MigrationTrait, SchemaManager, Table, async_trait,
};

use super::{id, index, integer, integer_null, json, text, text_null, unique};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0010_alerts"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let alerts = Table::create()
            .table("alerts")
            .col(id())
            .col(text("alert_type"))
            .col(text("severity"))
            .col(text("status"))
            .col(text("title"))
            .col(text("message"))
            .col(text_null("related_type"))
            .col(integer_null("related_id"))
            .col(text_null("related_name"))
            .col(json("metadata"))
            .col(text_null("fingerprint"))
            .col(text_null("acked_by"))
            .col(integer_null("acked_at"))
            .col(integer_null("resolved_at"))
            .col(integer("last_seen_at"))
            .col(integer("occurrences"))
            .col(integer("created_at"))
            .col(integer("updated_at"))
            .to_owned();
        manager.create_table(alerts).await?;
        // Of one fingerprint one alert is open, whichever replica saw its cause first. In literals, as a database finds
        // a partial index by the words of its condition.
        let open = Expr::cust("status IN ('active', 'acknowledged')");
        manager.create_index(unique("alerts", &["fingerprint"]).and_where(open).to_owned()).await?;
        let indexes = [
            index("alerts", &["created_at", "id"]),
            index("alerts", &["status", "created_at", "id"]),
            index("alerts", &["severity", "created_at", "id"]),
            index("alerts", &["alert_type", "created_at", "id"]),
            index("alerts", &["related_type", "created_at", "id"]),
            index("alerts", &["related_id", "created_at", "id"]),
            index("alerts", &["fingerprint", "created_at", "id"]),
            // Counts by both are read from it alone.
            index("alerts", &["status", "severity"]),
            // Keys without a quota are the many; what a key has used is in no index, as it changes with every call.
            index("child_keys", &["quota_limit"]).and_where(Expr::col("quota_limit").is_not_null()).to_owned(),
        ];
        for index in indexes {
            manager.create_index(index).await?;
        }
        Ok(())
    }
}
