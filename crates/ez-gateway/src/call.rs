//! One call from its first byte to its settlement: the table of contents of the data plane.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ez_contract::Protocol;
use ez_contract::model_ref::binding_key;
use ez_protocol::Api;
use ez_protocol::inspect::RequestForm;
use ez_telemetry::RequestId;
use ez_telemetry::request_id::X_REQUEST_ID;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::Instant;

use crate::authn::Caller;
use crate::gateway::Gateway;
use crate::ingress::{self, Arrival};
use crate::inspect::Inspected;
use crate::lent_body::LentBody;
use crate::limits::Demand;
use crate::plan::Asked;
use crate::refusal::{Refusal, full};
use crate::relay::BrokenOff;
use crate::route::Route;
use crate::routing::RoutingSnapshot;
use crate::settle::Account;
use crate::{admit, authn, count, dispatch, inspect, models, plan, relay, settle, stored};

/// The body of every answer. Failures are told inside it wherever its kind has words for them.
pub type AnswerBody = UnsyncBoxBody<Bytes, BrokenOff>;

/// Where Anthropic's SDKs look for the id of a request, besides the name that every answer has it by.
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Answers one request.
pub(crate) async fn answer(
    gateway: Arc<Gateway>,
    peer: SocketAddr,
    request: Request<LentBody>,
) -> Response<AnswerBody> {
    let request_id = RequestId::from_headers(request.headers());
    let (head, body) = request.into_parts();
    let settler = gateway.settler.clone();
    let is_probe = head.method == Method::HEAD && head.uri.path() == "/";
    let (protocol, mut response) = if is_probe {
        // Agents probe their base URL with this before their first call.
        (Protocol::OpenaiChat, Response::new(full(Bytes::new())))
    } else {
        match ingress::read_head(head, peer, request_id.clone(), &gateway.config.trusted_proxies) {
            Ok(mut arrival) => {
                arrival.trace = settler.observer.begin_trace(&mut arrival.headers);
                (arrival.protocol, serve(gateway, arrival, body).await)
            }
            Err((protocol, refusal)) => (protocol, refusal.into_response(protocol, &request_id)),
        }
    };
    response.headers_mut().insert(X_REQUEST_ID, request_id.to_header_value());
    if protocol == Protocol::AnthropicMessages {
        response.headers_mut().insert(ANTHROPIC_REQUEST_ID, request_id.to_header_value());
    }
    settler.observer.answered(protocol, response.status());
    response
}

async fn serve(gateway: Arc<Gateway>, arrival: Arrival, body: LentBody) -> Response<AnswerBody> {
    let snapshot = gateway.snapshot.load_full();
    if snapshot.version() == 0 {
        return no_snapshot().into_response(arrival.protocol, &arrival.request_id);
    }
    let served = match authn::identify(&snapshot, arrival.credential.as_ref()) {
        Err(refusal) => Err(refusal),
        Ok(caller) => match &arrival.route {
            Route::ListModels | Route::GetModel(_) => show_models(&gateway, &snapshot, &arrival, &caller),
            Route::Call { api, path_model } => {
                let content_type = arrival.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
                let form = RequestForm { api: *api, path_model: path_model.as_deref(), content_type };
                Ok(call(&gateway, &snapshot, &arrival, &caller, form, body).await)
            }
            Route::Stored { .. } => {
                let form = RequestForm { api: Api::Responses, path_model: None, content_type: None };
                Ok(call(&gateway, &snapshot, &arrival, &caller, form, body).await)
            }
        },
    };
    served.unwrap_or_else(|refusal| refusal.into_response(arrival.protocol, &arrival.request_id))
}

/// The list of models, or one of it.
fn show_models(
    gateway: &Gateway,
    snapshot: &RoutingSnapshot,
    arrival: &Arrival,
    caller: &Caller,
) -> Result<Response<AnswerBody>, Refusal> {
    admit::admit(caller, arrival.client_ip, arrival.route.operation(), gateway.clock.now())?;
    let shown = match &arrival.route {
        Route::GetModel(name) => models::get(snapshot, caller, arrival.protocol, name)?,
        _ => models::list(snapshot, caller, arrival.protocol, arrival.query.as_deref())?,
    };
    let mut response = Response::new(full(shown));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// What the stages of one call share.
pub(crate) struct CallScope<'c> {
    pub(crate) gateway: &'c Arc<Gateway>,
    pub(crate) snapshot: &'c RoutingSnapshot,
    pub(crate) arrival: &'c Arrival,
    pub(crate) caller: &'c Caller,
    pub(crate) form: RequestForm<'c>,
    /// When the call ends at the latest.
    pub(crate) deadline: Instant,
}

/// A call to a model: its key is known, so it leaves exactly one usage record, whatever becomes of it.
async fn call(
    gateway: &Arc<Gateway>,
    snapshot: &RoutingSnapshot,
    arrival: &Arrival,
    caller: &Caller,
    form: RequestForm<'_>,
    body: LentBody,
) -> Response<AnswerBody> {
    let arrived = Instant::now();
    let deadline = arrived + gateway.config.call_timeout;
    let scope = CallScope { gateway, snapshot, arrival, caller, form, deadline };
    let mut account = Account::open(gateway.settler.clone(), arrival, caller, arrived);
    let prepared = match &arrival.route {
        // Boxed, so that other calls have no room for it.
        Route::Stored { id, action } => Box::pin(stored::prepare(&scope, id, *action, &mut account)).await,
        _ => prepare(&scope, body, &mut account).await,
    };
    let rate = account.rate();
    let answered = match prepared {
        Ok((inspected, answer)) => relay::relay(&scope, &inspected, answer, account).await,
        Err(refusal) => match account.refuse(&refusal).await {
            Ok(()) => Err(refusal),
            Err(e) => {
                tracing::error!(error = %e, request_id = account.request_id(), "refused call not settled");
                Err(settle::not_accountable())
            }
        },
    };
    let refused = |refusal: Refusal| refusal.into_response(arrival.protocol, &arrival.request_id);
    let mut response = answered.unwrap_or_else(refused);
    rate.put(response.headers_mut());
    response
}

/// Everything before the client sees a byte.
async fn prepare(
    scope: &CallScope<'_>,
    body: LentBody,
    account: &mut Account,
) -> Result<(Inspected, Box<dispatch::Answer>), Refusal> {
    let CallScope { gateway, snapshot, arrival, caller, form, .. } = scope;
    admit::admit(caller, arrival.client_ip, arrival.route.operation(), gateway.clock.now())?;
    gateway.settler.check()?;
    let body = inspect::read(scope, body).await?;
    if snapshot.keeps_request_bodies() {
        account.keep_body(&body, gateway.config.log_body_max_bytes);
    }
    let inspected = inspect::inspect(scope, body)?;
    account.note_request(&inspected);
    let target = plan::resolve(snapshot, caller, &inspected.peek.model)?;
    let key = binding_key(&target.namespace, &target.public_model);
    // A name that someone made up is none of a namespace, whatever becomes of the call: what a limit refuses is counted by
    // model, too.
    if snapshot.binding(&key).is_some() {
        account.note_target(&target);
    }
    let model = snapshot.model(&key);
    let demand = Demand::of(&inspected, model.map(Arc::as_ref), gateway.clock.now());
    let reserved = gateway.limiter.reserve(caller, demand).await;
    let reservation = reserved.map_err(|limited| account.note_limited(*limited))?;
    account.note_reservation(reservation, model.cloned());
    let plan = match plan::plan(snapshot, &target, Asked { api: form.api, stream: inspected.peek.stream }) {
        Ok(plan) => plan,
        Err(refusal) => {
            let plan = count::plan(snapshot, &target, form.api, refusal)?;
            let estimated = count::estimate(&inspected, &plan).await?;
            return Ok((inspected, estimated));
        }
    };
    let answer = dispatch::dispatch(scope, &inspected, model.map(Arc::as_ref), &plan, account).await;
    let answer = answer.map_err(|refusal| refusal.in_protocol(arrival.protocol))?;
    Ok((inspected, answer))
}

/// Nobody's key is known before the first snapshot; saying 401 then would make clients give up good keys.
fn no_snapshot() -> Refusal {
    let message = "this gateway has no current configuration: try again in a moment";
    Refusal::internal("starting", message).with_retry_after(Duration::from_secs(1))
}
