//! Resolve: explains a routing decision without a call, with the rules that gateways decide by.

mod candidates;

use std::collections::BTreeMap;

use ez_contract::model_ref::{ModelRef, is_namespace_name};
use ez_contract::routing::{DeadKey, Forbidden, Unserved, model_not_found};
use ez_contract::snapshot::{BindingSnapshot, MasterSnapshot, TokenSnapshot};
use ez_contract::status::RecordStatus;
use ez_store::bindings::{self, BindingFilter};
use ez_store::namespaces::{self, DEFAULT_NAMESPACE};
use ez_store::{Page, Sort, api_keys, child_keys, masters, provider_groups};

use crate::error::Faults;
use crate::snapshot::{Supply, compile_binding, master_snapshot, token_snapshot};
use crate::{Control, ControlError};

pub use candidates::{ExplainedApiKey, ExplainedCandidate};

/// Characters of a model reference: a namespace, a dot, a public model.
const MAX_MODEL_CHARS: usize = 265;

/// A call to explain.
#[derive(Debug, Clone, Default)]
pub struct ResolveRequest {
    /// What the client would write as `model`.
    pub model: String,
    /// The child key that it would call with.
    pub key_id: Option<i64>,
    /// Where a bare model is looked up instead, without a child key; `default`.
    pub namespace: Option<String>,
}

/// A routing decision, explained.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolution {
    /// The namespace that the reference leads to.
    pub namespace: String,
    /// The public model in it.
    pub public_model: String,
    /// Why it leads there.
    pub reason: String,
    /// In the order in which a gateway would try them: by priority; within one, those that can serve by their weight.
    pub candidates: Vec<ExplainedCandidate>,
    /// What would become of the call.
    pub verdict: Verdict,
}

/// What would become of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It would be sent to an upstream.
    Served,
    /// The gateway would refuse it.
    Refused {
        /// The HTTP status that the client would see.
        status: u16,
        /// The error code that the client would see.
        code: &'static str,
        /// The message that the client would see.
        message: String,
    },
}

/// Who would call.
struct Caller {
    token: TokenSnapshot,
    master: MasterSnapshot,
}

/// Explains what a gateway would do with a call, as the records stand now. Addresses, scopes, protocols and limits aside,
/// which depend on the call. Errors: `Invalid`.
pub async fn resolve(control: &Control, asked: ResolveRequest) -> Result<Resolution, ControlError> {
    let caller = check(control, &asked).await?;
    let default = match (&caller, &asked.namespace) {
        (Some(caller), _) => caller.token.default_namespace.as_str(),
        (None, Some(namespace)) => namespace.as_str(),
        (None, None) => DEFAULT_NAMESPACE,
    };
    let before_dot = asked.model.split_once('.').map(|(before, _)| before);
    let is_known = match before_dot {
        Some(name) => is_known(control, caller.as_ref(), name).await?,
        None => false,
    };
    let ModelRef { namespace, public_model } = ModelRef::resolve(&asked.model, default, |_| is_known);
    let reason = if public_model.len() < asked.model.len() {
        format!("`{namespace}`, before the first dot, is a namespace")
    } else {
        let whose = if caller.is_some() { "the key's default namespace" } else { "the namespace" };
        format!("no namespace stands before the first dot, so all of it is a public model in {whose} `{namespace}`")
    };

    let (snapshot, candidates) = read_candidates(control, namespace, public_model).await?;
    let verdict = verdict(control, caller.as_ref(), (namespace, public_model), snapshot.as_ref(), &candidates);
    let (namespace, public_model) = (namespace.to_owned(), public_model.to_owned());
    Ok(Resolution { namespace, public_model, reason, candidates, verdict })
}

/// Checks what is asked, and finds the caller.
async fn check(control: &Control, asked: &ResolveRequest) -> Result<Option<Caller>, ControlError> {
    let mut faults = Faults::default();
    if asked.model.is_empty() {
        faults.add("/model", "must not be empty");
    } else if asked.model.chars().count() > MAX_MODEL_CHARS || asked.model.chars().any(char::is_control) {
        faults.add("/model", format!("must have at most {MAX_MODEL_CHARS} characters, and no control characters"));
    }
    if let Some(name) = &asked.namespace {
        if asked.key_id.is_some() {
            faults.add("/namespace", "must not be given with key_id, which brings its own default namespace");
        } else if !(is_namespace_name(name) && namespaces::get_by_name(control.store(), name).await?.is_some()) {
            faults.add("/namespace", format!("namespace `{name}` does not exist; create it first"));
        }
    }
    let mut caller = None;
    if let Some(id) = asked.key_id {
        match child_keys::get(control.store(), id).await? {
            Some(key) => {
                let master = masters::get(control.store(), key.master_id).await?;
                // A key goes with its master, so one without was deleted a moment ago.
                caller = master.map(|master| Caller {
                    token: token_snapshot(&key, &key.token_digest),
                    master: master_snapshot(&master, Vec::new()),
                });
            }
            None => faults.add("/key_id", format!("child key {id} does not exist")),
        }
    }
    faults.into_result()?;
    Ok(caller)
}

/// Whether a gateway takes a name for a namespace: one that the caller's master names, or that models are bound in.
/// Without a caller every one that exists counts.
async fn is_known(control: &Control, caller: Option<&Caller>, name: &str) -> Result<bool, ControlError> {
    if !is_namespace_name(name) {
        return Ok(false);
    }
    let Some(Caller { master, .. }) = caller else {
        return Ok(namespaces::get_by_name(control.store(), name).await?.is_some());
    };
    if master.namespaces.iter().any(|own| own == name) {
        return Ok(true);
    }
    let filter = BindingFilter { namespace: Some(name.to_owned()), ..BindingFilter::default() };
    let first = bindings::list(control.store(), &filter, Sort::default(), Page { offset: 0, limit: 1 }).await?;
    Ok(first.total > 0)
}

/// The snapshot entry of a model as it would be published now, with its candidates explained; none where nothing is
/// bound.
async fn read_candidates(
    control: &Control,
    namespace: &str,
    public_model: &str,
) -> Result<(Option<BindingSnapshot>, Vec<ExplainedCandidate>), ControlError> {
    let store = control.store();
    let Some(namespace) = namespaces::get_by_name(store, namespace).await? else { return Ok((None, Vec::new())) };
    let bindings = bindings::list_by_model(store, &namespace.name, public_model).await?;
    if bindings.is_empty() {
        return Ok((None, Vec::new()));
    }
    let mut supplies = BTreeMap::new();
    for binding in &bindings {
        if let Some(group) = provider_groups::get(store, binding.group_id).await? {
            let api_keys = api_keys::list_by_group(store, group.id).await?;
            supplies.insert(group.id, Supply { group, api_keys });
        }
    }
    let snapshot = compile_binding(&namespace, public_model, &bindings, &supplies);
    let candidates = candidates::explain(control, &snapshot, &bindings, &supplies);
    Ok((Some(snapshot), candidates))
}

fn verdict(
    control: &Control,
    caller: Option<&Caller>,
    (namespace, public_model): (&str, &str),
    snapshot: Option<&BindingSnapshot>,
    candidates: &[ExplainedCandidate],
) -> Verdict {
    let refused = |status, code, message: String| Verdict::Refused { status, code, message };
    if let Some(Caller { token, master }) = caller {
        if let Some(dead) = DeadKey::find(token, master, control.now().timestamp()) {
            return refused(dead.status(), dead.code(), dead.message().to_owned());
        }
        if let Some(fault) = Forbidden::find(token, namespace, public_model) {
            return refused(403, fault.code(), fault.message(namespace, public_model));
        }
    }
    match snapshot.filter(|snapshot| snapshot.status == RecordStatus::Active) {
        None => refused(404, "model_not_found", model_not_found(namespace, public_model)),
        Some(_) if candidates.iter().any(ExplainedCandidate::can_serve) => Verdict::Served,
        Some(snapshot) => {
            let reason = Unserved::of(snapshot);
            refused(503, reason.code(), reason.message(public_model))
        }
    }
}
