//! Request bodies of calls.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{ADMIN_TOKEN, INTERNAL_TOKEN, TestApp, usage_record};

pub(crate) async fn a_body_is_read_by_admins_while_it_is_there(app: TestApp) {
    let (_, master_key) = app.master("acme").await;
    app.put(ADMIN_TOKEN, "/admin/features", json!({"log_request_body_enabled": true})).await.ok();
    let body = json!({"content": "{\"model\":\"m\"}", "encoding": "text", "bytes": 99, "truncated": true});
    let records = json!({"records": [
        usage_record("log-1", json!({"request_body": body})),
        usage_record("log-2", json!({})),
    ]});
    app.post(INTERNAL_TOKEN, "/internal/logs", records).await.ok();

    insta::assert_json_snapshot!("log_body", app.get(ADMIN_TOKEN, "/admin/logs/log-1/body").await.ok());
    app.get(&master_key, "/admin/logs/log-1/body").await.problem(StatusCode::FORBIDDEN);
    let missing = async |path: &str| {
        let problem = app.get(ADMIN_TOKEN, path).await.problem(StatusCode::NOT_FOUND);
        problem["detail"].as_str().unwrap().to_owned()
    };
    assert!(missing("/admin/logs/log-2/body").await.contains("`log_request_body_enabled` is on"));
    assert_eq!(missing("/admin/logs/log-3/body").await, "log record log-3 does not exist");
    // The record itself stays as it is.
    assert_eq!(app.get(ADMIN_TOKEN, "/admin/logs/log-1").await.ok().get("request_body"), None::<&Value>);
    let newest = &app.get(ADMIN_TOKEN, "/admin/audit").await.ok()["items"][0];
    assert_eq!((&newest["action"], &newest["record_kind"]), (&json!("read_body"), &json!("log")));
}
