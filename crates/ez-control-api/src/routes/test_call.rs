//! `/admin/api-keys/{id}/test`: a real call with an upstream credential.

use ez_control::test_call::{self, TestCall};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::extract::{AdminCtx, OptionalJson, Path};
use crate::problem::ApiError;
use crate::writing::{Answer, Record};

/// How to test an API key.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestApiKeyRequest {
    /// The upstream model to ask; the first of the provider group where absent.
    #[schema(example = "gpt-4o-mini")]
    model: Option<String>,
}

/// What became of a test call.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TestCall)]
pub(crate) struct TestCallResponse {
    /// Whether the upstream answered with success.
    ok: bool,
    /// The HTTP status that it answered with; `null` where it did not answer.
    status: Option<u16>,
    /// From sending to the end of the answer.
    latency_ms: u64,
    /// The upstream model that was asked.
    model: String,
    /// What happened, with the vendor's own words where there are any, less credentials, accounts and addresses.
    message: String,
}

/// Test an API key.
///
/// Asks its upstream for one token, which costs a little, whatever the state of the key. Changes nothing, and takes no dry
/// run. OAuth types cannot be tested yet (409).
#[utoipa::path(post, path = "/admin/api-keys/{id}/test", tag = "api-keys", operation_id = "test_api_key",
    params(("id" = i64, Path, description = "Id of the API key.")), request_body = Option<TestApiKeyRequest>,
    security(("admin" = [])),
    responses((status = 200, description = "What the upstream answered.", body = TestCallResponse)))]
pub(crate) async fn test(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    OptionalJson(request): OptionalJson<TestApiKeyRequest>,
) -> Result<Record<TestCallResponse>, ApiError> {
    let call = test_call::run(&ctx.control, id, request.model).await?;
    let write = ctx.write().await?;
    test_call::record(&write, id, &call).await?;
    write.finish(Record::untagged(call.into())).await
}

impl Answer for TestCallResponse {}

impl From<TestCall> for TestCallResponse {
    fn from(call: TestCall) -> Self {
        let TestCall { ok, status, latency_ms, model, message } = call;
        Self { ok, status, latency_ms, model, message }
    }
}
