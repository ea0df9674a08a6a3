//! Model lists: what a key may call, in the shape of the vendor whose client asks.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat};
use ez_contract::model_ref::binding_key;
use ez_contract::models::ModelKind;
use ez_contract::routing::{Forbidden, can_serve};
use ez_contract::snapshot::{BindingSnapshot, ModelSnapshot, TokenSnapshot};
use ez_contract::status::RecordStatus;
use ez_contract::{Operation, Protocol};
use ez_protocol::error::FaultKind;
use http::StatusCode;
use serde_json::{Value, json};

use crate::authn::Caller;
use crate::plan;
use crate::refusal::Refusal;
use crate::routing::RoutingSnapshot;

/// OpenAI's list has no pages, so it ends here: some megabyte of JSON.
const MAX_UNPAGED: usize = 10_000;
/// The largest page of Anthropic's and Google's lists, as with the vendors.
const MAX_PAGE: usize = 1_000;
const ANTHROPIC_PAGE: usize = 20;
const GEMINI_PAGE: usize = 50;

/// A model as a list shows it.
struct Listed<'s> {
    /// What to call it by: bare in the key's default namespace, `namespace.public_model` in others.
    name: String,
    /// Unix seconds.
    updated_at: i64,
    /// What the catalogue tells, where it knows the model.
    facts: Option<&'s ModelSnapshot>,
}

/// The models that the caller may call (namespaces, models and scopes of its key) and that something could serve, sorted by
/// name.
pub(crate) fn list(
    snapshot: &RoutingSnapshot,
    caller: &Caller,
    protocol: Protocol,
    query: Option<&str>,
) -> Result<Bytes, Refusal> {
    let query = Query(query.unwrap_or_default());
    let models = visible(snapshot, caller);
    let list = match protocol {
        Protocol::OpenaiChat | Protocol::OpenaiResponses => openai_list(&models),
        Protocol::AnthropicMessages => anthropic_list(&models, query)?,
        Protocol::Gemini => gemini_list(&models, query)?,
    };
    Ok(Bytes::from(list.to_string()))
}

/// One model by the name that the list shows it by.
pub(crate) fn get(
    snapshot: &RoutingSnapshot,
    caller: &Caller,
    protocol: Protocol,
    name: &str,
) -> Result<Bytes, Refusal> {
    let target = plan::resolve(snapshot, caller, name)?;
    let key = binding_key(&target.namespace, &target.public_model);
    let facts = snapshot.model(&key).map(|model| &model.snapshot);
    let binding = snapshot.binding(&key).filter(|binding| may_call(&caller.token, binding, facts));
    let binding = binding.ok_or_else(|| plan::unknown_model(&target))?;
    let model = Listed { name: name.to_owned(), updated_at: binding.updated_at, facts };
    let shown = match protocol {
        Protocol::OpenaiChat | Protocol::OpenaiResponses => openai_model(&model),
        Protocol::AnthropicMessages => anthropic_model(&model),
        Protocol::Gemini => gemini_model(&model),
    };
    Ok(Bytes::from(shown.to_string()))
}

fn visible<'s>(snapshot: &'s RoutingSnapshot, caller: &Caller) -> Vec<Listed<'s>> {
    let mut models: Vec<_> = snapshot
        .bindings()
        .filter_map(|binding| {
            let key = binding_key(&binding.namespace, &binding.public_model);
            let facts = snapshot.model(&key).map(|model| &model.snapshot);
            if !may_call(&caller.token, binding, facts) {
                return None;
            }
            // A bare name whose beginning names a namespace would lead there.
            let is_bare_enough = binding.namespace == caller.token.default_namespace
                && plan::resolve(snapshot, caller, &binding.public_model)
                    .is_ok_and(|target| target.namespace == binding.namespace);
            let name = if is_bare_enough { binding.public_model.clone() } else { key };
            Some(Listed { name, updated_at: binding.updated_at, facts })
        })
        .collect();
    models.sort_by(|a, b| a.name.cmp(&b.name));
    models
}

/// Whether calls of this key to a model can be served, as far as key and catalogue tell.
fn may_call(token: &TokenSnapshot, binding: &BindingSnapshot, facts: Option<&ModelSnapshot>) -> bool {
    let kind = facts.filter(|facts| !facts.kind.is_empty()).map(|facts| ModelKind::of(&facts.kind));
    Forbidden::find(token, &binding.namespace, &binding.public_model).is_none()
        && operations(kind).iter().any(|operation| operation.is_allowed_by(&token.scopes))
        && binding.status == RecordStatus::Active
        && binding.candidates.iter().any(can_serve)
}

/// What models of a kind are for; one that the catalogue does not know may be for anything.
const fn operations(kind: Option<ModelKind>) -> &'static [Operation] {
    use Operation::{Audio, Chat, Completions, Embeddings, Images, Moderations, Rerank};
    match kind {
        Some(ModelKind::Chat) => &[Chat, Completions],
        Some(ModelKind::Embedding) => &[Embeddings],
        Some(ModelKind::Rerank) => &[Rerank],
        Some(ModelKind::Other) => &[Images, Audio, Moderations],
        None => &[Chat, Completions, Embeddings, Images, Audio, Rerank, Moderations],
    }
}

fn openai_list(models: &[Listed<'_>]) -> Value {
    let data: Vec<_> = models.iter().take(MAX_UNPAGED).map(openai_model).collect();
    json!({"object": "list", "data": data})
}

fn openai_model(model: &Listed<'_>) -> Value {
    json!({"id": model.name, "object": "model", "created": model.updated_at, "owned_by": "ez-api"})
}

/// Anthropic's pages: `limit`, and `after_id` or `before_id`.
fn anthropic_list(models: &[Listed<'_>], query: Query<'_>) -> Result<Value, Refusal> {
    let limit = query.number("limit", 1..=MAX_PAGE)?.unwrap_or(ANTHROPIC_PAGE);
    let after = query.text("after_id").map_or(0, |id| models.partition_point(|model| *model.name <= *id));
    let (page, has_more) = match query.text("before_id") {
        Some(id) => {
            let end = models.partition_point(|model| *model.name < *id);
            let start = end.saturating_sub(limit);
            (&models[start..end], start > 0)
        }
        None => {
            let end = (after + limit).min(models.len());
            (&models[after..end], end < models.len())
        }
    };
    let data: Vec<_> = page.iter().map(anthropic_model).collect();
    let id = |model: Option<&Listed<'_>>| model.map(|model| model.name.clone());
    Ok(json!({"data": data, "has_more": has_more, "first_id": id(page.first()), "last_id": id(page.last())}))
}

fn anthropic_model(model: &Listed<'_>) -> Value {
    let created_at = DateTime::from_timestamp(model.updated_at, 0).unwrap_or_default();
    let created_at = created_at.to_rfc3339_opts(SecondsFormat::Secs, true);
    json!({"type": "model", "id": model.name, "display_name": model.name, "created_at": created_at})
}

/// Google's pages: `pageSize` (larger ones are cut) and the `pageToken` that the page before gave.
fn gemini_list(models: &[Listed<'_>], query: Query<'_>) -> Result<Value, Refusal> {
    let size = query.number("pageSize", 0..=usize::MAX)?.filter(|size| *size > 0).unwrap_or(GEMINI_PAGE).min(MAX_PAGE);
    let start = match query.text("pageToken").filter(|token| !token.is_empty()) {
        Some(token) => {
            let last = URL_SAFE_NO_PAD.decode(token.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let last = last.ok_or_else(|| invalid("pageToken", "the nextPageToken of the page before"))?;
            models.partition_point(|model| model.name <= last)
        }
        None => 0,
    };
    let end = start.saturating_add(size).min(models.len());
    let page: Vec<_> = models[start..end].iter().map(gemini_model).collect();
    let mut list = json!({"models": page});
    if end < models.len() {
        list["nextPageToken"] = json!(URL_SAFE_NO_PAD.encode(models[end - 1].name.as_bytes()));
    }
    Ok(list)
}

fn gemini_model(model: &Listed<'_>) -> Value {
    let methods: &[&str] = match model.facts.map(|facts| facts.kind.as_str()) {
        Some("embedding") => &["embedContent", "batchEmbedContents"],
        Some("rerank") => &[],
        _ => &["generateContent", "streamGenerateContent", "countTokens"],
    };
    let mut shown = json!({
        "name": format!("models/{}", model.name),
        "version": "001",
        "displayName": model.name,
        "supportedGenerationMethods": methods,
    });
    // A limit of nought would make clients cut everything, so an unknown one is left out.
    let limits = model.facts.map(|facts| [facts.context_window, facts.max_output_tokens]).unwrap_or_default();
    for (name, limit) in ["inputTokenLimit", "outputTokenLimit"].iter().zip(limits) {
        if limit > 0 {
            shown[name] = json!(limit);
        }
    }
    shown
}

/// The query of a list.
#[derive(Clone, Copy)]
struct Query<'q>(&'q str);

impl<'q> Query<'q> {
    fn text(self, name: &str) -> Option<std::borrow::Cow<'q, str>> {
        url::form_urlencoded::parse(self.0.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
    }

    fn number(self, name: &'static str, allowed: std::ops::RangeInclusive<usize>) -> Result<Option<usize>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| allowed.contains(number));
        let expected = if *allowed.end() == usize::MAX { "a number" } else { "a number from 1 to 1000" };
        number.map(Some).ok_or_else(|| invalid(name, expected))
    }
}

fn invalid(name: &'static str, expected: &str) -> Refusal {
    let message = format!("`{name}` must be {expected}");
    Refusal::client(StatusCode::BAD_REQUEST, FaultKind::InvalidRequest, "invalid_parameter", message)
        .with_param(Some(name))
}
