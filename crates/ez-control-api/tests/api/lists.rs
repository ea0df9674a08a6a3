//! Pages, and cursors.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{ADMIN_TOKEN, INTERNAL_TOKEN, TestApp, usage_record};

pub(crate) async fn pages_search_sort_and_filters_find_what_they_should(app: TestApp) {
    for (name, status) in [("delta", "active"), ("alpha", "suspended"), ("100%", "active"), ("charlie", "active")] {
        app.post(ADMIN_TOKEN, "/admin/masters", json!({"name": name, "status": status})).await.created();
    }
    let found = async |query: &str| {
        let page = app.get(ADMIN_TOKEN, &format!("/admin/masters?{query}")).await.ok();
        let names = page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>(), page["total"].as_u64().unwrap())
    };
    let is = |names: &[&str], total: u64| (names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), total);

    assert_eq!(found("").await, is(&["delta", "alpha", "100%", "charlie"], 4));
    assert_eq!(found("sort=name&limit=2").await, is(&["100%", "alpha"], 4));
    assert_eq!(found("sort=name&limit=2&page=2").await, is(&["charlie", "delta"], 4));
    assert_eq!(found("sort=-name&limit=1").await, is(&["delta"], 4));
    assert_eq!(found("page=9").await, is(&[], 4));
    assert_eq!(found("search=LT").await, is(&["delta"], 1));
    assert_eq!(found("search=%25").await, is(&["100%"], 1));
    assert_eq!(found("search=").await, is(&["delta", "alpha", "100%", "charlie"], 4));
    assert_eq!(found("status=suspended").await, is(&["alpha"], 1));
    assert_eq!(found("status=active&search=a&sort=-id").await, is(&["charlie", "delta"], 2));

    let page = app.get(ADMIN_TOKEN, "/admin/masters?page=2&limit=3").await.ok();
    assert_eq!((page["page"].as_u64(), page["limit"].as_u64()), (Some(2), Some(3)));
    assert_eq!(app.get(ADMIN_TOKEN, "/admin/masters").await.ok()["limit"], 20);

    let first = app.provider_group("first").await;
    let second = app.provider_group("second").await;
    for (group, model) in [(first, "gpt-4o"), (second, "gpt-4o"), (second, "gpt-4o-mini")] {
        let binding = json!({"namespace": "default", "public_model": model, "group_id": group});
        app.post(ADMIN_TOKEN, "/admin/bindings", binding).await.created();
    }
    for (query, total) in [
        ("namespace=default", 3),
        ("namespace=other", 0),
        ("public_model=gpt-4o", 2),
        (&*format!("group_id={second}&public_model=gpt-4o"), 1),
        ("search=mini", 1),
    ] {
        let bindings = app.get(ADMIN_TOKEN, &format!("/admin/bindings?{query}")).await.ok();
        assert_eq!(bindings["total"], total, "{query}");
    }
    let acme = json!({"name": "acme", "group": "gold", "namespaces": ["team-a"], "default_namespace": "team-a"});
    app.post(ADMIN_TOKEN, "/admin/namespaces", json!({"name": "team-a", "status": "suspended"})).await.created();
    let acme = app.post(ADMIN_TOKEN, "/admin/masters", acme).await.created();
    app.post(ADMIN_TOKEN, &format!("/admin/masters/{}/keys", acme["id"]), json!({"name": "ci"})).await.created();
    let labelled = json!({"name": "labelled", "type": "openai", "route_group": "eu"});
    app.post(ADMIN_TOKEN, "/admin/provider-groups", labelled).await.created();
    for (path, total) in [
        ("masters?group=gold", 1),
        ("masters?group=g_ld", 0),
        ("masters?namespace=team-a", 1),
        ("masters?namespace=team", 0),
        ("masters?namespace=TEAM-A", 0),
        ("masters?namespace=default&status=active", 3),
        ("keys?group=gold&status=active", 1),
        ("keys?group=default", 0),
        ("namespaces?status=suspended", 1),
        ("provider-groups?type=azure", 0),
        ("provider-groups?route_group=eu&type=openai", 1),
        ("provider-groups?route_group=e_", 0),
        ("bindings?status=suspended", 0),
        ("bindings?status=active", 3),
    ] {
        let found = app.get(ADMIN_TOKEN, &format!("/admin/{path}")).await.ok();
        assert_eq!(found["total"], total, "{path}");
    }
    let own = app.get(ADMIN_TOKEN, &format!("/admin/masters/{}/keys?group=gold", acme["id"])).await.ok();
    assert_eq!(own["total"], 1);
}

pub(crate) async fn logs_and_audit_are_read_through_cursors(app: TestApp) {
    let records: Vec<Value> = (0..5)
        .map(|n| {
            let status = if n == 3 { 429 } else { 200 };
            usage_record(
                &format!("log-{n}"),
                json!({"status": status, "created_at": format!("2026-01-01T00:00:0{n}Z")}),
            )
        })
        .collect();
    app.post(INTERNAL_TOKEN, "/internal/logs", json!({"records": records})).await.ok();

    assert_eq!(walk(&app, "/admin/logs?limit=2").await, ["log-4", "log-3", "log-2", "log-1", "log-0"]);
    assert_eq!(walk(&app, "/admin/logs?status=4xx").await, ["log-3"]);
    assert_eq!(walk(&app, "/admin/logs?status=200&limit=3").await, ["log-4", "log-2", "log-1", "log-0"]);
    assert_eq!(walk(&app, "/admin/logs?since=2026-01-01T00:00:01Z&until=1767225603").await, ["log-2", "log-1"]);
    assert_eq!(walk(&app, "/admin/logs?model=gpt-4o&key_id=5&limit=200").await.len(), 5);
    assert_eq!(walk(&app, "/admin/logs?master_id=99").await, [""; 0]);

    let record = app.get(ADMIN_TOKEN, "/admin/logs/log-3").await.ok();
    insta::assert_json_snapshot!("log_record", record);
    app.get(ADMIN_TOKEN, "/admin/logs/log-9").await.problem(StatusCode::NOT_FOUND);

    for name in ["a", "b", "c"] {
        app.post(ADMIN_TOKEN, "/admin/namespaces", json!({"name": name})).await.created();
    }
    let entries = walk_field(&app, "/admin/audit?limit=1", |entry| entry["after"]["name"].to_string()).await;
    assert_eq!(entries, ["\"c\"", "\"b\"", "\"a\""]);
    let entry = app.get(ADMIN_TOKEN, "/admin/audit?limit=1").await.ok();
    insta::assert_json_snapshot!("audit_entry", entry, {
        ".next_cursor" => "[cursor]", ".items[].id" => "[id]", ".items[].record_id" => "[id]",
        ".items[].after.id" => "[id]", ".items[].request_id" => "[request id]", ".items[].client_ip" => "[address]",
    });

    // A cursor of one list is none of another.
    let log_cursor = app.get(ADMIN_TOKEN, "/admin/logs?limit=1").await.ok()["next_cursor"].as_str().unwrap().to_owned();
    let refused = app.get(ADMIN_TOKEN, &format!("/admin/audit?cursor={log_cursor}")).await;
    assert_eq!(refused.faults(), ["/cursor"]);
}

/// The ids on all stretches.
async fn walk(app: &TestApp, path: &str) -> Vec<String> {
    walk_field(app, path, |item| item["id"].as_str().unwrap().to_owned()).await
}

async fn walk_field(app: &TestApp, path: &str, field: impl Fn(&Value) -> String) -> Vec<String> {
    let mut found = Vec::new();
    let mut next = path.to_owned();
    loop {
        let stretch = app.get(ADMIN_TOKEN, &next).await.ok();
        found.extend(stretch["items"].as_array().unwrap().iter().map(&field));
        let Some(cursor) = stretch["next_cursor"].as_str() else { return found };
        let separator = if path.contains('?') { '&' } else { '?' };
        next = format!("{path}{separator}cursor={cursor}");
    }
}
