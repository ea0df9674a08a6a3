//! Translation: a call to an upstream that speaks another protocol than its client.

use ez_contract::ProviderType;
use ez_protocol::Api;
use ez_protocol::error::FaultKind;
use ez_protocol::translate::capability::Capabilities;
use ez_protocol::translate::{self, Call, Refused, Translated};
use http::StatusCode;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;
use uuid::Uuid;

use crate::call::CallScope;
use crate::inspect::Inspected;
use crate::plan::UpstreamChoice;
use crate::refusal::Refusal;
use crate::routing::Model;
use crate::upstream::asks_for_events;

/// The call as the upstream is asked it; `None` where it speaks the client's protocol, so that bytes pass untouched. The
/// refusal is of what the upstream's protocol has no words for; another one's may have. `model` is what is published of the
/// model, where something is.
pub(crate) fn translate(
    scope: &CallScope<'_>,
    inspected: &Inspected,
    model: Option<&Model>,
    choice: &UpstreamChoice,
) -> Result<Option<Translated>, Refusal> {
    // The common case costs nothing; only reranks differ within an endpoint.
    if choice.api == inspected.api && choice.api != Api::Rerank {
        return Ok(None);
    }
    let (protocol, upstream_model) = (choice.api.protocol(), &choice.upstream_model);
    let seed = Uuid::now_v7().simple().to_string();
    let call = Call {
        client: inspected.api,
        upstream: choice.api,
        model: &inspected.peek.model,
        upstream_model,
        capabilities: match model {
            Some(model) => model.capabilities.find(protocol, upstream_model),
            None => Capabilities::of(protocol, upstream_model),
        },
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
    let translated = beside_other_calls(inspected.body.len(), || translate::request(call, &inspected.body));
    translated.map(Some).map_err(untranslatable)
}

/// What is translated of a larger body takes milliseconds, for which no other call should wait, bytes.
const LARGE_BYTES: usize = 256 << 10;

/// Translates so many bytes. Where that takes long, the worker's other calls are handed to another thread first.
pub(crate) fn beside_other_calls<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let has_others = || Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes > LARGE_BYTES && has_others() { block_in_place(work) } else { work() }
}

fn untranslatable(refused: Refused) -> Refusal {
    let mut refusal =
        Refusal::client(StatusCode::BAD_REQUEST, FaultKind::InvalidRequest, refused.code, refused.message);
    refusal.fault.param = Some(refused.param.into_boxed_str()).filter(|param| !param.is_empty());
    refusal
}
