//! Translation: a call to an upstream that speaks another protocol than its client.

use ez_contract::ProviderType;
use ez_protocol::Api;
use ez_protocol::error::FaultKind;
use ez_protocol::translate::capability::Capabilities;
use ez_protocol::translate::{self, Call, Refused, Translated};
use http::StatusCode;
use uuid::Uuid;

use crate::call::CallScope;
use crate::inspect::Inspected;
use crate::plan::UpstreamChoice;
use crate::refusal::Refusal;
use crate::upstream::asks_for_events;

/// The call as the upstream is asked it; `None` where it speaks the client's protocol, so that bytes pass untouched. The
/// refusal is of what the upstream's protocol has no words for; another one's may have.
pub(crate) fn translate(
    scope: &CallScope<'_>,
    inspected: &Inspected,
    choice: &UpstreamChoice,
) -> Result<Option<Translated>, Refusal> {
    // The common case costs nothing; only reranks differ within an endpoint.
    if choice.api == inspected.api && choice.api != Api::Rerank {
        return Ok(None);
    }
    let seed = Uuid::now_v7().simple().to_string();
    let call = Call {
        client: inspected.api,
        upstream: choice.api,
        model: &inspected.peek.model,
        upstream_model: &choice.upstream_model,
        capabilities: Capabilities::of(choice.api.protocol(), &choice.upstream_model),
        is_vertex: matches!(choice.upstream.snapshot.provider_type, ProviderType::Vertex | ProviderType::VertexExpress),
        stream: inspected.peek.stream,
        is_array: inspected.api == Api::StreamGenerateContent
            && !asks_for_events(scope.arrival.query.as_deref().unwrap_or_default()),
        seed: &seed,
        created_at: u64::try_from(scope.gateway.clock.now().timestamp()).unwrap_or_default(),
    };
    if call.is_native(&inspected.body) {
        return Ok(None);
    }
    translate::request(call, &inspected.body).map(Some).map_err(untranslatable)
}

fn untranslatable(refused: Refused) -> Refusal {
    let mut refusal =
        Refusal::client(StatusCode::BAD_REQUEST, FaultKind::InvalidRequest, refused.code, refused.message);
    refusal.fault.param = Some(refused.param.into_boxed_str()).filter(|param| !param.is_empty());
    refusal
}
