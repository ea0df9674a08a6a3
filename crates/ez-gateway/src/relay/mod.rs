//! Relay: hands an answer to the client, and settles the call before the client sees its end.

use bytes::Bytes;
use ez_protocol::sample::TextSample;
use futures_util::stream::unfold;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use crate::call::{AnswerBody, CallScope};
use crate::dispatch::{Answer, AnswerHead, Content, PlainContent};
use crate::inspect::Inspected;
use crate::metering::{self, Meter, Prompt};
use crate::plan::UpstreamChoice;
use crate::refusal::{Refusal, full};
use crate::route::Route;
use crate::settle::{Account, End, not_accountable};
use crate::stored::Spotter;

mod burst;
mod gone;
mod patience;
mod stream;

use gone::Attended;
use patience::Patience;
use stream::{Progress, StreamRelay};

pub(crate) use gone::Abandonment;
pub(crate) use stream::Content as StreamedContent;

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const X_EZ_ATTEMPTS: HeaderName = HeaderName::from_static("x-ez-attempts");
const X_EZ_COST: HeaderName = HeaderName::from_static("x-ez-cost");
const X_EZ_DROPPED_PARAMS: HeaderName = HeaderName::from_static("x-ez-dropped-params");
const X_EZ_MODEL: HeaderName = HeaderName::from_static("x-ez-model");
const X_EZ_PROVIDER: HeaderName = HeaderName::from_static("x-ez-provider");

/// An answer that nothing can be said in any more: its connection is closed without the proper end of a body.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub struct BrokenOff;

/// Makes the client's response of an upstream's answer.
pub(crate) async fn relay(
    scope: &CallScope<'_>,
    inspected: &Inspected,
    answer: Box<Answer>,
    mut account: Box<Account>,
) -> Result<Response<AnswerBody>, Refusal> {
    let Answer { head: AnswerHead { status, headers, choice, dropped }, body } = *answer;
    account.note_status(status.as_u16());
    if let (Content::Plain(content), Some(spotter)) = (&body, Spotter::of(scope, inspected, &choice)) {
        spotter.see_answer(&content.body);
    }
    let mut headers = response_headers(headers, &choice, account.attempts());
    if let Ok(names) = HeaderValue::from_str(&dropped.join(", "))
        && !dropped.is_empty()
    {
        headers.insert(X_EZ_DROPPED_PARAMS, names);
    }
    let body = match body {
        Content::Plain(content) => {
            let meter = Meter { api: choice.api, model: choice.upstream_model.clone(), prompt: prompt_of(inspected) };
            let body = plain(content, meter, is_free(scope), &mut account).await?;
            if let Some(cost) = account.cost().and_then(|cost| HeaderValue::from_str(cost).ok()) {
                headers.insert(X_EZ_COST, cost);
            }
            full(body)
        }
        Content::Stream(content) => {
            let asked = inspected.peek.model.as_str();
            let relay = StreamRelay {
                peeked: content.peeked.into(),
                content: content.content,
                upstream: content.rest,
                public_name: (asked != choice.upstream_model).then(|| asked.to_owned()),
                translator: content.translator,
                withholds_usage: !inspected.peek.wants_usage,
                meter: Meter {
                    api: choice.api,
                    model: choice.upstream_model.clone(),
                    prompt: Prompt::Tokens(inspected.peek.estimated_input_tokens()),
                },
                is_free: is_free(scope),
                spotter: Spotter::of(scope, inspected, &choice),
                on_client_gone: choice.on_client_gone,
                patience: Patience::new(scope.gateway.config.idle_timeout, scope.deadline),
                progress: Progress::default(),
                account,
            };
            into_body(Attended::new(relay, scope.gateway.abandonment.clone()))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Settles a plain answer; its body may be released once this returns.
async fn plain(content: PlainContent, meter: Meter, is_free: bool, account: &mut Account) -> Result<Bytes, Refusal> {
    let PlainContent { body: told, answer, translated, error } = content;
    let body = translated.or(answer.renamed).unwrap_or_else(|| told.clone());
    account.note_sent(body.len());
    if is_free {
        account.note_tokens(metering::nothing());
    } else if let Some(tokens) = answer.tokens {
        account.note_tokens(tokens);
    } else if error.is_none() {
        let api = meter.api;
        let estimated = meter.estimate(None, move || TextSample::of_answer(api, &told)).await;
        if let Some(tokens) = estimated {
            account.note_estimated(tokens);
        }
    }
    let end = match error {
        None => End::complete(),
        Some(error) => End::upstream(format!("the upstream refused the request: {}", error.message)),
    };
    match account.settle(end).await {
        Ok(()) => Ok(body),
        Err(e) => {
            tracing::error!(error = %e, request_id = account.request_id(), "call not settled; its answer is withheld");
            Err(not_accountable())
        }
    }
}

/// What the prompt of a plain call is known by. Forms are not read for their text.
fn prompt_of(inspected: &Inspected) -> Prompt {
    if inspected.peek.is_form() {
        Prompt::Tokens(inspected.peek.estimated_input_tokens())
    } else {
        Prompt::Body(inspected.body.clone())
    }
}

/// Whether nothing is charged: counts of tokens, and stored responses, which were charged when they were made.
fn is_free(scope: &CallScope<'_>) -> bool {
    metering::is_free(scope.form.api) || matches!(scope.arrival.route, Route::Stored { .. })
}

fn into_body(relay: Attended) -> AnswerBody {
    let frames = unfold(relay, |mut relay| async move {
        let piece = relay.next().await?;
        Some((piece.map(Frame::data), relay))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// The upstream's headers, and what the gateway tells of the call.
fn response_headers(mut headers: HeaderMap, choice: &UpstreamChoice, attempts: u32) -> HeaderMap {
    if headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream")) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // Tells nginx and its like not to gather events.
        headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    }
    let provider = &choice.upstream.snapshot.name;
    // What was estimated here was asked of nobody.
    let told = [(X_EZ_PROVIDER, provider), (X_EZ_MODEL, &choice.upstream_model)];
    for (name, text) in told.into_iter().filter(|_| attempts > 0) {
        // Names of groups and models may hold what no header can carry.
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    }
    headers.insert(X_EZ_ATTEMPTS, HeaderValue::from(attempts));
    headers
}
