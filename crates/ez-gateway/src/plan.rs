//! The plan (pure): a model reference to the candidates that may serve it, in the order of their priority.

use std::sync::Arc;

use ez_contract::model_ref::ModelRef;
use ez_contract::routing::{Forbidden, Unserved, can_serve, model_not_found};
use ez_contract::snapshot::{BindingSnapshot, Candidate, ClientGone};
use ez_contract::status::RecordStatus;
use ez_protocol::Api;
use ez_protocol::error::FaultKind;
use http::StatusCode;

use crate::admit::forbidden;
use crate::authn::Caller;
use crate::refusal::Refusal;
use crate::routing::{RoutingSnapshot, Upstream};

/// What a model reference means for this caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) namespace: String,
    pub(crate) public_model: String,
}

/// The candidates of a call: tiers by falling priority, each with at least one choice.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) tiers: Vec<Vec<Choice>>,
}

/// One candidate with the credentials that can serve it now.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) weight: u64,
    pub(crate) upstreams: Vec<UpstreamChoice>,
}

/// One credential and the model to ask it for.
#[derive(Debug, Clone)]
pub(crate) struct UpstreamChoice {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) upstream_model: String,
    /// The endpoint that it is asked at: the client's own, or one of another protocol that the call is translated to.
    pub(crate) api: Api,
    /// What becomes of a stream whose client leaves; `None` means as the gateway is set.
    pub(crate) on_client_gone: Option<ClientGone>,
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// At which endpoint.
    pub(crate) api: Api,
    /// Whether as a stream.
    pub(crate) stream: bool,
}

/// Resolves a model reference, and refuses namespaces and models that the key may not use.
pub(crate) fn resolve(snapshot: &RoutingSnapshot, caller: &Caller, model: &str) -> Result<Target, Refusal> {
    let token = &caller.token;
    let is_known = |name: &str| snapshot.has_namespace(name) || caller.master.namespaces.iter().any(|own| own == name);
    let reference = ModelRef::resolve(model, &token.default_namespace, is_known);
    let ModelRef { namespace, public_model } = reference;
    if let Some(fault) = Forbidden::find(token, namespace, public_model) {
        return Err(forbidden(fault.code(), fault.message(namespace, public_model)).with_param(Some("model")));
    }
    Ok(Target { namespace: namespace.to_owned(), public_model: public_model.to_owned() })
}

/// Orders what can serve the target; a refusal tells the real reason where nothing can.
pub(crate) fn plan(snapshot: &RoutingSnapshot, target: &Target, asked: Asked) -> Result<Plan, Refusal> {
    let key = ez_contract::model_ref::binding_key(&target.namespace, &target.public_model);
    let binding = snapshot.binding(&key).filter(|binding| binding.status == RecordStatus::Active);
    let binding = binding.ok_or_else(|| unknown_model(target))?;

    let mut tiers: Vec<(i32, Vec<Choice>)> = Vec::new();
    let mut lacking = Lacking::Everything;
    for candidate in binding.candidates.iter().filter(|candidate| can_serve(candidate)) {
        let usable = || usable_upstreams(snapshot, candidate);
        lacking = usable().map(|(upstream, _)| Lacking::of(upstream, asked)).fold(lacking, Ord::max);
        let serving = usable().filter_map(|(upstream, model)| Some((upstream, model, upstream.endpoint_for(asked)?)));
        let upstreams: Vec<_> = serving
            .map(|(upstream, model, api)| UpstreamChoice {
                upstream: upstream.clone(),
                upstream_model: model.clone(),
                api,
                on_client_gone: candidate.on_client_gone,
            })
            .collect();
        if upstreams.is_empty() {
            continue;
        }
        let choice = Choice { weight: u64::from(candidate.weight), upstreams };
        match tiers.iter_mut().find(|(priority, _)| *priority == candidate.priority) {
            Some((_, tier)) => tier.push(choice),
            None => tiers.push((candidate.priority, vec![choice])),
        }
    }
    if tiers.is_empty() {
        return Err(match lacking {
            Lacking::Everything => no_candidate(binding, target),
            Lacking::Protocol => not_translated(target, asked.api),
            Lacking::Endpoint => not_offered(target),
        });
    }
    tiers.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    Ok(Plan { tiers: tiers.into_iter().map(|(_, tier)| tier).collect() })
}

/// What the candidates that could serve lack for an endpoint: the nearest to serving tells the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lacking {
    Everything,
    Protocol,
    Endpoint,
}

impl Lacking {
    fn of(upstream: &Upstream, asked: Asked) -> Self {
        if upstream.speaks(asked) { Self::Endpoint } else { Self::Protocol }
    }
}

fn usable_upstreams<'s>(
    snapshot: &'s RoutingSnapshot,
    candidate: &'s Candidate,
) -> impl Iterator<Item = (&'s Arc<Upstream>, &'s String)> {
    let found = candidate.upstreams.iter().filter_map(|(id, model)| Some((snapshot.upstream(*id)?, model)));
    found.filter(|(upstream, _)| upstream.is_usable() && upstream.weight() > 0)
}

/// The refusal of a model that does not exist for this caller.
pub(crate) fn unknown_model(target: &Target) -> Refusal {
    let Target { namespace, public_model } = target;
    let message = model_not_found(namespace, public_model);
    Refusal::client(StatusCode::NOT_FOUND, FaultKind::NotFound, "model_not_found", message).with_param(Some("model"))
}

fn not_translated(target: &Target, api: Api) -> Refusal {
    let (protocol, model) = (api.protocol(), &target.public_model);
    let message = format!(
        "the upstreams of `{model}` do not speak {protocol}, and this endpoint has no counterpart in their own protocol: call another model"
    );
    Refusal::client(StatusCode::BAD_REQUEST, FaultKind::InvalidRequest, "unsupported_protocol", message)
        .with_param(Some("model"))
}

/// Another model, or an operator, can help: a provider group of another type, or one that is `compatible`.
fn not_offered(target: &Target) -> Refusal {
    let model = &target.public_model;
    let message = format!(
        "the upstreams of `{model}` do not offer this endpoint: call another model, or have it bound to a provider group whose type does"
    );
    Refusal::client(StatusCode::BAD_REQUEST, FaultKind::InvalidRequest, "unsupported_endpoint", message)
        .with_param(Some("model"))
}

fn no_candidate(binding: &BindingSnapshot, target: &Target) -> Refusal {
    let reason = Unserved::of(binding);
    let message = reason.message(&target.public_model);
    Refusal::upstream(StatusCode::SERVICE_UNAVAILABLE, FaultKind::Unavailable, reason.code(), message)
        .with_retry_after(std::time::Duration::from_secs(30))
}
