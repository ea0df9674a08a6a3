//! Records of configuration: masters, child keys, namespaces, provider groups, API keys, bindings.

use sea_orm::DbBackend;
use sea_orm::sea_query::Expr;
use sea_orm_migration::prelude::{
    ColumnDef, DbErr, MigrationName, MigrationTrait, Query, SchemaManager, Table, async_trait,
};

use super::{boolean, foreign_keys, id, index, integer, integer_null, json, text, text_null, unique};
use crate::namespaces::DEFAULT_NAMESPACE;

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0001_records"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create(manager, "masters", masters()).await?;
        create(manager, "child_keys", child_keys()).await?;
        create(manager, "namespaces", namespaces()).await?;
        let names = [
            unique("masters", &["name"]),
            unique("masters", &["key_digest"]),
            unique("child_keys", &["token_digest"]),
            unique("child_keys", &["previous_digest"]),
            index("child_keys", &["master_id", "id"]),
            index("child_keys", &["expires_at"]),
            index("child_keys", &["quota_reset_at"]),
            unique("namespaces", &["name"]),
        ];
        for name in names {
            manager.create_index(name).await?;
        }
        create(manager, "provider_groups", provider_groups()).await?;
        create(manager, "api_keys", api_keys()).await?;
        create(manager, "bindings", bindings()).await?;
        let rules = [
            unique("provider_groups", &["name"]),
            unique("api_keys", &["uuid"]),
            index("api_keys", &["group_id", "id"]),
            unique("bindings", &["namespace", "public_model", "group_id"]),
            index("bindings", &["public_model"]),
            index("bindings", &["group_id"]),
        ];
        for rule in rules {
            manager.create_index(rule).await?;
        }
        create_default_namespace(manager).await
    }
}

/// Creates a table with an id before and the two times after its own columns, and its foreign keys.
async fn create(manager: &SchemaManager<'_>, name: &'static str, columns: Vec<ColumnDef>) -> Result<(), DbErr> {
    let mut table = Table::create();
    table.table(name).col(id());
    for column in columns {
        table.col(column);
    }
    table.col(integer("created_at")).col(integer("updated_at"));
    for mut foreign_key in foreign_keys(name) {
        table.foreign_key(&mut foreign_key);
    }
    manager.create_table(table).await
}

async fn create_default_namespace(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    // Nobody creates this row, so its time is the database's, in microseconds.
    let now = match manager.get_database_backend() {
        DbBackend::Sqlite => "unixepoch() * 1000000",
        _ => "CAST(extract(epoch FROM now()) * 1000000 AS bigint)",
    };
    let insert = Query::insert()
        .into_table("namespaces")
        .columns(["name", "description", "status", "created_at", "updated_at"])
        .values_panic([DEFAULT_NAMESPACE.into(), "".into(), "active".into(), Expr::cust(now), Expr::cust(now)])
        .to_owned();
    manager.execute(insert).await
}

fn masters() -> Vec<ColumnDef> {
    vec![
        text("name"),
        text("group"),
        text_null("key_hash"),
        text_null("key_digest"),
        text("prefix"),
        text("default_namespace"),
        json("namespaces"),
        integer("epoch"),
        text("status"),
        integer("max_child_keys"),
        integer("global_qps"),
        integer_null("rpm"),
        integer_null("tpm"),
        integer_null("rpd"),
        integer_null("tpd"),
        integer_null("max_concurrency"),
        text_null("monthly_budget"),
    ]
}

fn child_keys() -> Vec<ColumnDef> {
    vec![
        integer("master_id"),
        text("name"),
        text_null("token_hash"),
        text("token_digest"),
        text("prefix"),
        text_null("previous_digest"),
        integer_null("previous_expires_at"),
        text("group"),
        json("scopes"),
        text("default_namespace"),
        json("namespaces"),
        text("status"),
        integer("issued_at_epoch"),
        text("issued_by"),
        integer_null("expires_at"),
        json("allow_ips"),
        json("deny_ips"),
        boolean("model_limits_enabled"),
        json("model_limits"),
        integer_null("quota_limit"),
        text("quota_reset"),
        integer_null("quota_reset_at"),
        integer("global_qps"),
        integer_null("rpm"),
        integer_null("tpm"),
        integer_null("rpd"),
        integer_null("tpd"),
        integer_null("max_concurrency"),
        integer("quota_used"),
        integer("request_count"),
        integer("used_tokens"),
        integer_null("last_used_at"),
    ]
}

fn namespaces() -> Vec<ColumnDef> {
    vec![text("name"), text("description"), text("status")]
}

fn provider_groups() -> Vec<ColumnDef> {
    vec![
        text("name"),
        text("provider_type"),
        json("protocols"),
        text("route_group"),
        text("base_url"),
        text("google_project"),
        text("google_location"),
        text_null("api_version"),
        json("models"),
        text("status"),
        integer("total_requests"),
        integer("success_requests"),
        integer("failure_requests"),
        integer_null("last_used_at"),
    ]
}

fn api_keys() -> Vec<ColumnDef> {
    vec![
        text("uuid"),
        integer("group_id"),
        text("name"),
        text_null("api_key"),
        text_null("access_token"),
        text_null("refresh_token"),
        integer_null("expires_at"),
        text_null("account_id"),
        text_null("project_id"),
        integer("weight"),
        integer_null("max_concurrency"),
        text("status"),
        boolean("auto_ban"),
        text_null("ban_reason"),
        integer_null("ban_until"),
        integer("total_requests"),
        integer("success_requests"),
        integer("failure_requests"),
        integer_null("last_used_at"),
    ]
}

fn bindings() -> Vec<ColumnDef> {
    vec![
        text("namespace"),
        text("public_model"),
        integer("group_id"),
        integer("weight"),
        integer("priority"),
        text("selector_type"),
        text("selector_value"),
        text("status"),
    ]
}
