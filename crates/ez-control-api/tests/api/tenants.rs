//! Masters among each other.

use http::StatusCode;
use serde_json::json;

use crate::support::{INTERNAL_TOKEN, TestApp, usage_record};

pub(crate) async fn masters_see_nothing_of_each_other(app: TestApp) {
    let (first_id, first) = app.master("first").await;
    let (second_id, second) = app.master("second").await;
    let of_first = app.post(&first, "/v1/tokens", json!({"name": "secret plan"})).await.created();
    let of_second = app.post(&second, "/v1/tokens", json!({"name": "other"})).await.created();

    let path = format!("/v1/tokens/{}", of_first["id"]);
    let missing = "/v1/tokens/999999";
    let theirs = app.get(&second, &path).await.problem(StatusCode::NOT_FOUND);
    let nobodys = app.get(&second, missing).await.problem(StatusCode::NOT_FOUND);
    let detail = |problem: &serde_json::Value, id: &str| problem["detail"].as_str().unwrap().replace(id, "N");
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
