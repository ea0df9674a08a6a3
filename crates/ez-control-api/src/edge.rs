//! The edge: what every request passes on its way in and every answer on its way out.

use std::panic::AssertUnwindSafe;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ez_telemetry::RequestId;
use ez_telemetry::request_id::X_REQUEST_ID;
use futures_util::FutureExt;
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use tracing::Instrument;

use crate::problem::{self, ApiError};

/// Names the request, opens its span, turns a panic into a 500, and gives every error answer the shape of a problem.
pub(crate) async fn edge(mut request: Request, next: Next) -> Response {
    let request_id = RequestId::from_headers(request.headers());
    // The pattern, not the path: ids stay out of it, so that lines group by route.
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", %request_id, method = %request.method(), %route);
    request.extensions_mut().insert(request_id.clone());

    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let _inside = span.enter();
    let answer = answer.unwrap_or_else(|_| {
        tracing::error!("a handler panicked");
        ApiError::internal().into_response()
    });
    let mut response = problem::render(answer, &request_id);
    tracing::debug!(status = response.status().as_u16(), "answered");

    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID, request_id.to_header_value());
    // Answers hold records of one tenant, and once a secret: no cache on the way may keep them.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
