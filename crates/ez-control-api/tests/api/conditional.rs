//! What every write takes besides its own parameters: tags of the record that it is meant for, dry runs, names for
//! requests.

use std::time::Duration;

use ez_contract::snapshot::{SnapshotChange, SnapshotKey};
use ez_control::publisher;
use ez_state::{Publication, Scope};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{ADMIN_TOKEN, Answer, TestApp, usage_record};

/// How a write route of the document is tried.
struct Try {
    /// As the document has it.
    route: &'static str,
    /// What the path is about.
    about: About,
    /// What is sent.
    body: fn(&World) -> Value,
}

/// The record that is in a path, made anew for each try.
#[derive(Debug, Clone, Copy)]
enum About {
    Nothing,
    Master,
    Key,
    OwnKey,
    Namespace,
    ProviderGroup,
    ApiKey,
    Binding,
    Model,
    Features,
    Catalogue,
    Webhook,
    Alert,
    Thresholds,
}

/// What tries refer to.
struct World {
    master_key: String,
    group_id: i64,
    api_key_id: i64,
    /// Tells tries apart where names must differ.
    turn: u32,
}

/// Every write route. One that is missing here fails the test.
const TRIES: &[Try] = &[
    Try { route: "POST /v1/tokens", about: About::Nothing, body: |_| json!({"name": "laptop"}) },
    Try { route: "PUT /v1/tokens/{id}", about: About::OwnKey, body: |_| json!({"name": "desk"}) },
    Try { route: "DELETE /v1/tokens/{id}", about: About::OwnKey, body: |_| Value::Null },
    Try { route: "POST /v1/tokens/{id}/rotate", about: About::OwnKey, body: |_| json!({}) },
    Try { route: "POST /admin/masters", about: About::Nothing, body: |world| json!({"name": world.name()}) },
    Try { route: "PUT /admin/masters/{id}", about: About::Master, body: |_| json!({"group": "gold"}) },
    Try { route: "DELETE /admin/masters/{id}", about: About::Master, body: |_| Value::Null },
    Try { route: "POST /admin/masters/{id}/revoke-keys", about: About::Master, body: |_| json!({}) },
    Try { route: "POST /admin/masters/{id}/rotate-key", about: About::Master, body: |_| json!({}) },
    Try {
        route: "PUT /admin/masters/{id}/access",
        about: About::Master,
        body: |_| json!({"namespaces": ["default"], "propagate_to_keys": true}),
    },
    Try { route: "POST /admin/masters/{id}/keys", about: About::Master, body: |_| json!({"name": "ci"}) },
    Try { route: "PUT /admin/keys/{id}", about: About::Key, body: |_| json!({"scopes": ["chat:*"]}) },
    Try { route: "DELETE /admin/keys/{id}", about: About::Key, body: |_| Value::Null },
    Try { route: "POST /admin/keys/{id}/rotate", about: About::Key, body: |_| json!({"overlap_seconds": 60}) },
    Try { route: "PUT /admin/keys/{id}/access", about: About::Key, body: |_| json!({"default_namespace": "default"}) },
    Try { route: "POST /admin/namespaces", about: About::Nothing, body: |world| json!({"name": world.name()}) },
    Try { route: "PUT /admin/namespaces/{id}", about: About::Namespace, body: |_| json!({"description": "x"}) },
    Try { route: "DELETE /admin/namespaces/{id}", about: About::Namespace, body: |_| Value::Null },
    Try {
        route: "POST /admin/provider-groups",
        about: About::Nothing,
        body: |world| json!({"name": world.name(), "type": "openai"}),
    },
    Try { route: "PUT /admin/provider-groups/{id}", about: About::ProviderGroup, body: |_| json!({"models": ["m"]}) },
    Try { route: "DELETE /admin/provider-groups/{id}", about: About::ProviderGroup, body: |_| Value::Null },
    Try {
        route: "POST /admin/api-keys",
        about: About::Nothing,
        body: |world| json!({"group_id": world.group_id, "api_key": "sk-upstream-secret"}),
    },
    Try { route: "PUT /admin/api-keys/{id}", about: About::ApiKey, body: |_| json!({"weight": 9}) },
    Try { route: "DELETE /admin/api-keys/{id}", about: About::ApiKey, body: |_| Value::Null },
    Try {
        route: "POST /admin/api-keys/batch",
        about: About::Nothing,
        body: |world| json!({"group_id": world.group_id, "secrets": format!("sk-upstream-secret-{}", world.turn)}),
    },
    Try {
        route: "POST /admin/api-keys/batch-status",
        about: About::Nothing,
        body: |world| json!({"ids": [world.api_key_id], "status": "suspended"}),
    },
    Try {
        route: "POST /admin/providers/preset",
        about: About::Nothing,
        body: |world| json!({"type": "openai", "name": world.name(), "secret": "sk-upstream-secret", "create_bindings": true}),
    },
    Try {
        route: "POST /admin/providers/custom",
        about: About::Nothing,
        body: |world| {
            json!({"name": world.name(), "base_url": "http://127.0.0.1:9/v1", "secret": "sk-upstream-secret",
                "models": ["m"]})
        },
    },
    Try {
        route: "POST /admin/bindings",
        about: About::Nothing,
        body: |world| json!({"namespace": "default", "public_model": world.name(), "group_id": world.group_id}),
    },
    Try { route: "PUT /admin/bindings/{id}", about: About::Binding, body: |_| json!({"priority": 7}) },
    Try { route: "DELETE /admin/bindings/{id}", about: About::Binding, body: |_| Value::Null },
    Try { route: "POST /admin/models", about: About::Nothing, body: |world| json!({"name": world.name()}) },
    Try { route: "PUT /admin/models/{id}", about: About::Model, body: |_| json!({"prices": {"input": 2.5}}) },
    Try { route: "DELETE /admin/models/{id}", about: About::Model, body: |_| Value::Null },
    Try { route: "POST /admin/models/catalogue", about: About::Nothing, body: |_| catalogue() },
    Try { route: "DELETE /admin/models/catalogue", about: About::Catalogue, body: |_| Value::Null },
    Try {
        route: "PUT /admin/features",
        about: About::Features,
        body: |world| json!({"log_request_body_enabled": world.turn.is_multiple_of(2)}),
    },
    Try {
        route: "PUT /admin/logs/webhook",
        about: About::Webhook,
        body: |world| json!({"threshold": 10 + world.turn}),
    },
    Try { route: "POST /admin/alerts", about: About::Nothing, body: World::alert },
    Try { route: "POST /admin/alerts/{id}/ack", about: About::Alert, body: |_| Value::Null },
    Try { route: "POST /admin/alerts/{id}/resolve", about: About::Alert, body: |_| Value::Null },
    Try { route: "POST /admin/alerts/{id}/dismiss", about: About::Alert, body: |_| Value::Null },
    Try {
        route: "PUT /admin/alerts/thresholds",
        about: About::Thresholds,
        body: |world| json!({"global_qps": world.turn}),
    },
    Try { route: "DELETE /admin/logs", about: About::Nothing, body: |_| Value::Null },
    Try { route: "POST /admin/sync/snapshot", about: About::Nothing, body: |_| Value::Null },
];

/// Parameters without which a route refuses.
const PARAMETERS: &[(&str, &str)] = &[("DELETE /admin/logs", "?before=2025-12-31T00:00:00Z")];

/// Writes that are done once: what they are done to is final then.
const FINAL: [&str; 2] = ["POST /admin/alerts/{id}/resolve", "POST /admin/alerts/{id}/dismiss"];

/// Routes that sign in, call elsewhere or let a job run, and those of gateways, are no writes of this kind.
const OTHERS: [&str; 4] = [
    "POST /auth/login",
    "POST /admin/api-keys/{id}/test",
    "POST /admin/logs/webhook/test",
    "POST /admin/jobs/{name}/run",
];

fn catalogue() -> Value {
    json!({"source": "ours", "version": "1", "models": [{"name": "m"}]})
}

impl World {
    async fn new(app: &TestApp) -> Self {
        let (_, master_key) = app.master("of-the-tries").await;
        let group_id = app.provider_group("of-the-tries").await;
        let api_key = json!({"group_id": group_id, "api_key": "sk-upstream-secret"});
        let api_key = app.post(ADMIN_TOKEN, "/admin/api-keys", api_key).await.created();
        Self { master_key, group_id, api_key_id: api_key["id"].as_i64().unwrap(), turn: 0 }
    }

    fn name(&self) -> String {
        format!("name-{}", self.turn)
    }

    fn alert(&self) -> Value {
        json!({"type": "system", "severity": "info", "title": "to be done", "fingerprint": self.name()})
    }

    /// A record for a path: its id, and where it is read.
    async fn make(&mut self, app: &TestApp, about: About) -> (String, String) {
        self.turn += 1;
        let (token, collection, body) = match about {
            About::Nothing => return (String::new(), String::new()),
            About::Features => return (String::new(), "/admin/features".to_owned()),
            About::Webhook => return (String::new(), "/admin/logs/webhook".to_owned()),
            About::Catalogue => {
                app.post(ADMIN_TOKEN, "/admin/models/catalogue", catalogue()).await.ok();
                return (String::new(), "/admin/models/catalogue".to_owned());
            }
            About::Thresholds => return (String::new(), "/admin/alerts/thresholds".to_owned()),
            About::Alert => (ADMIN_TOKEN, "/admin/alerts", self.alert()),
            About::Model => (ADMIN_TOKEN, "/admin/models", json!({"name": self.name()})),
            About::Master => (ADMIN_TOKEN, "/admin/masters", json!({"name": self.name()})),
            About::OwnKey => (&*self.master_key, "/v1/tokens", json!({})),
            About::Key => {
                let own = app.post(&self.master_key, "/v1/tokens", json!({})).await.created();
                return (own["id"].to_string(), format!("/admin/keys/{}", own["id"]));
            }
            About::Namespace => (ADMIN_TOKEN, "/admin/namespaces", json!({"name": self.name()})),
            About::ProviderGroup => {
                (ADMIN_TOKEN, "/admin/provider-groups", json!({"name": self.name(), "type": "openai"}))
            }
            About::ApiKey => {
                (ADMIN_TOKEN, "/admin/api-keys", json!({"group_id": self.group_id, "api_key": "sk-upstream-secret"}))
            }
            About::Binding => {
                let model = json!({"namespace": "default", "public_model": self.name(), "group_id": self.group_id});
                (ADMIN_TOKEN, "/admin/bindings", model)
            }
        };
        let made = app.post(token, collection, body).await.created();
        (made["id"].to_string(), format!("{collection}/{}", made["id"]))
    }

    fn caller(&self, route: &str) -> &str {
        if route.contains(" /v1/") { &self.master_key } else { ADMIN_TOKEN }
    }
}

/// One try of a route, with what goes along.
struct Attempt<'a> {
    app: &'a TestApp,
    method: Method,
    path: String,
    token: String,
    body: Value,
}

impl Attempt<'_> {
    async fn send(&self, query: &str, header: Option<(&str, &str)>) -> Answer {
        let query = if self.path.contains('?') { query.replace('?', "&") } else { query.to_owned() };
        let call = self.app.call(self.method.clone(), &format!("{}{query}", self.path)).token(&self.token);
        let call = if self.method == Method::DELETE { call } else { call.json(&self.body) };
        match header {
            Some((name, value)) => call.header(name, value).send().await,
            None => call.send().await,
        }
    }
}

pub(crate) async fn every_write_route_keeps_the_conventions(app: TestApp) {
    publisher::reconcile(&app.control).await.unwrap();
    let document = app.call(Method::GET, "/openapi.json").send().await.ok();
    let mut world = World::new(&app).await;
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let route = format!("{} {path}", method.to_uppercase());
            if method == "get" || path.starts_with("/internal/") || OTHERS.contains(&route.as_str()) {
                continue;
            }
            let how = TRIES.iter().find(|how| how.route == route);
            let how = how.unwrap_or_else(|| panic!("{route} needs a row in this table"));
            check_dry_run(&app, &mut world, how, operation).await;
            if takes(operation, "If-Match") {
                check_tags(&app, &mut world, how).await;
            }
            let is_creation = operation["responses"].get("201").is_some();
            assert_eq!(takes(operation, "Idempotency-Key"), is_creation, "{route}");
            if is_creation {
                check_replay(&app, &mut world, how).await;
            }
            let is_on_record = path.ends_with("}") && method != "post";
            assert!(!is_on_record || takes(operation, "If-Match"), "{route} takes no If-Match");
            tried += 1;
        }
    }
    assert_eq!(tried, TRIES.len(), "a row of this table is no route any more");
}

async fn check_dry_run(app: &TestApp, world: &mut World, how: &Try, operation: &Value) {
    assert!(takes(operation, "dry_run"), "{}", how.route);
    let attempt = attempt(app, world, how).await;
    let before = app.dump().await;
    let dry = attempt.send("?dry_run=true", None).await;
    assert_eq!(app.dump().await, before, "a dry run of {} left something", how.route);
    let wet = attempt.send("?dry_run=false", None).await;
    assert!(wet.status.is_success(), "{}: {}", how.route, wet.text());
    assert_eq!(dry.status, wet.status, "{}: {}", how.route, dry.text());
    assert_eq!((dry.header("x-dry-run"), wet.header("x-dry-run")), ("true", ""), "{}", how.route);
    assert_eq!(dry.header("location"), "", "{}", how.route);
    if wet.status == StatusCode::NO_CONTENT {
        return assert!(dry.bytes.is_empty());
    }
    let (mut dry, mut wet) = (dry.json(), wet.json());
    for secret in ["master_key", "token"] {
        assert_eq!(dry.get(secret), None, "{}", how.route);
        wet.as_object_mut().unwrap().remove(secret);
    }
    for answer in [&mut dry, &mut wet] {
        take_out(answer, &["id", "prefix", "version"]);
    }
    assert_eq!(dry, wet, "{}", how.route);
}

/// Takes out what differs from record to record, and in records of an answer about several also what they refer to.
fn take_out(answer: &mut Value, names: &[&str]) {
    match answer {
        Value::Object(fields) => {
            fields.retain(|name, _| !names.contains(&name.as_str()));
            fields.values_mut().for_each(|value| take_out(value, &[names, &["group_id"]].concat()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| take_out(item, names)),
        _ => {}
    }
}

async fn check_tags(app: &TestApp, world: &mut World, how: &Try) {
    for stale in ["\"00000000000000000000000000000000\"", "W/\"a\", \"b\""] {
        let attempt = attempt(app, world, how).await;
        let before = app.dump().await;
        let problem = attempt.send("", Some(("If-Match", stale))).await.problem(StatusCode::PRECONDITION_FAILED);
        assert_eq!(problem["code"], "stale", "{}", how.route);
        assert_eq!(app.dump().await, before, "{}", how.route);
    }
    let (fresh, read) = attempt_and_record(app, world, how).await;
    let tag = read.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.len() == 34, "{}: {tag}", how.route);
    let weak = format!("W/{tag}");
    fresh.send("", Some(("If-Match", &weak))).await.problem(StatusCode::PRECONDITION_FAILED);
    let dry = fresh.send("?dry_run=true", Some(("If-Match", &tag))).await;
    assert!(dry.status.is_success(), "{}: {}", how.route, dry.text());
    app.clock.advance(Duration::from_secs(1));
    let changed = fresh.send("", Some(("If-Match", &format!("\"other\", {tag}")))).await;
    assert!(changed.status.is_success(), "{}: {}", how.route, changed.text());
    if changed.status == StatusCode::NO_CONTENT {
        fresh.send("", Some(("If-Match", &tag))).await.problem(StatusCode::NOT_FOUND);
    } else {
        assert_ne!(changed.header("etag"), tag, "{}", how.route);
        fresh.send("", Some(("If-Match", &tag))).await.problem(StatusCode::PRECONDITION_FAILED);
        let now = changed.header("etag").to_owned();
        let again = fresh.send("", Some(("If-Match", &now))).await.status;
        let is_final = FINAL.contains(&how.route);
        assert!(if is_final { again == StatusCode::CONFLICT } else { again.is_success() }, "{}: {again}", how.route);
    }
    let any = attempt(app, world, how).await;
    assert!(any.send("", Some(("If-Match", "*"))).await.status.is_success(), "{}", how.route);
}

async fn check_replay(app: &TestApp, world: &mut World, how: &Try) {
    let attempt = attempt(app, world, how).await;
    let name = Some(("Idempotency-Key", "try-1"));
    let before = app.dump().await;
    attempt.send("?dry_run=true", name).await.created();
    assert_eq!(app.dump().await, before, "{}: a dry run keeps no name", how.route);

    let first = attempt.send("", name).await;
    let after = app.dump().await;
    let again = attempt.send("", name).await;
    assert_eq!(app.dump().await, after, "{}: a replay created something", how.route);
    assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"));
    let is_one_record = first.json().get("id").is_some();
    for header in ["location", "etag", "content-type"] {
        let is_due = is_one_record || header == "content-type";
        assert_eq!(first.header(header).is_empty(), !is_due, "{} {header}", how.route);
        assert_eq!(first.header(header), again.header(header), "{} {header}", how.route);
    }
    let mut expected = first.created();
    for secret in ["master_key", "token"] {
        if let Some(Value::String(clear)) = expected.as_object_mut().unwrap().remove(secret) {
            assert!(!after.contains(&clear), "{} keeps a secret", how.route);
        }
    }
    assert!(!after.contains("sk-upstream-secret"), "{} keeps a secret", how.route);
    assert_eq!(again.created(), expected, "{}", how.route);
}

async fn attempt<'a>(app: &'a TestApp, world: &mut World, how: &Try) -> Attempt<'a> {
    attempt_and_path(app, world, how).await.0
}

async fn attempt_and_record<'a>(app: &'a TestApp, world: &mut World, how: &Try) -> (Attempt<'a>, Answer) {
    let (attempt, path) = attempt_and_path(app, world, how).await;
    let read = app.get(&attempt.token, &path).await.expect(StatusCode::OK);
    (attempt, read)
}

async fn attempt_and_path<'a>(app: &'a TestApp, world: &mut World, how: &Try) -> (Attempt<'a>, String) {
    let (id, path) = world.make(app, how.about).await;
    let (method, pattern) = how.route.split_once(' ').unwrap();
    let token = world.caller(how.route).to_owned();
    let method = method.parse().unwrap();
    let parameters = PARAMETERS.iter().find(|(route, _)| *route == how.route).map_or("", |(_, parameters)| parameters);
    let tried = format!("{}{parameters}", pattern.replace("{id}", &id));
    (Attempt { app, method, path: tried, token, body: (how.body)(world) }, path)
}

fn takes(operation: &Value, name: &str) -> bool {
    operation["parameters"].as_array().is_some_and(|all| all.iter().any(|parameter| parameter["name"] == name))
}

pub(crate) async fn what_a_route_does_not_take_is_refused(app: TestApp) {
    let (id, master_key) = app.master("acme").await;
    let path = format!("/admin/masters/{id}");
    let long = "k".repeat(129);
    for (method, token, path, header, value) in [
        (Method::POST, ADMIN_TOKEN, "/admin/masters", "if-match", "\"1\""),
        (Method::POST, &*master_key, "/v1/tokens", "if-match", "*"),
        (Method::PUT, ADMIN_TOKEN, &*path, "idempotency-key", "k"),
        (Method::DELETE, ADMIN_TOKEN, &*path, "idempotency-key", "k"),
        (Method::POST, ADMIN_TOKEN, "/admin/sync/snapshot", "if-match", "*"),
        (Method::PUT, ADMIN_TOKEN, &*path, "if-match", "1"),
        (Method::PUT, ADMIN_TOKEN, &*path, "if-match", ""),
        (Method::POST, ADMIN_TOKEN, "/admin/masters", "idempotency-key", ""),
        (Method::POST, ADMIN_TOKEN, "/admin/masters", "idempotency-key", "a b"),
        (Method::POST, ADMIN_TOKEN, "/admin/masters", "idempotency-key", &*long),
    ] {
        let call = app.call(method.clone(), path).token(token).header(header, value);
        let faults = call.json(&json!({"name": "other"})).send().await.faults();
        assert_eq!(faults, [format!("/{header}")], "{method} {path} {header}: {value}");
    }
    for (path, expected) in [
        ("/admin/masters?dry_run=1", &["/dry_run"][..]),
        ("/admin/masters?dry_run=true&dry_run=true", &["/dry_run"]),
        ("/admin/masters?dry_run=&cascade=true", &["/cascade", "/dry_run"]),
        ("/auth/login?dry_run=true", &["/dry_run"]),
    ] {
        assert_eq!(app.post(ADMIN_TOKEN, path, json!({"name": "other"})).await.faults(), expected, "{path}");
    }
    let cascade = format!("{path}?cascade=true&dry_run=maybe");
    assert_eq!(app.delete(ADMIN_TOKEN, &cascade).await.faults(), ["/dry_run"]);
    assert_eq!(app.get(ADMIN_TOKEN, &path).await.ok()["name"], "acme");
}

pub(crate) async fn a_deletion_takes_no_body(app: TestApp) {
    let (_, master_key) = app.master("acme").await;
    let document = app.call(Method::GET, "/openapi.json").send().await.ok();
    let paths = document["paths"].as_object().unwrap().iter();
    let deletions: Vec<_> = paths.filter(|(_, item)| item.get("delete").is_some()).map(|(path, _)| path).collect();
    assert!(deletions.len() >= 8, "{deletions:?}");
    let before = app.dump().await;
    for path in deletions {
        let token = if path.starts_with("/v1/") { &*master_key } else { ADMIN_TOKEN };
        // Who writes it here means it, and must not find the record gone.
        let call = app.call(Method::DELETE, &path.replace("{id}", "1")).token(token).json(&json!({"dry_run": true}));
        let problem = call.send().await.problem(StatusCode::UNPROCESSABLE_ENTITY);
        assert!(problem["detail"].as_str().unwrap().contains("takes no body"), "{path}: {problem}");
    }
    assert_eq!(app.dump().await, before);
}

pub(crate) async fn of_changes_at_once_from_one_reading_one_is_made(app: TestApp) {
    let created = app.post(ADMIN_TOKEN, "/admin/namespaces", json!({"name": "team-a"})).await;
    let (path, tag) = (created.header("location").to_owned(), created.header("etag").to_owned());
    let change = async |description: &str| {
        let call = app.call(Method::PUT, &path).token(ADMIN_TOKEN).header("if-match", &tag);
        call.json(&json!({"description": description})).send().await
    };
    let answers: [Answer; 4] = tokio::join!(change("a"), change("b"), change("c"), change("d")).into();
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == StatusCode::OK);
    assert_eq!((made.len(), refused.len()), (1, 3));
    for answer in refused {
        answer.problem(StatusCode::PRECONDITION_FAILED);
    }
    assert_eq!(app.get(ADMIN_TOKEN, &path).await.ok(), made[0].json());
}

pub(crate) async fn tags_change_with_the_record_and_not_with_its_use(app: TestApp) {
    let (id, master_key) = app.master("acme").await;
    let created = app.post(&master_key, "/v1/tokens", json!({"name": "ci"})).await;
    let tag = created.header("etag").to_owned();
    let path = created.header("location").to_owned();
    let key = created.created();
    let tag_now = async || app.get(&master_key, &path).await.expect(StatusCode::OK).header("etag").to_owned();
    assert_eq!(tag_now().await, tag);
    let admins = app.get(ADMIN_TOKEN, &format!("/admin/keys/{}", key["id"])).await.expect(StatusCode::OK);
    assert_eq!(admins.header("etag"), tag);
    let last_used_at = app.control.now();
    let usage = ez_store::child_keys::KeyUsage { requests: 1, tokens: 10, quota_tokens: 10, last_used_at };
    let tx = app.control.store().begin().await.unwrap();
    assert!(ez_store::child_keys::add_usage(&tx, key["id"].as_i64().unwrap(), &usage).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(app.get(&master_key, &path).await.ok()["request_count"], 1);
    assert_eq!(tag_now().await, tag);
    app.put(&master_key, &path, json!({"model_limits": ["m"]})).await.ok();
    assert_ne!(tag_now().await, tag);
    // A time finer than it is kept does not make the tag of the answer one that nobody finds again.
    let fine = json!({"expires_at": "2030-01-01T00:00:00.123456789Z"});
    let changed = app.put(&master_key, &path, fine).await;
    let answered = changed.header("etag").to_owned();
    assert_eq!(changed.ok()["expires_at"], "2030-01-01T00:00:00.123456Z");
    assert_eq!(tag_now().await, answered);

    let own = app.get(&master_key, "/v1/self").await.expect(StatusCode::OK);
    let master = app.get(ADMIN_TOKEN, &format!("/admin/masters/{id}")).await.expect(StatusCode::OK);
    assert_eq!(own.header("etag"), master.header("etag"));
    let log = json!({"records": [usage_record("log-1", json!({}))]});
    app.post(crate::support::INTERNAL_TOKEN, "/internal/logs", log).await.ok();
    let log = app.get(ADMIN_TOKEN, "/admin/logs/log-1").await.expect(StatusCode::OK);
    assert_eq!(log.header("etag"), "", "it never changes");
}

pub(crate) async fn a_dry_run_of_the_rebuild_tells_the_drift_and_leaves_it(app: TestApp) {
    let (id, _) = app.master("acme").await;
    publisher::reconcile(&app.control).await.unwrap();
    let loss = Publication {
        changes: vec![SnapshotChange::Remove(SnapshotKey::Master(id))],
        scope: Scope::Changes,
        base: None,
    };
    let version = app.control.state().publish("somebody", app.control.now(), loss).await.unwrap();
    let known = app.get(ADMIN_TOKEN, "/admin/sync/status").await.ok()["last_reconcile"].clone();
    for _ in 0..2 {
        let dry = app.post(ADMIN_TOKEN, "/admin/sync/snapshot?dry_run=true", Value::Null).await;
        assert_eq!(dry.header("x-dry-run"), "true");
        let report = dry.ok();
        assert_eq!(report["repaired"], json!([{"kind": "master", "id": id.to_string(), "drift": "missing"}]));
        assert_eq!(report["version"], version);
    }
    assert_eq!(app.get(ADMIN_TOKEN, "/admin/sync/status").await.ok()["last_reconcile"], known);
    // What waits to be published is no drift.
    app.master("other").await;
    let dry = app.post(ADMIN_TOKEN, "/admin/sync/snapshot?dry_run=true", Value::Null).await.ok();
    assert_eq!(dry["repaired"].as_array().unwrap().len(), 1, "{dry}");
    let wet = app.post(ADMIN_TOKEN, "/admin/sync/snapshot", Value::Null).await.ok();
    assert_eq!(wet["repaired"].as_array().unwrap().len(), 1, "{wet}");
    let mended = app.post(ADMIN_TOKEN, "/admin/sync/snapshot?dry_run=true", Value::Null).await.ok();
    assert_eq!(mended["repaired"], json!([]));
}

/// A creation under a name.
async fn create(app: &TestApp, token: &str, path: &str, name: &str, body: &Value) -> Answer {
    app.call(Method::POST, path).token(token).header("idempotency-key", name).json(body).send().await
}

pub(crate) async fn a_repeated_creation_creates_nothing(app: TestApp) {
    let (path, acme) = ("/admin/masters", json!({"name": "acme"}));
    let first = create(&app, ADMIN_TOKEN, path, "k-1", &acme).await.created();
    let again = create(&app, ADMIN_TOKEN, path, "k-1", &acme).await.created();
    assert_eq!((&again["id"], again.get("master_key")), (&first["id"], None));
    let dry = create(&app, ADMIN_TOKEN, "/admin/masters?dry_run=true", "k-1", &acme).await;
    assert_eq!((dry.header("x-dry-run"), dry.header("idempotency-replayed")), ("true", "true"));
    let other = create(&app, ADMIN_TOKEN, path, "k-1", &json!({"name": "other"})).await;
    assert_eq!(other.faults(), ["/idempotency-key"]);
    // What failed leaves no name: it may be mended and sent again.
    create(&app, ADMIN_TOKEN, path, "k-2", &acme).await.problem(StatusCode::CONFLICT);
    assert_eq!(create(&app, ADMIN_TOKEN, path, "k-2", &json!({"name": ""})).await.faults(), ["/name"]);
    create(&app, ADMIN_TOKEN, path, "k-2", &json!({"name": "second"})).await.created();
    assert_eq!(app.get(ADMIN_TOKEN, path).await.ok()["total"], 2);
    assert!(!app.dump().await.contains(first["master_key"].as_str().unwrap()));
}

pub(crate) async fn an_answer_too_large_to_be_kept_is_refused(app: TestApp) {
    let models: Vec<String> = (0..3000).map(|place| format!("{place}{}", "é".repeat(190))).collect();
    let (path, wish) = ("/admin/provider-groups", json!({"name": "large", "type": "openai", "models": models}));
    assert_eq!(create(&app, ADMIN_TOKEN, path, "k", &wish).await.faults(), ["/idempotency-key"]);
    assert_eq!(app.rows("idempotency_keys").await, 0);
    app.post(ADMIN_TOKEN, path, wish).await.created();
}

pub(crate) async fn names_of_requests_are_their_callers_own(app: TestApp) {
    let (first_id, first) = app.master("first").await;
    let (second_id, second) = app.master("second").await;
    let wish = json!({"name": "ci"});
    let mut ids = Vec::new();
    for (token, path) in [
        (&*first, "/v1/tokens".to_owned()),
        (&*second, "/v1/tokens".to_owned()),
        (ADMIN_TOKEN, format!("/admin/masters/{first_id}/keys")),
        (ADMIN_TOKEN, format!("/admin/masters/{second_id}/keys")),
    ] {
        let answer = create(&app, token, &path, "same", &wish).await;
        assert_eq!(answer.header("idempotency-replayed"), "", "{path}");
        ids.push(answer.created()["id"].as_i64().unwrap());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

pub(crate) async fn names_of_requests_end_after_a_day(app: TestApp) {
    let (path, wish) = ("/v1/tokens", json!({"name": "ci"}));
    let (_, master_key) = app.master("acme").await;
    let first = create(&app, &master_key, path, "k", &wish).await.created();
    create(&app, &master_key, path, "other", &wish).await.created();
    app.clock.advance(Duration::from_secs(24 * 60 * 60 - 1));
    assert_eq!(create(&app, &master_key, path, "k", &wish).await.created()["id"], first["id"]);
    app.clock.advance(Duration::from_secs(1));
    let anew = create(&app, &master_key, path, "k", &json!({"name": "another body"})).await;
    assert_eq!(anew.header("idempotency-replayed"), "");
    assert_ne!(anew.created()["id"], first["id"]);
    // Names that ended go when another one is kept.
    assert_eq!(app.rows("idempotency_keys").await, 1);
}

pub(crate) async fn creations_at_once_under_one_name_make_one_record(app: TestApp) {
    let (_, master_key) = app.master("acme").await;
    for round in 0..5 {
        let name = format!("round-{round}");
        let wish = json!({"name": name});
        let (path, token) = ("/v1/tokens", &*master_key);
        let answers = tokio::join!(
            create(&app, token, path, &name, &wish),
            create(&app, token, path, &name, &wish),
            create(&app, token, path, &name, &wish),
            create(&app, token, path, &name, &wish),
        );
        let answers: [Answer; 4] = answers.into();
        let mut new = 0;
        for answer in answers {
            match answer.status {
                StatusCode::CREATED => new += u32::from(answer.header("idempotency-replayed").is_empty()),
                _ => assert!(answer.problem(StatusCode::CONFLICT)["detail"].as_str().unwrap().contains("in progress")),
            }
        }
        assert_eq!(new, 1);
        assert_eq!(app.get(token, &format!("/v1/tokens?search={name}")).await.ok()["total"], 1);
    }
}
