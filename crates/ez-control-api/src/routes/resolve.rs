//! `/admin/bindings/resolve`: a routing decision, explained.

use ez_contract::selector::SelectorType;
use ez_contract::snapshot::CandidateError;
use ez_contract::status::ApiKeyStatus;
use ez_control::resolve::{self, ExplainedApiKey, ExplainedCandidate, Resolution, ResolveRequest, Verdict};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::extract::{AdminCtx, Json, Query};
use crate::problem::ApiError;
use crate::words;

/// Which call to explain.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ResolveQuery {
    /// What the client would write as `model`.
    #[param(example = "gpt-4o")]
    model: String,
    /// Id of the child key that it would call with; without one nobody's access is checked.
    key_id: Option<i64>,
    /// Without a child key: where a model without a namespace is looked up; `default` where absent.
    namespace: Option<String>,
}

/// A routing decision.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Resolution)]
pub(crate) struct ResolutionResponse {
    /// The namespace that the reference leads to.
    namespace: String,
    /// The public model in it.
    public_model: String,
    /// Why it leads there.
    reason: String,
    /// What would become of the call.
    verdict: VerdictResponse,
    /// In the order in which a gateway tries them: by priority; within one by chance, in proportion to the weights.
    candidates: Vec<CandidateResponse>,
}

/// What would become of a call.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Verdict)]
pub(crate) struct VerdictResponse {
    /// Whether it would be sent to an upstream.
    is_served: bool,
    /// The HTTP status that the client would be refused with.
    status: Option<u16>,
    /// The error code that the client would see.
    code: Option<&'static str>,
    /// The message that the client would see.
    message: Option<String>,
}

/// A binding as the router sees it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Candidate)]
pub(crate) struct CandidateResponse {
    /// Id of the binding.
    binding_id: i64,
    /// Id of its provider group.
    group_id: i64,
    /// Name of its provider group.
    group_name: String,
    /// The highest is tried first.
    priority: i32,
    /// Share of the calls among candidates of the same priority.
    weight: u32,
    /// The part of the calls that try it first among those of its priority, in percent.
    share_percent: f64,
    /// How the upstream model is picked.
    #[schema(value_type = words::SelectorType)]
    selector_type: SelectorType,
    /// What it is picked by.
    selector_value: String,
    /// The upstream model, where one is picked.
    upstream_model: Option<String>,
    /// Why it cannot serve, as it is published.
    #[schema(value_type = Option<words::CandidateError>)]
    error: Option<CandidateError>,
    /// Every reason to skip it; empty where it can serve.
    skipped_because: Vec<String>,
    /// How many API keys its provider group has.
    api_keys_total: usize,
    /// The first hundred of them, those that can be used first.
    api_keys: Vec<CandidateApiKeyResponse>,
}

/// An API key of a candidate.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CandidateApiKey)]
pub(crate) struct CandidateApiKeyResponse {
    /// Its id.
    id: i64,
    /// Its name; may be empty.
    name: String,
    /// Its status.
    #[schema(value_type = words::ApiKeyStatus)]
    status: ApiKeyStatus,
    /// Share of the candidate's calls, relative to the other keys.
    weight: u32,
    /// The part of the candidate's calls that try it first, in percent.
    share_percent: f64,
    /// What it would be asked for.
    upstream_model: Option<String>,
    /// Why it would be skipped.
    skipped_because: Option<String>,
}

/// Explain a routing decision.
///
/// Tells without a call what a gateway would do with one, candidate by candidate, as the records stand now. Addresses,
/// scopes, protocols and rate limits depend on the call and are left out.
#[utoipa::path(get, path = "/admin/bindings/resolve", tag = "bindings", operation_id = "resolve_model",
    params(ResolveQuery), security(("admin" = [])),
    responses((status = 200, description = "The decision.", body = ResolutionResponse)))]
pub(crate) async fn resolve(
    ctx: AdminCtx,
    Query(query): Query<ResolveQuery>,
) -> Result<Json<ResolutionResponse>, ApiError> {
    let ResolveQuery { model, key_id, namespace } = query;
    let resolution = resolve::resolve(&ctx.control, ResolveRequest { model, key_id, namespace }).await?;
    Ok(Json(resolution.into()))
}

impl From<Resolution> for ResolutionResponse {
    fn from(resolution: Resolution) -> Self {
        let Resolution { namespace, public_model, reason, candidates, verdict } = resolution;
        let candidates = candidates.into_iter().map(CandidateResponse::from).collect();
        Self { namespace, public_model, reason, verdict: verdict.into(), candidates }
    }
}

impl From<Verdict> for VerdictResponse {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Served => Self { is_served: true, status: None, code: None, message: None },
            Verdict::Refused { status, code, message } => {
                Self { is_served: false, status: Some(status), code: Some(code), message: Some(message) }
            }
        }
    }
}

impl From<ExplainedCandidate> for CandidateResponse {
    fn from(candidate: ExplainedCandidate) -> Self {
        Self {
            binding_id: candidate.binding_id,
            group_id: candidate.group_id,
            group_name: candidate.group_name,
            priority: candidate.priority,
            weight: candidate.weight,
            share_percent: candidate.share_percent,
            selector_type: candidate.selector_type,
            selector_value: candidate.selector_value,
            upstream_model: candidate.upstream_model,
            error: candidate.error,
            skipped_because: candidate.skipped_because,
            api_keys_total: candidate.api_keys_total,
            api_keys: candidate.api_keys.into_iter().map(CandidateApiKeyResponse::from).collect(),
        }
    }
}

impl From<ExplainedApiKey> for CandidateApiKeyResponse {
    fn from(api_key: ExplainedApiKey) -> Self {
        let ExplainedApiKey { id, name, status, weight, share_percent, upstream_model, skipped_because } = api_key;
        Self { id, name, status, weight, share_percent, upstream_model, skipped_because }
    }
}
