//! What holds for every request: its id, the shape of errors, the size of bodies.

use http::header::{ALLOW, CONTENT_TYPE};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{ADMIN_TOKEN, INTERNAL_TOKEN, TestApp};

pub(crate) async fn request_ids_come_back(app: TestApp) {
    let of = async |id: &str| {
        let answer = app.call(Method::GET, "/healthz").header("x-request-id", id).send().await;
        answer.header("x-request-id").to_owned()
    };
    assert_eq!(of("req-1").await, "req-1");
    let made = of("has a space").await;
    assert_eq!(uuid::Uuid::parse_str(&made).unwrap().get_version_num(), 7);

    let refused = app.call(Method::GET, "/nowhere").header("x-request-id", "req-2").send().await;
    assert_eq!(refused.problem(StatusCode::NOT_FOUND)["request_id"], "req-2");
    let created = app.call(Method::POST, "/admin/namespaces").token(ADMIN_TOKEN).header("x-request-id", "req-3");
    created.json(&json!({"name": "a"})).send().await.created();
    let entries = app.get(ADMIN_TOKEN, "/admin/audit?limit=1").await.ok();
    assert_eq!(entries["items"][0]["request_id"], "req-3");
}

pub(crate) async fn every_error_is_a_problem(app: TestApp) {
    let mut problems = Vec::new();
    let mut keep = |title: &str, problem: Value| problems.push(json!({title: problem}));

    let unknown = app.get(ADMIN_TOKEN, "/admin/nothing").await;
    keep("unknown path", unknown.problem(StatusCode::NOT_FOUND));
    let method = app.delete(ADMIN_TOKEN, "/admin/masters").await;
    assert_eq!(method.header(ALLOW.as_str()), "GET,HEAD,POST");
    keep("wrong method", method.problem(StatusCode::METHOD_NOT_ALLOWED));
    let id = app.get(ADMIN_TOKEN, "/admin/masters/abc").await;
    keep("id that is none", id.problem(StatusCode::NOT_FOUND));
    let nobody = app.call(Method::GET, "/admin/masters").send().await;
    keep("nobody", nobody.problem(StatusCode::UNAUTHORIZED));

    for (title, status, body) in [
        ("malformed JSON", StatusCode::BAD_REQUEST, "{\"name\":\n  oops}"),
        ("JSON and more", StatusCode::BAD_REQUEST, "{\"name\":\"a\"} x"),
        ("no body", StatusCode::BAD_REQUEST, ""),
        ("unknown field", StatusCode::UNPROCESSABLE_ENTITY, "{\"name\":\"a\",\"nmae\":1}"),
        ("missing field", StatusCode::UNPROCESSABLE_ENTITY, "{}"),
        ("wrong type", StatusCode::UNPROCESSABLE_ENTITY, "{\"name\":\"a\",\"max_child_keys\":-1}"),
        ("wrong type within", StatusCode::UNPROCESSABLE_ENTITY, "{\"name\":\"a\",\"namespaces\":[\"a\",2]}"),
        ("field twice", StatusCode::UNPROCESSABLE_ENTITY, "{\"name\":\"a\",\"name\":\"b\"}"),
        ("a list", StatusCode::UNPROCESSABLE_ENTITY, "[\"a\",null,null,null,null,null]"),
        ("no word", StatusCode::UNPROCESSABLE_ENTITY, "{\"name\":\"a\",\"status\":1}"),
        ("unknown word", StatusCode::UNPROCESSABLE_ENTITY, "{\"name\":\"a\",\"status\":\"on\"}"),
    ] {
        let call = app.call(Method::POST, "/admin/masters").token(ADMIN_TOKEN);
        let answer = call.header(CONTENT_TYPE.as_str(), "application/json; charset=utf-8").body(body).send().await;
        keep(title, answer.problem(status));
    }
    let plain = app.call(Method::POST, "/admin/masters").token(ADMIN_TOKEN).header("content-type", "text/plain");
    keep("wrong content type", plain.body("{}").send().await.problem(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    let untold = app.call(Method::POST, "/admin/masters").token(ADMIN_TOKEN).body("{}").send().await;
    keep("no content type", untold.problem(StatusCode::UNSUPPORTED_MEDIA_TYPE));

    for (title, path) in [
        ("unknown parameter", "/admin/masters?sorted=id"),
        ("parameter of a wrong type", "/admin/masters?page=first"),
        ("parameters out of range", "/admin/masters?page=0&limit=201"),
        ("parameter given twice", "/admin/masters?page=1&page=2"),
        ("unknown order", "/admin/masters?sort=size"),
        ("forged cursor", "/admin/logs?cursor=bm9wZQ"),
        ("parameter on a route without any", "/admin/sync/status?dry_run=true"),
    ] {
        keep(title, app.get(ADMIN_TOKEN, path).await.problem(StatusCode::UNPROCESSABLE_ENTITY));
    }
    insta::assert_json_snapshot!("problems", problems, {"[].*.request_id" => "[request id]"});
}

pub(crate) async fn bodies_are_limited_by_route(app: TestApp) {
    let padded = |bytes: usize| format!("{{\"records\":[]{}}}", " ".repeat(bytes));
    let post = async |token: &str, path: &str, bytes: usize| {
        let call = app.call(Method::POST, path).token(token).header("content-type", "application/json");
        call.body(padded(bytes)).send().await
    };
    let refused = post(ADMIN_TOKEN, "/admin/masters", 3 << 20).await.problem(StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(refused["code"], "too_large");
    post(INTERNAL_TOKEN, "/internal/logs", 3 << 20).await.ok();
    post(INTERNAL_TOKEN, "/internal/logs", 33 << 20).await.problem(StatusCode::PAYLOAD_TOO_LARGE);
    // Who may not call the route is told so before the body is read.
    post(ADMIN_TOKEN, "/internal/logs", 33 << 20).await.problem(StatusCode::UNAUTHORIZED);
}

pub(crate) async fn an_outage_is_told_apart_from_a_fault(app: TestApp) {
    app.control.store().clone().close().await.unwrap();
    let problem = app.get(ADMIN_TOKEN, "/admin/masters").await.problem(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem["code"], "unavailable");
    app.call(Method::GET, "/healthz").send().await.ok();
}
