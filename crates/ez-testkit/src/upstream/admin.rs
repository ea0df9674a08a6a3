//! The upstream's own endpoints under `/_sim/`, for drivers in other processes.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Map, Value, json};

use super::body::SimBody;
use super::script::RecordedRequest;
use super::serve::SimState;

/// Answers `PUT /_sim/behaviour`, `POST` and `DELETE /_sim/rules`, `GET` and `DELETE /_sim/requests`, `GET /_sim/stats`.
pub(super) fn answer(state: &SimState, parts: &Parts, body: &Bytes) -> Response<SimBody> {
    let script = || state.script.lock().unwrap();
    let done = match (&parts.method, parts.uri.path()) {
        (&Method::PUT, "/_sim/behaviour") => serde_json::from_slice(body).map(|behaviour| script().set(behaviour)),
        (&Method::POST, "/_sim/rules") => serde_json::from_slice(body).map(|rule| script().add(rule)),
        (&Method::DELETE, "/_sim/rules") => {
            script().clear();
            Ok(())
        }
        (&Method::DELETE, "/_sim/requests") => {
            state.record.lock().unwrap().requests.clear();
            Ok(())
        }
        (&Method::GET, "/_sim/requests") => {
            let requests: Vec<Value> = state.record.lock().unwrap().requests.iter().map(as_json).collect();
            return json_response(StatusCode::OK, &json!(requests));
        }
        (&Method::GET, "/_sim/stats") => return json_response(StatusCode::OK, &stats(state)),
        _ => return json_response(StatusCode::NOT_FOUND, &json!({"error": "no such endpoint of the simulation"})),
    };
    match done {
        Ok(()) => json_response(StatusCode::OK, &json!({"ok": true})),
        Err(error) => json_response(StatusCode::BAD_REQUEST, &json!({"error": error.to_string()})),
    }
}

fn stats(state: &SimState) -> Value {
    let counters = &state.counters;
    json!({
        "requests": counters.requests.load(Ordering::Relaxed),
        "connections": counters.connections.load(Ordering::Relaxed),
        "aborted": counters.aborted.load(Ordering::Relaxed),
    })
}

fn as_json(request: &RecordedRequest) -> Value {
    let headers: Map<String, Value> = request
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))))
        .collect();
    json!({
        "method": request.method.as_str(),
        "path": request.path,
        "query": request.query,
        "headers": headers,
        "credential": request.credential,
        "body": String::from_utf8_lossy(&request.body),
    })
}

fn json_response(status: StatusCode, value: &Value) -> Response<SimBody> {
    let mut response = Response::new(SimBody::whole(value.to_string().into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
