//! Masters among each other.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{INTERNAL_TOKEN, TestApp, usage_record};

/// Every route of masters with an id in its path, and what is sent to it. A route that is missing here fails the test.
const ROUTES_WITH_IDS: &[(&str, &str)] = &[
    ("GET /v1/tokens/{id}", ""),
    ("PUT /v1/tokens/{id}", r#"{"name": "mine", "status": "suspended"}"#),
    ("DELETE /v1/tokens/{id}", ""),
    ("POST /v1/tokens/{id}/rotate", r#"{"overlap_seconds": 0}"#),
];

pub(crate) async fn masters_see_nothing_of_each_other(app: TestApp) {
    let (first_id, first) = app.master("first").await;
    let (second_id, second) = app.master("second").await;
    let of_first = app.post(&first, "/v1/tokens", json!({"name": "secret plan"})).await.created();
    let of_second = app.post(&second, "/v1/tokens", json!({"name": "other"})).await.created();

    let path = format!("/v1/tokens/{}", of_first["id"]);
    let missing = "/v1/tokens/999999";
    let theirs = app.get(&second, &path).await.problem(StatusCode::NOT_FOUND);
    let nobodys = app.get(&second, missing).await.problem(StatusCode::NOT_FOUND);
    let detail = |problem: &Value, id: &str| problem["detail"].as_str().unwrap().replace(id, "N");
    assert_eq!(detail(&theirs, &of_first["id"].to_string()), detail(&nobodys, "999999"), "existence must not show");
    app.put(&second, &path, json!({"name": "mine"})).await.problem(StatusCode::NOT_FOUND);
    app.delete(&second, &path).await.problem(StatusCode::NOT_FOUND);
    assert_eq!(app.get(&first, &path).await.ok()["name"], "secret plan");

    let list = app.get(&second, "/v1/tokens?search=").await.ok();
    assert_eq!((&list["total"], &list["items"][0]["id"]), (&json!(1), &of_second["id"]));
    assert_eq!(app.get(&second, "/v1/tokens?search=plan").await.ok()["total"], 0);
    // A filter that would leave the tenant does not exist there.
    let faults = app.get(&second, &format!("/v1/tokens?master_id={first_id}")).await.faults();
    assert_eq!(faults, ["/master_id"]);

    let records = json!({"records": [
        usage_record("log-1", json!({"master_id": first_id, "key_id": of_first["id"]})),
        usage_record("log-2", json!({"master_id": second_id, "key_id": of_second["id"]})),
    ]});
    app.post(INTERNAL_TOKEN, "/internal/logs", records).await.ok();
    let own = app.get(&second, "/v1/logs").await.ok();
    assert_eq!(own["items"].as_array().unwrap().len(), 1);
    insta::assert_json_snapshot!("own_log_record", own["items"][0], {".key_id" => "[id]"});
    let probing = app.get(&second, &format!("/v1/logs?key_id={}", of_first["id"])).await.ok();
    assert_eq!(probing["items"], json!([]));
    assert_eq!(app.get(&second, &format!("/v1/logs?master_id={first_id}")).await.faults(), ["/master_id"]);
}

pub(crate) async fn no_route_of_masters_reaches_what_another_has(app: TestApp) {
    let (_, first) = app.master("first-master").await;
    let (_, second) = app.master("second-master").await;
    let theirs = app.post(&first, "/v1/tokens", json!({"name": "first-key"})).await.created();
    let own = app.post(&second, "/v1/tokens", json!({"name": "second-key"})).await.created();
    let log = usage_record("first-log", json!({"master_id": theirs["master_id"], "key_id": theirs["id"]}));
    app.post(INTERNAL_TOKEN, "/internal/logs", json!({"records": [log]})).await.ok();
    let before = app.dump().await;

    let document = app.call(Method::GET, "/openapi.json").send().await.ok();
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().unwrap().iter().filter(|(path, _)| path.starts_with("/v1/")) {
        for method in item.as_object().unwrap().keys() {
            let route = format!("{} {path}", method.to_uppercase());
            if path.contains('{') {
                let row = ROUTES_WITH_IDS.iter().find(|(known, _)| *known == route);
                let (_, body) = row.unwrap_or_else(|| panic!("{route} needs a row in this table"));
                check_hidden(&app, &second, &route, body, &theirs).await;
                tried += 1;
            } else if method == "get" {
                let text = app.get(&second, path).await.expect(StatusCode::OK).text().to_owned();
                for foreign in ["first-master", "first-key", "first-log", theirs["prefix"].as_str().unwrap()] {
                    assert!(!text.contains(foreign), "{route} tells of {foreign}: {text}");
                }
            }
        }
    }
    assert_eq!(tried, ROUTES_WITH_IDS.len(), "a row of this table is no route any more");
    assert_eq!(app.dump().await, before, "nothing changed");
    assert_eq!(app.get(&first, "/v1/tokens").await.ok()["items"][0]["name"], "first-key");
    assert_eq!(app.get(&second, "/v1/tokens").await.ok()["items"][0]["id"], own["id"]);
}

/// Another's id and one of nobody are answered alike, be it for a dry run or with any tag.
async fn check_hidden(app: &TestApp, token: &str, route: &str, body: &str, theirs: &Value) {
    let (method, pattern) = route.split_once(' ').unwrap();
    let method: Method = method.parse().unwrap();
    let told = async |id: &str, query: &str, header: Option<(&str, &str)>| {
        let path = format!("{}{query}", pattern.replace("{id}", id));
        let call = app.call(method.clone(), &path).token(token);
        let call = match body {
            "" => call,
            body => call.header("content-type", "application/json").body(body.to_owned()),
        };
        let call = header.into_iter().fold(call, |call, (name, value)| call.header(name, value));
        let problem = call.send().await.problem(StatusCode::NOT_FOUND);
        problem["detail"].as_str().unwrap().replace(id, "N")
    };
    let id = theirs["id"].to_string();
    assert_eq!(told(&id, "", None).await, told("999999", "", None).await, "{route}: existence must not show");
    if method != Method::GET {
        told(&id, "?dry_run=true", None).await;
        told(&id, "", Some(("if-match", "*"))).await;
        told(&id, "", Some(("if-match", "\"00000000000000000000000000000000\""))).await;
    }
}
