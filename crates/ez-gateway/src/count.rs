//! Counts of tokens where no upstream of a model counts: estimated here, and marked.

use ez_protocol::Api;
use ez_protocol::answer::PlainAnswer;
use ez_protocol::estimate;
use ez_protocol::sample::TextSample;
use ez_protocol::translate::{chat_of_count, estimated_count};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::dispatch::{Answer, AnswerHead, Content, PlainContent};
use crate::inspect::Inspected;
use crate::plan::{self, Asked, Plan, Target};
use crate::refusal::Refusal;
use crate::routing::RoutingSnapshot;

/// Tells that a count is no vendor's.
const X_EZ_ESTIMATED: HeaderName = HeaderName::from_static("x-ez-estimated");

/// The plan of a chat with the model whose tokens no upstream counts; `refusal` where it has none, or none was asked for.
pub(crate) fn plan(snapshot: &RoutingSnapshot, target: &Target, api: Api, refusal: Refusal) -> Result<Plan, Refusal> {
    let chat = chat_of_count(api).ok_or_else(|| refusal.clone())?;
    plan::plan(snapshot, target, Asked { api: chat, stream: false }).map_err(|_| refusal)
}

/// About how many tokens a request has for the model that a call would most likely reach.
pub(crate) async fn estimate(inspected: &Inspected, plan: &Plan) -> Result<Box<Answer>, Refusal> {
    let nothing = || Refusal::internal("no_provider", "no upstream can serve this");
    let choice = plan.tiers.first().and_then(|tier| tier.first()?.upstreams.first()).ok_or_else(nothing)?.clone();
    let (model, body) = (choice.upstream_model.clone(), inspected.body.clone());
    // Counting takes its time, and more at first.
    let counted = tokio::task::spawn_blocking(move || estimate::tokens(&model, &TextSample::of_prompt(&body))).await;
    let tokens =
        counted.map_err(|_| Refusal::internal("count_failed", "the tokens could not be counted: try again"))?;
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_EZ_ESTIMATED, HeaderValue::from_static("true"));
    let head = AnswerHead { status: StatusCode::OK, headers, choice, dropped: Vec::new() };
    let body = estimated_count(inspected.api.protocol(), tokens);
    let content = PlainContent { body, answer: PlainAnswer::default(), translated: None, error: None };
    Ok(Box::new(Answer { head, body: Content::Plain(content) }))
}
