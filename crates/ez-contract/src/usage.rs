//! The usage record: the account of one proxied call.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::provider::{Protocol, ProviderType};
use crate::status::words;

words! {
    /// How the token counts of a record came about.
    UsageSource {
        /// The upstream reported them.
        Exact = "exact",
        /// They were estimated from the text.
        Estimated = "estimated",
        /// Nobody knows.
        Unknown = "unknown",
    }
}

words! {
    /// Who ended a call.
    EndedBy {
        /// It ran to its proper end.
        Complete = "complete",
        /// The client went away.
        Client = "client",
        /// The upstream failed or broke off.
        Upstream = "upstream",
        /// ez-api refused or failed.
        Gateway = "gateway",
        /// A limit refused it.
        Limit = "limit",
    }
}

/// Token counts of one call. `None` means that it is not known, which differs from zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUsage {
    /// All input, cached input included.
    pub input_tokens: Option<u64>,
    /// All output, reasoning included.
    pub output_tokens: Option<u64>,
    /// Part of the input that was read from the vendor's prompt cache.
    pub cache_read_tokens: Option<u64>,
    /// Part of the input that was written to the vendor's prompt cache.
    pub cache_write_tokens: Option<u64>,
    /// Part of the output that was reasoning.
    pub reasoning_tokens: Option<u64>,
}

/// The account of one proxied call; at rest it is a log record. Every call with a known key leaves exactly one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRecord {
    /// Made by the gateway (UUIDv7); ingestion is idempotent by it.
    pub id: String,
    /// The id that the client saw in `x-request-id`.
    pub request_id: String,
    /// When the call arrived.
    pub created_at: DateTime<Utc>,
    /// The tenant.
    pub master_id: i64,
    /// The child key.
    pub key_id: i64,
    /// The provider group of the last attempt.
    pub group_id: Option<i64>,
    /// The API key of the last attempt.
    pub api_key_id: Option<i64>,
    /// Resolved namespace; empty where the call was refused before that.
    pub namespace: String,
    /// Public model as the client's reference resolved; as the client wrote it where the call was refused before that,
    /// and empty where the body was not read.
    pub model: String,
    /// Model asked of the upstream.
    pub upstream_model: Option<String>,
    /// The client's protocol.
    pub protocol: Protocol,
    /// Type of the last attempt's provider group.
    pub provider_type: Option<ProviderType>,
    /// HTTP status that the client saw; 499 when it left before one was sent.
    pub status: u16,
    /// What went wrong, if anything did.
    pub error: Option<String>,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// Who ended the call.
    pub ended_by: EndedBy,
    /// Upstream attempts made.
    pub attempts: u32,
    /// Arrival to the last byte, milliseconds.
    pub latency_ms: u64,
    /// Arrival to the first byte of the answer's body, milliseconds.
    pub first_byte_ms: Option<u64>,
    /// Token counts.
    #[serde(flatten)]
    pub tokens: TokenUsage,
    /// How the counts came about.
    pub usage_source: UsageSource,
    /// US dollars as an exact decimal text; `None` where no price is known.
    pub cost: Option<String>,
    /// The price list that `cost` was computed with.
    pub price_version: Option<String>,
    /// The client's address.
    pub client_ip: Option<String>,
    /// Size of the request body, bytes.
    pub request_bytes: u64,
    /// Size of the answer's body as handed to the client, bytes; 0 for refusals, whose bodies are the gateway's own.
    pub response_bytes: u64,
}

impl UsageRecord {
    /// Whether this call counts as a failure: a status of 400 or more, or an end other than its proper one.
    pub fn is_failure(&self) -> bool {
        self.status >= 400 || self.ended_by != EndedBy::Complete
    }
}
