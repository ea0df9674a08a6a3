//! Who may call what.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{ADMIN_TOKEN, INTERNAL_TOKEN, METRICS_TOKEN, TestApp};

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Anyone,
    Operator,
    Master,
    Admin,
    Gateway,
}

use Who::{Admin, Anyone, Gateway, Master, Operator};

/// Every route, in the order of the route table. A route that is missing here fails the test.
const ROUTES: &[(Who, &str)] = &[
    (Anyone, "GET /status"),
    (Anyone, "GET /about"),
    (Anyone, "GET /healthz"),
    (Anyone, "GET /readyz"),
    (Anyone, "GET /openapi.json"),
    (Anyone, "GET /docs"),
    (Operator, "GET /metrics"),
    (Anyone, "POST /auth/login"),
    (Master, "GET /v1/self"),
    (Master, "GET /v1/tokens"),
    (Master, "POST /v1/tokens"),
    (Master, "GET /v1/tokens/{id}"),
    (Master, "PUT /v1/tokens/{id}"),
    (Master, "DELETE /v1/tokens/{id}"),
    (Master, "POST /v1/tokens/{id}/rotate"),
    (Master, "GET /v1/logs"),
    (Master, "GET /v1/logs/stats"),
    (Master, "GET /v1/realtime"),
    (Admin, "GET /admin/masters"),
    (Admin, "POST /admin/masters"),
    (Admin, "GET /admin/masters/{id}"),
    (Admin, "PUT /admin/masters/{id}"),
    (Admin, "DELETE /admin/masters/{id}"),
    (Admin, "GET /admin/masters/{id}/realtime"),
    (Admin, "POST /admin/masters/{id}/revoke-keys"),
    (Admin, "POST /admin/masters/{id}/rotate-key"),
    (Admin, "GET /admin/masters/{id}/access"),
    (Admin, "PUT /admin/masters/{id}/access"),
    (Admin, "GET /admin/masters/{id}/keys"),
    (Admin, "POST /admin/masters/{id}/keys"),
    (Admin, "GET /admin/keys"),
    (Admin, "GET /admin/keys/{id}"),
    (Admin, "PUT /admin/keys/{id}"),
    (Admin, "DELETE /admin/keys/{id}"),
    (Admin, "POST /admin/keys/{id}/rotate"),
    (Admin, "GET /admin/keys/{id}/access"),
    (Admin, "PUT /admin/keys/{id}/access"),
    (Admin, "GET /admin/namespaces"),
    (Admin, "POST /admin/namespaces"),
    (Admin, "GET /admin/namespaces/{id}"),
    (Admin, "PUT /admin/namespaces/{id}"),
    (Admin, "DELETE /admin/namespaces/{id}"),
    (Admin, "GET /admin/provider-groups"),
    (Admin, "POST /admin/provider-groups"),
    (Admin, "GET /admin/provider-groups/{id}"),
    (Admin, "PUT /admin/provider-groups/{id}"),
    (Admin, "DELETE /admin/provider-groups/{id}"),
    (Admin, "GET /admin/api-keys"),
    (Admin, "POST /admin/api-keys"),
    (Admin, "GET /admin/api-keys/{id}"),
    (Admin, "PUT /admin/api-keys/{id}"),
    (Admin, "DELETE /admin/api-keys/{id}"),
    (Admin, "POST /admin/api-keys/batch"),
    (Admin, "POST /admin/api-keys/batch-status"),
    (Admin, "POST /admin/api-keys/{id}/test"),
    (Admin, "GET /admin/api-keys/stats/summary"),
    (Admin, "POST /admin/providers/preset"),
    (Admin, "POST /admin/providers/custom"),
    (Admin, "GET /admin/bindings"),
    (Admin, "POST /admin/bindings"),
    (Admin, "GET /admin/bindings/{id}"),
    (Admin, "PUT /admin/bindings/{id}"),
    (Admin, "DELETE /admin/bindings/{id}"),
    (Admin, "GET /admin/bindings/resolve"),
    (Admin, "GET /admin/models"),
    (Admin, "POST /admin/models"),
    (Admin, "GET /admin/models/catalogue"),
    (Admin, "POST /admin/models/catalogue"),
    (Admin, "DELETE /admin/models/catalogue"),
    (Admin, "GET /admin/models/catalogue/models"),
    (Admin, "GET /admin/models/{id}"),
    (Admin, "PUT /admin/models/{id}"),
    (Admin, "DELETE /admin/models/{id}"),
    (Admin, "GET /admin/features"),
    (Admin, "PUT /admin/features"),
    (Admin, "GET /admin/logs"),
    (Admin, "DELETE /admin/logs"),
    (Admin, "GET /admin/logs/{id}"),
    (Admin, "GET /admin/logs/stats"),
    (Admin, "GET /admin/dashboard/summary"),
    (Admin, "GET /admin/logs/{id}/body"),
    (Admin, "GET /admin/logs/webhook"),
    (Admin, "PUT /admin/logs/webhook"),
    (Admin, "POST /admin/logs/webhook/test"),
    (Admin, "GET /admin/logs/webhook/deliveries"),
    (Admin, "GET /admin/alerts"),
    (Admin, "POST /admin/alerts"),
    (Admin, "GET /admin/alerts/stats"),
    (Admin, "GET /admin/alerts/thresholds"),
    (Admin, "PUT /admin/alerts/thresholds"),
    (Admin, "GET /admin/alerts/{id}"),
    (Admin, "POST /admin/alerts/{id}/ack"),
    (Admin, "POST /admin/alerts/{id}/resolve"),
    (Admin, "POST /admin/alerts/{id}/dismiss"),
    (Admin, "GET /admin/realtime"),
    (Admin, "GET /admin/sync/status"),
    (Admin, "POST /admin/sync/snapshot"),
    (Admin, "GET /admin/jobs"),
    (Admin, "POST /admin/jobs/{name}/run"),
    (Admin, "GET /admin/audit"),
    (Gateway, "POST /internal/logs"),
    (Gateway, "POST /internal/heartbeat"),
    (Gateway, "POST /internal/api-keys/report"),
    (Gateway, "POST /internal/apikey-stats/flush"),
    (Gateway, "POST /internal/stats/flush"),
    (Gateway, "POST /internal/alerts/report"),
];

pub(crate) async fn each_route_answers_those_who_may_call_it_and_nobody_else(app: TestApp) {
    let document = app.call(Method::GET, "/openapi.json").send().await.ok();
    let documented = operations(&document);
    let listed: BTreeSet<String> = ROUTES.iter().map(|(_, route)| (*route).to_owned()).collect();
    assert_eq!(documented, listed, "each route needs a row in this table");

    let (_, master_key) = app.master("acme").await;
    let callers: &[(&str, Option<&str>)] = &[
        ("nobody", None),
        ("stranger", Some("not-a-token-of-anyone")),
        ("master", Some(&master_key)),
        ("admin", Some(ADMIN_TOKEN)),
        ("gateway", Some(INTERNAL_TOKEN)),
    ];
    for (who, route) in ROUTES {
        check_documented_security(&document, *who, route);
        for (caller, token) in callers {
            let status = call(&app, route, *token).await;
            let expected = refusal(*who, caller);
            match expected {
                Some(refused) => assert_eq!(status, refused, "{route} as {caller}"),
                None => assert!(
                    !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) && !status.is_server_error(),
                    "{route} as {caller}: {status}"
                ),
            }
        }
    }
}

/// What a caller is refused with, where it is.
fn refusal(who: Who, caller: &str) -> Option<StatusCode> {
    match (who, caller) {
        (Anyone, _) | (Master, "master") | (Admin | Operator, "admin") | (Gateway, "gateway") => None,
        (Master, "admin") | (Admin | Operator, "master") => Some(StatusCode::FORBIDDEN),
        _ => Some(StatusCode::UNAUTHORIZED),
    }
}

/// Calls a route with ids that name nothing and an empty body, so that nothing changes.
async fn call(app: &TestApp, route: &str, token: Option<&str>) -> StatusCode {
    let (method, path) = route.split_once(' ').unwrap();
    let method: Method = method.parse().unwrap();
    let path = path.replace("{id}", "999999").replace("{name}", "nothing");
    let mut call = app.call(method.clone(), &path);
    if matches!(method, Method::POST | Method::PUT) && path != "/v1/tokens" {
        call = call.json(&json!({}));
    }
    if let Some(token) = token {
        call = call.token(token);
    }
    let answer = call.send().await;
    if answer.status == StatusCode::UNAUTHORIZED {
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"ez-api\"", "{route}");
    }
    answer.status
}

fn operations(document: &Value) -> BTreeSet<String> {
    let mut operations = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let route = format!("{} {path}", method.to_uppercase());
            for text in ["summary", "operationId"] {
                assert!(operation[text].as_str().is_some_and(|text| !text.is_empty()), "{route} has no {text}");
            }
            assert_eq!(operation["tags"].as_array().unwrap().len(), 1, "{route}");
            assert!(operation["responses"].get("500").is_some(), "{route}");
            operations.insert(route);
        }
    }
    operations
}

fn check_documented_security(document: &Value, who: Who, route: &str) {
    let (method, path) = route.split_once(' ').unwrap();
    let security = &document["paths"][path][method.to_lowercase()]["security"];
    let expected = match who {
        Anyone => json!([]),
        Operator => json!([{"metrics": []}, {"admin": []}]),
        Master => json!([{"master": []}]),
        Admin => json!([{"admin": []}]),
        Gateway => json!([{"internal": []}]),
    };
    assert_eq!(security, &expected, "{route}");
}

pub(crate) async fn sessions_stand_for_the_secret_that_bought_them(app: TestApp) {
    let (id, master_key) = app.master("acme").await;
    let admin = login(&app, ADMIN_TOKEN).await;
    let master = login(&app, &master_key).await;
    insta::assert_json_snapshot!("session_of_an_admin", admin, {".access_token" => "[jwt]"});
    assert_eq!(master["role"], "master");
    let (admin, master) = (token_of(&admin), token_of(&master));

    app.get(&admin, "/admin/masters").await.ok();
    app.get(&admin, "/v1/self").await.problem(StatusCode::FORBIDDEN);
    assert_eq!(app.get(&master, "/v1/self").await.ok()["id"], id);
    app.get(&master, "/admin/masters").await.problem(StatusCode::FORBIDDEN);

    app.post(ADMIN_TOKEN, &format!("/admin/masters/{id}/revoke-keys"), json!({})).await.ok();
    app.get(&master, "/v1/self").await.problem(StatusCode::UNAUTHORIZED);
    app.get(&master_key, "/v1/self").await.ok();

    app.clock.advance(Duration::from_secs(3601));
    app.get(&admin, "/admin/masters").await.problem(StatusCode::UNAUTHORIZED);

    let suspended = json!({"status": "suspended"});
    app.put(ADMIN_TOKEN, &format!("/admin/masters/{id}"), suspended).await.ok();
    app.get(&master_key, "/v1/self").await.problem(StatusCode::UNAUTHORIZED);
    for scheme in ["Basic", "bearer-ish", ""] {
        let header = format!("{scheme} {ADMIN_TOKEN}");
        let call = app.call(Method::GET, "/admin/masters").header("authorization", &header);
        call.send().await.problem(StatusCode::UNAUTHORIZED);
    }
}

pub(crate) async fn failed_sign_ins_are_limited_by_address(app: TestApp) {
    let client = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 9), 999));
    let attempt = |client: SocketAddr| {
        app.call(Method::POST, "/auth/login").json(&json!({"token": "ez-mk-guess"})).from(client).send()
    };
    for _ in 0..10 {
        attempt(client).await.problem(StatusCode::UNAUTHORIZED);
    }
    let limited = attempt(client).await.expect(StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = limited.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(limited.problem(StatusCode::TOO_MANY_REQUESTS)["code"], "too_many_requests");
    let elsewhere = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 10), 999));
    attempt(elsewhere).await.problem(StatusCode::UNAUTHORIZED);
}

pub(crate) async fn metrics_open_to_their_token_and_to_the_admin(app: TestApp) {
    for token in [METRICS_TOKEN, ADMIN_TOKEN] {
        let answer = app.get(token, "/metrics").await.expect(StatusCode::OK);
        assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
    }
    app.get(INTERNAL_TOKEN, "/metrics").await.problem(StatusCode::UNAUTHORIZED);
}

async fn login(app: &TestApp, token: &str) -> Value {
    app.call(Method::POST, "/auth/login").json(&json!({"token": token})).send().await.ok()
}

fn token_of(session: &Value) -> String {
    session["access_token"].as_str().unwrap().to_owned()
}
