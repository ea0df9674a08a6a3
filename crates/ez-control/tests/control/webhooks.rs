//! The log webhook: what it is told, how often, and that it leads nowhere that it must not.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::UsageRecord;
use ez_contract::alerts::{AlertFinding, AlertSeverity, AlertType};
use ez_control::child_keys::CreateChildKey;
use ez_control::webhooks::{self, ChangeWebhook, ChangedWebhook, Webhook};
use ez_control::{
    Actor, Control, ControlConfig, ControlError, Resolver, alerts, audit, key_expiry, logs, stored_secrets,
};
use ez_store::webhook_deliveries::{self, Delivery};
use ez_store::{DeliveryStatus, RecordKind};
use ez_testkit::webhook_receiver::{Received, Reply, WebhookReceiver};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::support::{Plane, config, conflict, faults, pointers, usage_record};

/// The secret of the specification's own vector.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A control plane beside the test's, whose webhook may be at a private address.
async fn permissive(plane: &Plane) -> Control {
    with(plane, ControlConfig { webhook_allow_private: true, ..config() }).await
}

async fn with(plane: &Plane, config: ControlConfig) -> Control {
    Control::prepare(plane.parts_of_another(config).await).await.unwrap().0
}

async fn try_change(control: &Control, change: ChangeWebhook) -> Result<ChangedWebhook, ControlError> {
    let checked = webhooks::check(control, change).await?;
    let write = control.write(Actor::system()).await?;
    let changed = webhooks::update(&write, checked).await?;
    write.commit().await?;
    Ok(changed)
}

fn at(url: &str) -> ChangeWebhook {
    ChangeWebhook { url: Some(Some(url.to_owned())), ..ChangeWebhook::default() }
}

/// Switched on, of one failure a minute, with a known secret.
fn on(url: &str) -> ChangeWebhook {
    ChangeWebhook {
        enabled: Some(true),
        secret: Some(Some(SecretString::from(SECRET))),
        threshold: Some(1),
        window: Some(60),
        cooldown: Some(300),
        status_code_threshold: Some(500),
        ..at(url)
    }
}

async fn watch(control: &Control) -> u64 {
    webhooks::watch_log(control).await.unwrap()
}

async fn deliver(control: &Control) -> u64 {
    webhooks::deliver_due(control).await.unwrap()
}

async fn deliveries(control: &Control) -> Vec<Delivery> {
    webhooks::list(control, None, 200).await.unwrap().items
}

fn failed(id: &str, created_at: DateTime<Utc>) -> UsageRecord {
    UsageRecord { status: 503, error: Some("the upstream is away".to_owned()), ..usage_record(id, 1, created_at) }
}

/// Checks the signature as the specification has it, by its three headers.
fn check_signature(received: &Received) {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    let key = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
    let signed =
        format!("{}.{}.{}", received.header("webhook-id"), received.header("webhook-timestamp"), received.body);
    let signature = received.header("webhook-signature").strip_prefix("v1,").unwrap();
    aws_lc_rs::hmac::verify(&key, signed.as_bytes(), &STANDARD.decode(signature).unwrap()).unwrap();
}

pub(crate) async fn it_is_off_until_it_is_set_and_its_secret_is_shown_once(plane: Plane) {
    let control = permissive(&plane).await;
    let untouched = webhooks::get(&control).await.unwrap();
    assert_eq!(untouched, Webhook::default());
    let severity = ChangeWebhook { alert_severity: Some(Some(AlertSeverity::Warning)), ..ChangeWebhook::default() };
    let changed = try_change(&control, severity).await.unwrap();
    assert_eq!((changed.new_secret.is_none(), changed.webhook.secret), (true, None));
    let told = faults(try_change(&control, ChangeWebhook { enabled: Some(true), ..ChangeWebhook::default() }).await);
    assert_eq!(told, ["/url: is required while `enabled` is true"]);

    let changed = try_change(&control, at("http://127.0.0.1:9/hook")).await.unwrap();
    let first = changed.new_secret.unwrap();
    assert!(first.expose_secret().starts_with("whsec_"));
    assert_eq!(changed.webhook.alert_severity, Some(AlertSeverity::Warning), "what is not named stays");
    let kept = plane.database.dump().await;
    assert!(!kept.contains(first.expose_secret()) && kept.contains("enc:v1:"));
    let again = try_change(&control, at("http://127.0.0.1:9/other")).await.unwrap();
    assert!(again.new_secret.is_none());
    assert_eq!(again.webhook.secret, changed.webhook.secret);
    let renewed = ChangeWebhook { secret: Some(None), ..ChangeWebhook::default() };
    let second = try_change(&control, renewed).await.unwrap().new_secret.unwrap();
    assert_ne!(second.expose_secret(), first.expose_secret());
    let given = try_change(&control, on("http://127.0.0.1:9/hook")).await.unwrap();
    assert!(given.new_secret.is_none(), "who gave it knows it");
    let none = ChangeWebhook { url: Some(None), ..ChangeWebhook::default() };
    assert_eq!(pointers(try_change(&control, none).await), ["/url"]);
    let off = ChangeWebhook { enabled: Some(false), url: Some(None), ..ChangeWebhook::default() };
    assert_eq!(try_change(&control, off).await.unwrap().webhook.url, None);

    let entry = audit::list(&control, None, 1).await.unwrap().items.remove(0).entry;
    assert_eq!((entry.record_kind, entry.record_id), (RecordKind::Webhook, None));
    let (before, after) = (entry.before.unwrap(), entry.after.unwrap());
    assert_eq!((&before["enabled"], &after["enabled"], &after["url"]), (&json!(true), &json!(false), &json!(null)));
    assert!(before["secret"].as_str().unwrap().starts_with("***"), "{before}");
    assert_eq!(stored_secrets::check_all(&control).await.unwrap().opened, 2, "that of sessions, too");
}

pub(crate) async fn every_fault_of_a_change_is_told_at_once(plane: Plane) {
    let wrong = ChangeWebhook {
        secret: Some(Some(SecretString::from("whsec_c2hvcnQ="))),
        threshold: Some(0),
        window: Some(3_601),
        cooldown: Some(86_401),
        status_code_threshold: Some(399),
        ..at("ftp://example.com")
    };
    let told = pointers(webhooks::check(&plane.control, wrong).await);
    assert_eq!(told, ["/threshold", "/window", "/cooldown", "/status_code_threshold", "/secret", "/url"]);
    let long = format!("https://192.88.98.1/{}", "x".repeat(2_000));
    assert_eq!(pointers(webhooks::check(&plane.control, at(&long)).await), ["/url"]);
}

pub(crate) async fn failing_calls_are_told_once_a_cooldown(plane: Plane) {
    let receiver = WebhookReceiver::start().await;
    let (control, other) = (permissive(&plane).await, permissive(&plane).await);
    let records = |ids: &[&str]| ids.iter().map(|id| failed(id, plane.control.now())).collect::<Vec<_>>();
    logs::ingest(&control, records(&["a", "b"])).await.unwrap();
    try_change(&control, ChangeWebhook { threshold: Some(3), enabled: Some(false), ..on(&receiver.url()) })
        .await
        .unwrap();
    logs::ingest(&control, records(&["c"])).await.unwrap();
    assert_eq!(watch(&control).await, 0, "it is off");
    try_change(&control, ChangeWebhook { enabled: Some(true), ..ChangeWebhook::default() }).await.unwrap();

    let (one, two) = tokio::join!(watch(&control), watch(&other));
    assert_eq!(one + two, 1, "of processes that look at once, one tells");
    assert_eq!(watch(&other).await, 0);
    assert_eq!(deliver(&control).await, 1);
    let received = receiver.received().remove(0);
    assert_eq!((received.path.as_str(), received.header("content-type")), ("/hook", "application/json"));
    check_signature(&received);
    let (body, now) = (received.json(), control.now());
    assert_eq!(body["type"], "log.errors");
    assert_eq!(body["timestamp"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap(), now);
    assert_eq!(received.header("webhook-timestamp"), now.timestamp().to_string());
    let newest = logs::get(&control, ez_control::Tenant::Any, "c").await.unwrap();
    let expected = json!({
        "count": 3, "threshold": 3, "window": 60, "status_code_threshold": 500, "sample": newest,
    });
    assert_eq!(body["data"], expected);

    plane.clock.advance(Duration::from_secs(299));
    logs::ingest(&control, records(&["d", "e", "f", "g"])).await.unwrap();
    assert_eq!(watch(&control).await, 0, "it cools down");
    plane.clock.advance(Duration::from_secs(1));
    assert_eq!(watch(&other).await, 1);
    assert_eq!(deliver(&other).await, 1);
    assert_eq!(receiver.received()[1].json()["data"]["count"], 4, "what the window has");
    plane.clock.advance(Duration::from_secs(301));
    assert_eq!(watch(&control).await, 0, "nothing failed since");
}

pub(crate) async fn what_is_not_taken_is_sent_again_under_its_id(plane: Plane) {
    let receiver = WebhookReceiver::start().await;
    let control = permissive(&plane).await;
    try_change(&control, on(&receiver.url())).await.unwrap();
    receiver
        .reply([Reply::status(500), Reply { header: Some(("retry-after", "90".to_owned())), ..Reply::status(503) }]);
    logs::ingest(&control, vec![failed("a", control.now())]).await.unwrap();
    assert_eq!(watch(&control).await, 1);
    assert_eq!(deliver(&control).await, 1);
    assert_eq!(deliver(&control).await, 0, "not before its time");
    let waiting = deliveries(&control).await.remove(0);
    assert_eq!((waiting.status, waiting.attempts, waiting.last_status), (DeliveryStatus::Pending, 1, Some(500)));
    assert_eq!(waiting.last_error.as_deref(), Some("the receiver answered 500"));
    plane.clock.advance(Duration::from_secs(6));
    assert_eq!(deliver(&control).await, 1);
    plane.clock.advance(Duration::from_secs(40));
    assert_eq!(deliver(&control).await, 0, "the receiver asked for longer");
    plane.clock.advance(Duration::from_secs(50));
    assert_eq!(deliver(&control).await, 1);
    let received = receiver.received();
    assert_eq!(received.len(), 3);
    for again in &received[1..] {
        check_signature(again);
        assert_eq!(again.header("webhook-id"), received[0].header("webhook-id"));
        assert_eq!(again.body, received[0].body);
        assert_ne!(again.header("webhook-timestamp"), received[0].header("webhook-timestamp"));
    }
    let done = deliveries(&control).await.remove(0);
    assert_eq!((done.status, done.attempts, done.last_status), (DeliveryStatus::Delivered, 3, Some(204)));
    assert_eq!((done.delivered_at, done.last_error), (Some(control.now()), None));
    assert_eq!(done.event_id, received[0].header("webhook-id"));
}

pub(crate) async fn who_wants_no_more_or_never_answers_well_is_left_alone(plane: Plane) {
    let receiver = WebhookReceiver::start().await;
    let control = permissive(&plane).await;
    let change = ChangeWebhook { alert_severity: Some(Some(AlertSeverity::Info)), ..on(&receiver.url()) };
    try_change(&control, change).await.unwrap();
    receiver.reply([Reply::status(410)]);
    assert!(raise(&control, "cause-1", AlertSeverity::Info).await);
    assert_eq!(deliver(&control).await, 1);
    let gone = deliveries(&control).await.remove(0);
    assert_eq!((gone.status, gone.attempts, gone.next_attempt_at), (DeliveryStatus::Failed, 1, None));

    let elsewhere = WebhookReceiver::start().await;
    let redirect = || Reply { header: Some(("location", elsewhere.url())), ..Reply::status(307) };
    receiver.reply(std::iter::repeat_with(redirect).take(20));
    assert!(raise(&control, "cause-2", AlertSeverity::Info).await);
    let mut attempts = 0;
    while deliveries(&control).await[0].status == DeliveryStatus::Pending {
        attempts += deliver(&control).await;
        plane.clock.advance(Duration::from_secs(15 * 3_600));
        assert!(attempts < 20);
    }
    let failed = deliveries(&control).await.remove(0);
    assert_eq!((attempts, failed.attempts, failed.status), (8, 8, DeliveryStatus::Failed));
    assert!(failed.last_error.unwrap().starts_with("the receiver redirects (307)"));
    assert!(elsewhere.received().is_empty(), "redirects are not followed");
}

pub(crate) async fn each_attempt_is_made_by_one_process_and_a_lost_one_again(plane: Plane) {
    let receiver = WebhookReceiver::start().await;
    let (control, other) = (permissive(&plane).await, permissive(&plane).await);
    let change = ChangeWebhook { alert_severity: Some(Some(AlertSeverity::Info)), ..on(&receiver.url()) };
    try_change(&control, change).await.unwrap();
    for number in 0..40 {
        assert!(raise(&control, &format!("cause {number}"), AlertSeverity::Info).await);
    }
    let slow = || Reply { delay: Duration::from_millis(100), ..Reply::status(200) };
    receiver.reply(std::iter::repeat_with(slow).take(40));
    let (one, two) = tokio::join!(deliver(&control), deliver(&other));
    assert_eq!(one + two, 40);
    let mut ids: Vec<_> = receiver.received().iter().map(|sent| sent.header("webhook-id").to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((receiver.received().len(), ids.len()), (40, 40));
    assert!((2..=32).contains(&receiver.most_in_flight()), "{}", receiver.most_in_flight());

    // A process that dies while it sends.
    assert!(raise(&control, "cause-3", AlertSeverity::Info).await);
    let tx = control.store().begin().await.unwrap();
    let until = control.now() + Duration::from_secs(60);
    assert_eq!(webhook_deliveries::claim_due(&tx, control.now(), until, 10).await.unwrap().len(), 1);
    tx.commit().await.unwrap();
    assert_eq!(deliver(&other).await, 0);
    plane.clock.advance(Duration::from_secs(60));
    assert_eq!(deliver(&other).await, 1);
    let made = deliveries(&control).await.remove(0);
    assert_eq!((made.status, made.attempts), (DeliveryStatus::Delivered, 2));
}

/// Raises an alert of this cause; whether the webhook is told.
async fn raise(control: &Control, cause: &str, severity: AlertSeverity) -> bool {
    let known = deliveries(control).await.len();
    let finding = AlertFinding {
        alert_type: AlertType::ErrorSpike,
        severity,
        title: "calls fail".to_owned(),
        message: "x".repeat(5_000),
        related_type: Some("key".to_owned()),
        related_id: Some(3),
        related_name: Some("ci".to_owned()),
        metadata: json!({"failures": 12}).as_object().unwrap().clone(),
        fingerprint: cause.to_owned(),
    };
    let write = control.write(Actor::system()).await.unwrap();
    alerts::raise(&write, &finding).await.unwrap();
    write.commit().await.unwrap();
    deliveries(control).await.len() > known
}

pub(crate) async fn a_damaged_setting_stops_nothing_and_is_set_again(plane: Plane) {
    let receiver = WebhookReceiver::start().await;
    let control = permissive(&plane).await;
    let wish = ChangeWebhook { alert_severity: Some(Some(AlertSeverity::Info)), ..on(&receiver.url()) };
    try_change(&control, wish).await.unwrap();
    assert!(raise(&control, "before", AlertSeverity::Info).await);
    plane.sql("UPDATE settings SET value = '{\"threshold\": \"many\"}' WHERE key = 'log_webhook'").await;
    assert!(webhooks::get(&control).await.is_err());

    assert!(!raise(&control, "meanwhile", AlertSeverity::Critical).await);
    let failed = UsageRecord { status: 503, ..usage_record("failed", 1, control.now()) };
    logs::ingest(&control, vec![failed]).await.unwrap();
    assert_eq!((watch(&control).await, deliver(&control).await), (0, 0));
    // Keys expire as ever, and their alerts are raised.
    let master = plane.master("acme").await.master;
    let expires_at = Some(control.now() + Duration::from_secs(60));
    plane.try_key(master.id, CreateChildKey { expires_at, ..CreateChildKey::default() }).await.unwrap();
    plane.clock.advance(Duration::from_secs(60));
    assert_eq!(key_expiry::run_once(&control).await.unwrap(), 1);
    assert_eq!(plane.alerts().await.len(), 3);

    let changed = try_change(&control, on(&receiver.url())).await.unwrap();
    assert_eq!((changed.webhook.threshold, changed.webhook.alert_severity), (1, None));
    assert_eq!(deliver(&control).await, 1, "what waited was not given up");
    assert_eq!(deliveries(&control).await.remove(0).status, DeliveryStatus::Delivered);
}

pub(crate) async fn alerts_are_told_by_their_severity(plane: Plane) {
    use AlertSeverity::{Critical, Info, Warning};
    let receiver = WebhookReceiver::start().await;
    let control = permissive(&plane).await;
    try_change(&control, on(&receiver.url())).await.unwrap();
    assert!(!raise(&control, "a", Critical).await, "of no alert until it is asked for");
    let wish = |severity| ChangeWebhook { alert_severity: Some(severity), ..ChangeWebhook::default() };
    try_change(&control, wish(Some(Warning))).await.unwrap();
    for (cause, severity, expected) in [
        ("b", Info, false),
        ("c", Warning, true),
        ("c", Warning, false),
        ("c", Info, false),
        ("c", Critical, true),
        ("c", Critical, false),
        ("b", Warning, true),
    ] {
        assert_eq!(raise(&control, cause, severity).await, expected, "{cause} {severity}");
    }
    let told = deliveries(&control).await;
    let bodies: Vec<Value> =
        told.iter().rev().map(|delivery| serde_json::from_str(&delivery.payload).unwrap()).collect();
    let events: Vec<_> = bodies
        .iter()
        .map(|body| (body["type"].as_str().unwrap(), body["data"]["severity"].as_str().unwrap()))
        .collect();
    assert_eq!(events, [("alert.raised", "warning"), ("alert.escalated", "critical"), ("alert.escalated", "warning")]);
    let data = &bodies[1]["data"];
    assert_eq!((&data["type"], &data["related_id"]), (&json!("error_spike"), &json!(3)));
    assert_eq!((&data["fingerprint"], &data["metadata"]), (&json!("c"), &json!({"failures": 12})));
    assert_eq!(data["message"].as_str().unwrap().len(), 1_000, "no text is endless");
    assert_eq!(data["id"], bodies[0]["data"]["id"], "one alert");
    assert_eq!(deliver(&control).await, 3);
    receiver.received().iter().for_each(check_signature);

    // What is undone was never told.
    let write = control.write(Actor::system()).await.unwrap().dry_run(true);
    let entered = alerts::CreateAlert {
        alert_type: AlertType::System,
        severity: Critical,
        title: "the disk is full".to_owned(),
        message: None,
        related_type: None,
        related_id: None,
        related_name: None,
        metadata: None,
        fingerprint: None,
    };
    alerts::create(&write, entered.clone()).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(deliveries(&control).await.len(), 3);
    let write = control.write(Actor::system()).await.unwrap();
    alerts::create(&write, entered).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(deliveries(&control).await.len(), 4);

    try_change(&control, ChangeWebhook { enabled: Some(false), ..ChangeWebhook::default() }).await.unwrap();
    assert!(!raise(&control, "d", Critical).await);
}

pub(crate) async fn what_waits_is_not_sent_once_it_is_switched_off(plane: Plane) {
    let receiver = WebhookReceiver::start().await;
    let control = permissive(&plane).await;
    let change = ChangeWebhook { alert_severity: Some(Some(AlertSeverity::Info)), ..on(&receiver.url()) };
    try_change(&control, change).await.unwrap();
    assert!(raise(&control, "cause-4", AlertSeverity::Info).await);
    let switch = |enabled| ChangeWebhook { enabled: Some(enabled), ..ChangeWebhook::default() };
    try_change(&control, switch(false)).await.unwrap();
    let given_up = deliveries(&control).await.remove(0);
    assert_eq!(given_up.status, DeliveryStatus::Failed);
    assert_eq!(given_up.last_error.as_deref(), Some("the webhook was switched off"));
    // What came in at the same moment goes the same way.
    plane.sql("UPDATE webhook_deliveries SET status = 'pending', next_attempt_at = 1").await;
    assert_eq!(deliver(&control).await, 0);
    assert_eq!(deliveries(&control).await[0].status, DeliveryStatus::Failed);
    try_change(&control, switch(true)).await.unwrap();
    assert_eq!(deliver(&control).await, 0);
    assert!(receiver.received().is_empty());
}

pub(crate) async fn deliveries_do_not_pile_up(plane: Plane) {
    let control = permissive(&plane).await;
    let change = ChangeWebhook { alert_severity: Some(Some(AlertSeverity::Info)), ..on("http://127.0.0.1:1/") };
    try_change(&control, change).await.unwrap();
    let tx = control.store().begin().await.unwrap();
    let new = webhook_deliveries::NewDelivery {
        event_id: "msg_1".to_owned(),
        kind: "alert.raised".to_owned(),
        payload: "{}".to_owned(),
        // Not due, so that the job has nothing to send.
        created_at: control.now() + Duration::from_secs(60),
    };
    for _ in 0..1_005 {
        webhook_deliveries::append(&tx, &new).await.unwrap();
    }
    tx.commit().await.unwrap();
    let count = async || plane.database.dump().await.matches("msg_1").count();
    assert_eq!(deliver(&control).await, 0);
    assert_eq!(count().await, 1_000);
    plane.sql("UPDATE webhook_deliveries SET created_at = created_at - 700000000000").await;
    assert_eq!(deliver(&control).await, 0);
    assert_eq!(count().await, 0, "seven days are over");
}

pub(crate) async fn a_test_event_tells_what_the_receiver_says(plane: Plane) {
    let receiver = WebhookReceiver::start().await;
    let control = permissive(&plane).await;
    let (message, _) = conflict(webhooks::send_test(&control).await);
    assert!(message.contains("has no URL"), "{message}");
    let off = ChangeWebhook { enabled: Some(false), ..on(&receiver.url()) };
    try_change(&control, off).await.unwrap();
    receiver.reply([Reply::status(200), Reply::status(500)]);
    for (expected, status) in [(true, 200), (false, 500)] {
        let test = webhooks::send_test(&control).await.unwrap();
        assert_eq!((test.ok(), test.status), (expected, Some(status)));
        let write = control.write(Actor::system()).await.unwrap();
        let id = webhooks::record_test(&write, &test).await.unwrap();
        write.commit().await.unwrap();
        let noted = deliveries(&control).await.remove(0);
        assert_eq!((noted.id, noted.kind.as_str(), noted.event_id.as_str()), (id, "webhook.test", test.event_id()));
        assert_eq!((noted.last_status, noted.attempts, noted.next_attempt_at), (Some(status), 1, None));
    }
    let entry = audit::list(&control, None, 1).await.unwrap().items.remove(0).entry;
    assert_eq!((entry.action.as_str(), entry.after.unwrap()["status"].as_u64()), ("test", Some(500)));
    let received = receiver.received();
    received.iter().for_each(check_signature);
    assert_eq!(received[0].json()["type"], "webhook.test");
    assert_eq!(deliver(&control).await, 0, "a test is not tried again");

    plane.sql("UPDATE settings SET value = replace(value, 'enc:v1:', 'enc:v1:AAAA') WHERE key = 'log_webhook'").await;
    let test = webhooks::send_test(&control).await.unwrap();
    assert!(test.error.unwrap().contains("cannot be opened"));
    assert_eq!(receiver.received().len(), 2);
}

/// A name that is public when the webhook is set, and leads inside by the time that something is sent.
pub(crate) async fn an_address_is_checked_when_it_is_set_and_when_it_is_used(plane: Plane) {
    let receiver = WebhookReceiver::start().await;
    let (is_private, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let (turns, names) = (is_private.clone(), asked.clone());
    let resolver = Resolver::new(move |name: String| {
        names.lock().unwrap().push(name);
        let address: IpAddr = if turns.load(Ordering::SeqCst) { "127.0.0.1" } else { "192.88.98.1" }.parse().unwrap();
        async move { Ok(vec![address]) }
    });
    let control = with(&plane, ControlConfig { resolver: resolver.clone(), ..config() }).await;
    let url = format!("http://rebinding.test:{}/hook", receiver.port());
    let change = ChangeWebhook { alert_severity: Some(Some(AlertSeverity::Info)), ..on(&url) };
    try_change(&control, change).await.unwrap();
    is_private.store(true, Ordering::SeqCst);
    assert!(raise(&control, "cause-5", AlertSeverity::Info).await);
    assert_eq!(deliver(&control).await, 1);
    let refused = deliveries(&control).await.remove(0);
    assert_eq!((refused.status, refused.last_status), (DeliveryStatus::Pending, None));
    let error = refused.last_error.unwrap();
    assert_eq!(error, "the URL must not point to a loopback, private or otherwise not public address");
    let test = webhooks::send_test(&control).await.unwrap();
    assert_eq!(test.error.as_deref(), Some(error.as_str()));
    assert!(receiver.received().is_empty(), "no connection was made");
    assert_eq!(asked.lock().unwrap().len(), 3, "once when it was set, once for each attempt");
    assert_eq!(
        faults(try_change(&control, at(&url)).await),
        [format!("/url: {}", error.strip_prefix("the URL ").unwrap())]
    );

    // The same name where such addresses are allowed.
    let allowed = ControlConfig { resolver, webhook_allow_private: true, ..config() };
    let control = with(&plane, allowed).await;
    plane.clock.advance(Duration::from_secs(10));
    assert_eq!(deliver(&control).await, 1);
    assert_eq!(receiver.received()[0].header("host"), format!("rebinding.test:{}", receiver.port()));

    // What was allowed when it was set, in a process that does not allow it.
    try_change(&control, at(&receiver.url())).await.unwrap();
    let test = webhooks::send_test(&plane.control).await.unwrap();
    assert!(test.error.unwrap().contains("not public"));
    let metadata = try_change(&control, at("http://169.254.169.254/")).await;
    assert_eq!(pointers(metadata), ["/url"], "nobody is let at these");
}
