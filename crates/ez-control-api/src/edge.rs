//! The edge: what every request passes on its way in and every answer on its way out.

use std::panic::AssertUnwindSafe;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ez_telemetry::RequestId;
use ez_telemetry::metrics::{CONTROL_REQUEST_SECONDS, CONTROL_REQUESTS};
use ez_telemetry::request_id::X_REQUEST_ID;
use futures_util::FutureExt;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, Method, StatusCode};
use tokio::time::Instant;
use tracing::Instrument;

use crate::problem::{self, ApiError};

/// Names the request, opens its span, turns a panic into a 500, and gives every error answer the shape of a problem.
pub(crate) async fn edge(mut request: Request, next: Next) -> Response {
    let request_id = RequestId::from_headers(request.headers());
    // The pattern, not the path: ids stay out of it, so that lines group by route.
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let (method, arrived) = (method_word(request.method()), Instant::now());
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
    count(route, method, response.status(), arrived);

    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID, request_id.to_header_value());
    // Answers hold records of one tenant, and once a secret: no cache on the way may keep them.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Those that routes take; what else a caller may write is one word, as anyone can make up more.
fn method_word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn count(route: String, method: &'static str, status: StatusCode, arrived: Instant) {
    let class = match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    };
    metrics::counter!(CONTROL_REQUESTS, "route" => route.clone(), "method" => method, "status" => class).increment(1);
    metrics::histogram!(CONTROL_REQUEST_SECONDS, "route" => route, "method" => method).record(arrived.elapsed());
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_500_with_the_request_id_and_without_its_message() {
        async fn fail() -> &'static str {
            panic!("a detail that is nobody's business")
        }
        let routes = Router::new().route("/", get(fail)).layer(axum::middleware::from_fn(edge));
        let request = http::Request::get("/").header(X_REQUEST_ID, "req-1").body(Body::empty()).unwrap();
        let response = routes.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[X_REQUEST_ID], "req-1");
        let body = to_bytes(response.into_body(), 1 << 16).await.unwrap();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&problem["code"], &problem["request_id"]), (&"internal".into(), &"req-1".into()));
        assert!(!problem.to_string().contains("business"), "{problem}");
    }
}
