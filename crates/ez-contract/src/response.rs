//! Stored responses: which upstream credential made one, so that calls by its id find their way back (`response:*`).

use serde::{Deserialize, Serialize};

/// Who made a response of the Responses API that its vendor stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseOwner {
    /// The tenant that asked for it, and that alone may use it.
    pub master_id: i64,
    /// The API key that made it.
    pub api_key_id: i64,
    /// The model as the client named it.
    pub model: String,
    /// Model asked of the upstream.
    pub upstream_model: String,
}
