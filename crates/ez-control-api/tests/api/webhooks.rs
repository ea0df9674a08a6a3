//! The log webhook: set, tried, and never led inside.

use std::io;
use std::net::IpAddr;

use ez_control::webhooks::{deliver_due, watch_log};
use ez_control::{ControlConfig, Resolver};
use ez_testkit::webhook_receiver::{Reply, WebhookReceiver};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{ADMIN_TOKEN, INTERNAL_TOKEN, TestApp, config, usage_record};

const WEBHOOK: &str = "/admin/logs/webhook";

async fn put(app: &TestApp, body: Value) -> crate::support::Answer {
    app.put(ADMIN_TOKEN, WEBHOOK, body).await
}

async fn deliveries(app: &TestApp, query: &str) -> Value {
    app.get(ADMIN_TOKEN, &format!("{WEBHOOK}/deliveries{query}")).await.ok()
}

/// Names of a DNS made up for these tests.
fn resolver() -> Resolver {
    Resolver::new(async |name| {
        let addresses: &[&str] = match name.trim_end_matches('.') {
            "public.test" => &["192.88.98.1"],
            "inside.test" => &["10.0.0.7"],
            "inside-v6.test" => &["::1"],
            "mapped.test" => &["::ffff:192.168.1.1"],
            "mixed.test" => &["192.88.98.1", "172.16.0.1"],
            "metadata.test" => &["169.254.169.254"],
            "loopback.test" => &["127.0.0.1"],
            _ => return Err(io::Error::other("no such name")),
        };
        Ok(addresses.iter().map(|address| address.parse::<IpAddr>().unwrap()).collect())
    })
}

/// The same system, as a process that lets the webhook be anywhere but at metadata services.
async fn permissive(app: &TestApp) -> TestApp {
    app.beside(ControlConfig { webhook_allow_private: true, resolver: resolver(), ..config() }).await
}

async fn strict(app: &TestApp) -> TestApp {
    app.beside(ControlConfig { resolver: resolver(), ..config() }).await
}

pub(crate) async fn the_webhook_is_set_and_its_secret_is_shown_once(app: TestApp) {
    let app = strict(&app).await;
    insta::assert_json_snapshot!("webhook_at_first", app.get(ADMIN_TOKEN, WEBHOOK).await.ok());
    let first = json!({"enabled": true, "url": "https://public.test/hook", "alert_severity": "warning"});
    let dry = app.call(Method::PUT, &format!("{WEBHOOK}?dry_run=true")).token(ADMIN_TOKEN).json(&first).send().await;
    assert_eq!(dry.ok()["secret"], "whsec_***");
    let set = put(&app, first).await;
    let tag = set.header("etag").to_owned();
    let set = set.ok();
    let secret = set["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_") && secret.len() == 50, "{secret}");
    insta::assert_json_snapshot!("webhook_set", set, {".secret" => "[secret]"});

    let read = app.get(ADMIN_TOKEN, WEBHOOK).await;
    assert_eq!((read.header("etag"), read.json()["secret"].as_str()), (tag.as_str(), Some("whsec_***")));
    let changed = put(&app, json!({"threshold": 3, "alert_severity": null})).await.ok();
    assert_eq!((&changed["threshold"], &changed["alert_severity"]), (&json!(3), &Value::Null));
    assert_eq!((&changed["enabled"], &changed["secret"]), (&json!(true), &json!("whsec_***")));
    let renewed = put(&app, json!({"secret": null})).await.ok();
    assert_ne!(renewed["secret"], secret);
    assert!(renewed["secret"].as_str().unwrap().len() == 50, "{renewed}");
    let given = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    assert_eq!(put(&app, json!({"secret": given})).await.ok()["secret"], "whsec_***");
    let stored = app.dump().await;
    for secret in [given, secret, renewed["secret"].as_str().unwrap()] {
        assert!(!stored.contains(secret), "it is kept sealed, also in the audit");
    }
}

pub(crate) async fn faults_of_the_webhook_are_told_at_their_places(app: TestApp) {
    let wrong = json!({
        "url": "mailto:a@example.com", "secret": "whsec_short", "threshold": 0, "window": 3_601,
        "cooldown": 86_401, "status_code_threshold": 600,
    });
    let told = put(&app, wrong).await.faults();
    assert_eq!(told, ["/cooldown", "/secret", "/status_code_threshold", "/threshold", "/url", "/window"]);
    assert_eq!(put(&app, json!({"enabled": true})).await.faults(), ["/url"]);
    for (field, value) in [
        ("enabled", json!(null)),
        ("threshold", json!("3")),
        ("alert_severity", json!("loud")),
        ("secret", json!(7)),
        ("events", json!([])),
    ] {
        assert_eq!(put(&app, json!({field: value})).await.faults(), [format!("/{field}")]);
    }
    let problem = app.post(ADMIN_TOKEN, &format!("{WEBHOOK}/test"), Value::Null).await.problem(StatusCode::CONFLICT);
    assert!(problem["detail"].as_str().unwrap().contains("no URL"), "{problem}");
    let forged = app.get(ADMIN_TOKEN, &format!("{WEBHOOK}/deliveries?cursor=bG9n&limit=200")).await;
    assert_eq!(forged.faults(), ["/cursor"]);
    assert_eq!(app.rows("webhook_deliveries").await, 0);
}

/// URLs that lead inside, each in a way of its own, as far as anybody may set them where private addresses are allowed.
const INSIDE: &[&str] = &[
    "http://127.0.0.1/",
    "http://127.0.0.1:8081/",
    "http://127.0.0.1:22/",
    "https://127.1/",
    "http://0/",
    "http://0.0.0.0/",
    "http://2130706433/",
    "http://0x7f.0.0.1/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://127.0.0.1./",
    "http://１２７.０.０.１/",
    "http://127。0。0。1/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.0.1/",
    "http://100.64.0.1/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://[::]/",
    "http://[::1]/",
    "http://[::1]:8081/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[2002:7f00:1::]/",
    "http://[fd12:3456::1]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://localhost/",
    "http://LOCALHOST:8081/",
    "http://localhost./",
    "http://api.localhost/",
    "http://inside.test/",
    "https://inside.test:8443/",
    "http://inside-v6.test/",
    "http://mapped.test/",
    "http://mixed.test/",
    "http://loopback.test/",
];

/// URLs that are nowhere allowed.
const NOWHERE: &[&str] = &[
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.1.1/",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/",
    "http://[::ffff:169.254.169.254]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[fe80::1]/",
    "http://[fd00:ec2::254]/",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://metadata.google.internal/",
    "http://metadata.test/",
    "https://user@public.test/",
    "https://user:password@public.test/",
    "https://public.test@127.0.0.1/",
    "ftp://public.test/",
    "file:///etc/passwd",
    "gopher://public.test:70/",
    "javascript:alert(1)",
    "data:text/plain,x",
    "unix:/run/docker.sock",
    "//public.test/",
    "public.test",
    "http://",
    "http://[fe80::1%25eth0]/",
    "http://256.256.256.256/",
    "",
];

pub(crate) async fn the_webhook_leads_nowhere_inside(app: TestApp) {
    let (strict, permissive) = (strict(&app).await, permissive(&app).await);
    for url in INSIDE.iter().chain(NOWHERE) {
        assert_eq!(put(&strict, json!({"url": url})).await.faults(), ["/url"], "{url}");
    }
    for url in NOWHERE {
        assert_eq!(put(&permissive, json!({"url": url})).await.faults(), ["/url"], "{url}");
    }
    for url in ["https://public.test/hook", "http://public.test:8080/", "https://gone.test/", "http://192.88.98.1/"] {
        assert_eq!(put(&strict, json!({"url": url})).await.ok()["url"], *url);
    }

    // What was allowed once, or by another process, is not reached by one that does not allow it.
    for url in INSIDE {
        put(&permissive, json!({"url": url})).await.ok();
        let test = strict.post(ADMIN_TOKEN, &format!("{WEBHOOK}/test"), Value::Null).await.ok();
        assert_eq!((&test["ok"], &test["status"]), (&json!(false), &Value::Null), "{url}: {test}");
        assert!(test["error"].as_str().unwrap().starts_with("the URL must not point to "), "{url}: {test}");
    }
}

pub(crate) async fn a_redirect_to_the_inside_is_not_followed(app: TestApp) {
    let (app, receiver, inside) =
        (permissive(&app).await, WebhookReceiver::start().await, WebhookReceiver::start().await);
    put(&app, json!({"url": receiver.url()})).await.ok();
    for status in [301, 302, 303, 307, 308] {
        receiver.reply([Reply { header: Some(("location", inside.url())), ..Reply::status(status) }]);
        let test = app.post(ADMIN_TOKEN, &format!("{WEBHOOK}/test"), Value::Null).await.ok();
        assert_eq!((&test["ok"], &test["status"]), (&json!(false), &json!(status)), "{test}");
    }
    assert_eq!((receiver.received().len(), inside.received().len()), (5, 0));
}

pub(crate) async fn deliveries_are_told_newest_first(app: TestApp) {
    let (app, receiver) = (permissive(&app).await, WebhookReceiver::start().await);
    put(&app, json!({"url": receiver.url(), "threshold": 1, "window": 3_600})).await.ok();
    receiver.reply([Reply::status(503)]);
    let test = app.post(ADMIN_TOKEN, &format!("{WEBHOOK}/test"), Value::Null).await.ok();
    let ids = [".event_id", ".delivery_id", ".duration_ms"];
    insta::assert_json_snapshot!("webhook_test", test, {
        ".event_id" => "[id]", ".delivery_id" => "[id]", ".duration_ms" => "[time]"});
    assert!(ids.iter().all(|field| !test[&field[1..]].is_null()));

    put(&app, json!({"enabled": true})).await.ok();
    let failure = usage_record("log-1", json!({"status": 502, "error": "the upstream is away"}));
    app.post(INTERNAL_TOKEN, "/internal/logs", json!({"records": [failure]})).await.ok();
    assert_eq!(watch_log(&app.control).await.unwrap(), 1);
    assert_eq!(deliver_due(&app.control).await.unwrap(), 1);
    let listed = deliveries(&app, "").await;
    insta::assert_json_snapshot!("webhook_deliveries", listed, {
        ".items[].event_id" => "[id]", ".items[].id" => "[id]"});
    let sent = receiver.received();
    assert_eq!(listed["items"][0]["payload"], sent[1].body);
    assert_eq!(listed["items"][0]["payload_bytes"], sent[1].body.len());
    assert_eq!(listed["items"][1]["event_id"], test["event_id"]);
    assert_eq!(listed["items"][1]["id"], test["delivery_id"]);
    let record = app.get(ADMIN_TOKEN, "/admin/logs/log-1").await.ok();
    assert_eq!(sent[1].json()["data"]["sample"], record, "as the log shows it");

    let first = deliveries(&app, "?limit=1").await;
    assert_eq!(first["items"], json!([listed["items"][0]]));
    let second = deliveries(&app, &format!("?limit=1&cursor={}", first["next_cursor"].as_str().unwrap())).await;
    assert_eq!((&second["items"], &second["next_cursor"]), (&json!([listed["items"][1]]), &Value::Null));
}
