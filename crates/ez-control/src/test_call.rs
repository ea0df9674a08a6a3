//! Test calls: the smallest real call to an upstream with one of its API keys.

mod ask;

use std::time::Duration;

use bytes::Bytes;
use ez_contract::ProviderType;
use ez_contract::google::{ServiceAccount, TokenAnswer};
use ez_store::api_keys::ApiKey;
use ez_store::provider_groups::{self, ProviderGroup};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::time::Instant;
use url::Url;

use self::ask::{Ask, ask};
use crate::error::Faults;
use crate::outbound::{self, OutboundAnswer, OutboundError, OutboundRequest, Reach};
use crate::vendor_words::message_of;
use crate::{Control, ControlError, Write, api_keys, checks};

/// Bound on the whole call. Reasoning models take their time for a single token, too.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An answer to one token is far smaller.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// What became of a test call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestCall {
    /// Whether the upstream answered with success.
    pub ok: bool,
    /// The HTTP status that it answered with; none where it did not answer.
    pub status: Option<u16>,
    /// From sending to the end of the answer.
    pub latency_ms: u64,
    /// The upstream model that was asked for.
    pub model: String,
    /// What happened, and the vendor's message without what it may give away.
    pub message: String,
}

/// Calls an upstream for one token with an API key, whatever its state, which stays as it is. `model` is the first of the
/// provider group where absent. Errors: `NotFound`; `Invalid` without a model; `Conflict` for a credential that no call can
/// be made with.
pub async fn run(control: &Control, id: i64, model: Option<String>) -> Result<TestCall, ControlError> {
    let mut faults = Faults::default();
    if let Some(model) = &model {
        checks::required_text(&mut faults, "/model", model);
    }
    faults.into_result()?;
    let api_key = api_keys::get(control, id).await?;
    let group = provider_groups::get(control.store(), api_key.group_id).await?;
    let group = group.ok_or_else(|| ControlError::not_found("provider group", api_key.group_id))?;
    let Some(model) = model.or_else(|| group.models.first().cloned()) else {
        let name = &group.name;
        return Err(ControlError::invalid("/model", format!("is required, as the provider group `{name}` names none")));
    };
    let secret = secret(control, &group, &api_key)?;
    let began = Instant::now();
    let (status, message) = call(control, &group, secret.expose_secret(), &model).await?;
    let latency_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let ok = status.is_some_and(|status| status.is_success());
    Ok(TestCall { ok, status: status.map(|status| status.as_u16()), latency_ms, model, message })
}

/// Notes a test call in the audit. Errors: `NotFound`.
pub async fn record(write: &Write, id: i64, call: &TestCall) -> Result<(), ControlError> {
    let api_key = api_keys::get(write.control(), id).await?;
    let outcome = json!({ "model": call.model, "ok": call.ok, "status": call.status, "latency_ms": call.latency_ms });
    write.record_use("test", &api_key, outcome).await
}

fn secret(control: &Control, group: &ProviderGroup, api_key: &ApiKey) -> Result<SecretString, ControlError> {
    let provider_type = group.provider_type;
    if provider_type.is_oauth() {
        let message = format!("API keys of the type `{provider_type}` cannot be tested yet; call a model of theirs");
        return Err(ControlError::conflict(message));
    }
    api_keys::open(control, api_key).ok_or_else(|| {
        ControlError::conflict("the API key's secret cannot be opened with this EZ_SECRET_KEY; write it again")
    })
}

/// Signs in and calls: the status that the upstream answered with, if it did, and what is told of it.
async fn call(
    control: &Control,
    group: &ProviderGroup,
    secret: &str,
    model: &str,
) -> Result<(Option<StatusCode>, String), ControlError> {
    let account = (group.provider_type == ProviderType::Vertex).then(|| ServiceAccount::parse(secret));
    let account = account.transpose().map_err(|e| ControlError::conflict(e.to_string()))?;
    let credential = match &account {
        None => Ok(secret.to_owned()),
        Some(account) => access_token(control, account).await?,
    };
    let credential = match credential {
        Ok(credential) => SecretString::from(credential),
        Err(told) => return Ok((None, format!("the service account gets no access token: {told}"))),
    };
    let credential = credential.expose_secret();
    let project = account.as_ref().and_then(ServiceAccount::project_id);
    let Ask { url, headers, body } = ask(group, credential, project, model)?;
    Ok(match send(control, url, headers, Bytes::from(body.to_string())).await {
        Ok(OutboundAnswer { status, body, .. }) => (Some(status), told(status, &body, credential)),
        Err(error) => (None, error.to_string()),
    })
}

/// A service account's token, or what is told of there being none.
async fn access_token(control: &Control, account: &ServiceAccount) -> Result<Result<String, String>, ControlError> {
    let form = account.token_request(control.now()).map_err(ControlError::internal)?;
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, form_type)]);
    let OutboundAnswer { status, body, .. } =
        match send(control, account.token_uri().clone(), headers, form.clone().into()).await {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(error.to_string())),
        };
    if !status.is_success() {
        let said = message_of(&body, &form).map(|said| format!(": {said}")).unwrap_or_default();
        return Ok(Err(format!("its token endpoint answers {}{said}", status.as_u16())));
    }
    let answer = serde_json::from_slice::<TokenAnswer>(&body);
    Ok(answer.map(|answer| answer.access_token).map_err(|_| "its token endpoint's answer holds none".to_owned()))
}

async fn send(control: &Control, url: Url, headers: HeaderMap, body: Bytes) -> Result<OutboundAnswer, OutboundError> {
    let request = OutboundRequest {
        method: Method::POST,
        url,
        headers,
        body,
        reach: Reach::Operator,
        tls: control.config().upstream_tls.clone(),
        resolver: control.config().resolver.clone(),
        timeout: TIMEOUT,
        max_answer_bytes: Some(MAX_ANSWER_BYTES),
    };
    outbound::send(request).await
}

/// What a status means, and what the vendor says of it.
fn told(status: StatusCode, body: &[u8], secret: &str) -> String {
    let meaning = match status.as_u16() {
        200..300 => return "the upstream answered".to_owned(),
        300..400 => "the upstream redirects: set the base URL to where it does",
        400 | 422 => "the upstream refuses the request",
        401 | 403 => "the upstream refuses the credential",
        402 => "the upstream wants to be paid",
        404 => "the upstream does not know the model or the URL",
        429 => "the upstream limits this credential at the moment",
        _ => "the upstream failed",
    };
    match message_of(body, secret) {
        Some(said) => format!("{meaning}: {said}"),
        None => meaning.to_owned(),
    }
}
