//! A row of the `logs` table, and how a usage record becomes one and comes back.

#![allow(unreachable_pub, reason = "SeaORM's derive makes public items")]

use ez_contract::UsageRecord;
use ez_contract::usage::TokenUsage;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter, PrimaryKeyTrait,
};

use crate::StoreError;
use crate::stored::{Stored, load};

use super::cost::CostParts;
use super::{TABLE, latency_bin_of};

/// A log record. It refers to records that may be gone by now, so nothing here is a foreign key.
#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "logs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub request_id: String,
    pub created_at: i64,
    pub master_id: i64,
    pub key_id: i64,
    pub group_id: Option<i64>,
    pub api_key_id: Option<i64>,
    pub namespace: String,
    pub model: String,
    pub upstream_model: Option<String>,
    pub protocol: String,
    pub provider_type: Option<String>,
    pub status: i64,
    pub error: Option<String>,
    pub stream: bool,
    pub ended_by: String,
    pub attempts: i64,
    pub latency_ms: i64,
    pub first_byte_ms: Option<i64>,
    pub input_tokens: Option<i64>,
    pub output_tokens: Option<i64>,
    pub cache_read_tokens: Option<i64>,
    pub cache_write_tokens: Option<i64>,
    pub reasoning_tokens: Option<i64>,
    pub usage_source: String,
    pub cost: Option<String>,
    pub price_version: Option<String>,
    pub client_ip: Option<String>,
    pub request_bytes: i64,
    pub response_bytes: i64,
    pub batch_id: i64,
    pub cost_nanos: Option<i64>,
    pub cost_attos: Option<i64>,
    pub cost_rest: Option<i64>,
    pub latency_bin: i64,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

pub(super) fn from_record(record: &UsageRecord, batch_id: i64) -> ActiveModel {
    let cost = record.cost.as_deref().and_then(CostParts::of);
    ActiveModel {
        id: Set(record.id.store()),
        request_id: Set(record.request_id.store()),
        created_at: Set(record.created_at.store()),
        master_id: Set(record.master_id.store()),
        key_id: Set(record.key_id.store()),
        group_id: Set(record.group_id.store()),
        api_key_id: Set(record.api_key_id.store()),
        namespace: Set(record.namespace.store()),
        model: Set(record.model.store()),
        upstream_model: Set(record.upstream_model.store()),
        protocol: Set(record.protocol.store()),
        provider_type: Set(record.provider_type.store()),
        status: Set(record.status.store()),
        error: Set(record.error.store()),
        stream: Set(record.stream.store()),
        ended_by: Set(record.ended_by.store()),
        attempts: Set(record.attempts.store()),
        latency_ms: Set(record.latency_ms.store()),
        first_byte_ms: Set(record.first_byte_ms.store()),
        input_tokens: Set(record.tokens.input_tokens.store()),
        output_tokens: Set(record.tokens.output_tokens.store()),
        cache_read_tokens: Set(record.tokens.cache_read_tokens.store()),
        cache_write_tokens: Set(record.tokens.cache_write_tokens.store()),
        reasoning_tokens: Set(record.tokens.reasoning_tokens.store()),
        usage_source: Set(record.usage_source.store()),
        cost: Set(record.cost.store()),
        price_version: Set(record.price_version.store()),
        client_ip: Set(record.client_ip.store()),
        request_bytes: Set(record.request_bytes.store()),
        response_bytes: Set(record.response_bytes.store()),
        batch_id: Set(batch_id),
        cost_nanos: Set(cost.map(|cost| cost.nanos)),
        cost_attos: Set(cost.map(|cost| cost.attos)),
        cost_rest: Set(cost.map(|cost| cost.rest)),
        latency_bin: Set(latency_bin_of(record.latency_ms)),
    }
}

pub(super) fn into_record(row: Model) -> Result<UsageRecord, StoreError> {
    let id = row.id;
    let tokens = TokenUsage {
        input_tokens: load(TABLE, "input_tokens", &id, row.input_tokens)?,
        output_tokens: load(TABLE, "output_tokens", &id, row.output_tokens)?,
        cache_read_tokens: load(TABLE, "cache_read_tokens", &id, row.cache_read_tokens)?,
        cache_write_tokens: load(TABLE, "cache_write_tokens", &id, row.cache_write_tokens)?,
        reasoning_tokens: load(TABLE, "reasoning_tokens", &id, row.reasoning_tokens)?,
    };
    Ok(UsageRecord {
        request_id: row.request_id,
        created_at: load(TABLE, "created_at", &id, row.created_at)?,
        master_id: row.master_id,
        key_id: row.key_id,
        group_id: row.group_id,
        api_key_id: row.api_key_id,
        namespace: row.namespace,
        model: row.model,
        upstream_model: row.upstream_model,
        protocol: load(TABLE, "protocol", &id, row.protocol)?,
        provider_type: load(TABLE, "provider_type", &id, row.provider_type)?,
        status: load(TABLE, "status", &id, row.status)?,
        error: row.error,
        stream: row.stream,
        ended_by: load(TABLE, "ended_by", &id, row.ended_by)?,
        attempts: load(TABLE, "attempts", &id, row.attempts)?,
        latency_ms: load(TABLE, "latency_ms", &id, row.latency_ms)?,
        first_byte_ms: load(TABLE, "first_byte_ms", &id, row.first_byte_ms)?,
        tokens,
        usage_source: load(TABLE, "usage_source", &id, row.usage_source)?,
        cost: row.cost,
        price_version: row.price_version,
        client_ip: row.client_ip,
        request_bytes: load(TABLE, "request_bytes", &id, row.request_bytes)?,
        response_bytes: load(TABLE, "response_bytes", &id, row.response_bytes)?,
        id,
    })
}
