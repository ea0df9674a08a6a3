//! What gateways report of API keys, and the end of bans.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::alerts::AlertType;
use ez_contract::health::{BreakerState, HealthKind};
use ez_contract::snapshot::{SnapshotEntry, SnapshotKey};
use ez_contract::status::ApiKeyStatus;
use ez_control::api_keys::ChangeApiKey;
use ez_control::credential_reports::{ReportsTaken, take};
use ez_control::publisher::reconcile;
use ez_control::{api_keys, audit, ban_expiry};
use ez_store::ActorKind;
use ez_store::api_keys::ApiKey;
use serde_json::{Value, json};

use crate::support::{Plane, faults, origin, secret_in};

impl Plane {
    async fn report(&self, reports: &[Value]) -> ReportsTaken {
        take(&self.control, origin(), reports.to_vec()).await.unwrap()
    }

    async fn read_api_key(&self, id: i64) -> ApiKey {
        api_keys::get(&self.control, id).await.unwrap()
    }
}

fn counts(taken: &ReportsTaken) -> (u64, u64, usize) {
    (taken.applied, taken.ignored, taken.rejected.len())
}

fn ban(id: i64, until: Option<DateTime<Utc>>) -> Value {
    json!({"api_key_id": id, "kind": "ban", "until": until, "reason": "refused: Incorrect key sk-hidden",
        "evidence": {"request_ids": ["req-1", "req-2", "has blank"], "status": 401}})
}

pub(crate) async fn a_ban_switches_an_api_key_off_everywhere_and_once(plane: Plane) {
    let group = plane.group("openai").await;
    let (banned, kept) = (plane.api_key(group.id).await, plane.api_key(group.id).await);
    let no_bans = ChangeApiKey { auto_ban: Some(false), ..ChangeApiKey::default() };
    plane.change_api_key(kept.id, no_bans).await;
    plane.binding(group.id).await;
    plane.publish().await;

    let reports = [ban(banned.id, None), ban(kept.id, None), ban(999, None), ban(banned.id, None)];
    let taken = plane.report(&reports).await;
    assert_eq!(counts(&taken), (1, 2, 1));
    assert_eq!((taken.rejected[0].index, taken.rejected[0].reason.as_str()), (2, "API key 999 does not exist"));
    let after = plane.read_api_key(banned.id).await;
    assert_eq!((after.status, after.ban_until), (ApiKeyStatus::AutoDisabled, None));
    let reason = "refused: Incorrect key [removed] (status 401; requests req-1, req-2)";
    assert_eq!(after.ban_reason.as_deref(), Some(reason));
    assert_eq!(plane.read_api_key(kept.id).await.status, ApiKeyStatus::Active);
    let audited = audit::list(&plane.control, None, 1).await.unwrap().items.remove(0).entry;
    assert_eq!((audited.action.as_str(), audited.actor_kind), ("ban", ActorKind::System));
    assert_eq!((audited.record_id, audited.request_id.as_deref()), (Some(banned.id), Some("req-1")));
    let alert = plane.alerts().await.remove(0);
    let expected = (AlertType::KeyDisabled, Some(banned.id), reason.to_owned());
    assert_eq!((alert.alert_type, alert.related_id, alert.message), expected);

    plane.publish().await;
    let Some(SnapshotEntry::Provider(provider)) = plane.published(&SnapshotKey::Provider(banned.id)).await else {
        panic!("no provider");
    };
    assert_eq!(provider.status, ApiKeyStatus::AutoDisabled);
    let Some(SnapshotEntry::Binding(binding)) = plane.published(&SnapshotKey::Binding("default.m".to_owned())).await
    else {
        panic!("no binding");
    };
    assert_eq!(binding.candidates[0].upstreams.keys().collect::<Vec<_>>(), [&kept.id]);
    assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 0);

    assert_eq!(counts(&plane.report(&reports).await), (0, 3, 1), "again changes nothing");
    assert_eq!(plane.read_api_key(banned.id).await, after);
    assert_eq!(plane.outbox_depth().await, 0);
    assert_eq!(plane.told_alerts().await, [format!("key_disabled:api_key:{} warning active 1", banned.id)]);
}

pub(crate) async fn a_ban_is_about_the_api_key_as_it_was(plane: Plane) {
    let group = plane.group("openai").await;
    let key = plane.api_key(group.id).await;
    let observed_at = plane.control.now();
    plane.clock.advance(Duration::from_secs(10));
    let secret = ChangeApiKey { api_key: Some("sk-next".into()), ..ChangeApiKey::default() };
    plane.change_api_key(key.id, secret).await;
    let mut late = ban(key.id, None);
    late["observed_at"] = json!(observed_at);
    assert_eq!(counts(&plane.report(&[late.clone()]).await), (0, 1, 0), "its secret is another now");
    let over = ban(key.id, Some(plane.control.now()));
    assert_eq!(counts(&plane.report(&[over]).await), (0, 1, 0), "the ban has ended");
    late["observed_at"] = json!(plane.control.now());
    assert_eq!(counts(&plane.report(&[late]).await), (1, 0, 0));

    // An operator's word ends it, and keeps the other words.
    let activate = ChangeApiKey { status: Some(ApiKeyStatus::Active), ..ChangeApiKey::default() };
    plane.change_api_key(key.id, activate).await;
    let after = plane.read_api_key(key.id).await;
    assert_eq!((after.status, after.ban_reason, after.ban_until), (ApiKeyStatus::Active, None, None));
    let off = ChangeApiKey { status: Some(ApiKeyStatus::ManualDisabled), ..ChangeApiKey::default() };
    plane.change_api_key(key.id, off).await;
    assert_eq!(counts(&plane.report(&[ban(key.id, None)]).await), (0, 1, 0));
    assert_eq!(plane.read_api_key(key.id).await.status, ApiKeyStatus::ManualDisabled);
}

pub(crate) async fn bans_end_with_their_time_and_only_those(plane: Plane) {
    let group = plane.group("openai").await;
    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(plane.try_api_key(secret_in(group.id, &format!("sk-{number}"))).await.unwrap().id);
    }
    let soon = plane.control.now() + Duration::from_secs(60);
    let later = plane.control.now() + Duration::from_secs(120);
    let reports = [ban(ids[0], Some(soon)), ban(ids[1], Some(later)), ban(ids[2], None), ban(ids[3], Some(soon))];
    assert_eq!(plane.report(&reports).await.applied, 4);
    let off = ChangeApiKey { status: Some(ApiKeyStatus::ManualDisabled), ..ChangeApiKey::default() };
    plane.change_api_key(ids[3], off).await;
    plane.publish().await;

    assert_eq!(ban_expiry::run_once(&plane.control).await.unwrap(), 0);
    assert_eq!(plane.outbox_depth().await, 0);
    plane.clock.advance(Duration::from_secs(60));
    assert_eq!(ban_expiry::run_once(&plane.control).await.unwrap(), 1);
    let ended = plane.read_api_key(ids[0]).await;
    assert_eq!((ended.status, ended.ban_reason, ended.ban_until), (ApiKeyStatus::Active, None, None));
    let statuses = async || {
        let mut statuses = Vec::new();
        for id in &ids {
            statuses.push(plane.read_api_key(*id).await.status);
        }
        statuses
    };
    let (active, banned, off) = (ApiKeyStatus::Active, ApiKeyStatus::AutoDisabled, ApiKeyStatus::ManualDisabled);
    assert_eq!(statuses().await, [active, banned, banned, off]);
    let audited = audit::list(&plane.control, None, 1).await.unwrap().items.remove(0).entry;
    assert_eq!((audited.action.as_str(), audited.actor_kind), ("end_ban", ActorKind::System));
    plane.publish().await;
    let Some(SnapshotEntry::Provider(provider)) = plane.published(&SnapshotKey::Provider(ids[0])).await else {
        panic!("no provider");
    };
    assert_eq!((provider.status, provider.ban_until), (ApiKeyStatus::Active, None));

    plane.clock.advance(Duration::from_secs(60));
    assert_eq!(ban_expiry::run_once(&plane.control).await.unwrap(), 1);
    assert_eq!(statuses().await, [active, active, banned, off]);
    assert_eq!(ban_expiry::run_once(&plane.control).await.unwrap(), 0);
}

pub(crate) async fn replicas_end_each_ban_once(plane: Plane) {
    const KEYS: usize = 450;
    let group = plane.group("openai").await;
    let secrets: String = (0..KEYS).map(|number| format!("sk-{number}\n")).collect();
    let write = plane.write().await;
    let new = ez_control::api_key_batches::CreateApiKeys {
        group_id: group.id,
        secrets: secrets.into(),
        name: None,
        weight: None,
        max_concurrency: None,
        status: None,
        auto_ban: None,
    };
    let created = ez_control::api_key_batches::create(&write, new).await.unwrap().created;
    write.commit().await.unwrap();
    let until = plane.control.now() + Duration::from_secs(1);
    let reports: Vec<Value> = created.iter().map(|key| ban(key.id, Some(until))).collect();
    assert_eq!(plane.report(&reports).await.applied, 450);
    plane.clock.advance(Duration::from_secs(1));
    let other = plane.another().await;
    let (here, there) = tokio::join!(ban_expiry::run_once(&plane.control), ban_expiry::run_once(&other));
    assert_eq!(here.unwrap() + there.unwrap(), 450);
    let active = ez_store::api_keys::count(plane.control.store(), Some(ApiKeyStatus::Active)).await.unwrap();
    assert_eq!(active, 450);
}

pub(crate) async fn gateways_that_report_at_once_ban_once(plane: Plane) {
    let group = plane.group("openai").await;
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(plane.try_api_key(secret_in(group.id, &format!("sk-{number}"))).await.unwrap().id);
    }
    let other = plane.another().await;
    let reports: Vec<Value> = ids.iter().map(|id| ban(*id, None)).collect();
    let reversed: Vec<Value> = reports.iter().rev().cloned().collect();
    let (here, there) = tokio::join!(take(&plane.control, origin(), reports), take(&other, origin(), reversed));
    assert_eq!(here.unwrap().applied + there.unwrap().applied, 20);
    let entries = audit::list(&plane.control, None, 100).await.unwrap().items;
    assert_eq!(entries.iter().filter(|entry| entry.entry.action == "ban").count(), 20);
}

pub(crate) async fn cooldowns_and_breakers_are_shared_and_pass(plane: Plane) {
    let group = plane.group("openai").await;
    let key = plane.api_key(group.id).await;
    let until = plane.control.now() + Duration::from_secs(3600);
    let cooldown = json!({"api_key_id": key.id, "kind": "cooldown", "until": until, "reason": "see https://v.test/x"});
    let breaker =
        json!({"api_key_id": key.id, "kind": "breaker", "model": "m", "state": "open", "reason": "5 in a row"});
    let over = json!({"api_key_id": key.id, "kind": "cooldown", "model": "n", "until": "2020-01-01T00:00:00Z"});
    let taken = plane.report(&[cooldown, breaker, over]).await;
    assert_eq!(counts(&taken), (2, 1, 0));
    let health = api_keys::health(&plane.another().await, key.id).await.unwrap();
    let told: Vec<_> = health.iter().map(|state| (state.kind, state.model.as_deref(), state.state)).collect();
    let open = (HealthKind::Breaker, Some("m"), Some(BreakerState::Open));
    assert_eq!(told, [open, (HealthKind::Cooldown, None, None)]);
    assert_eq!((health[1].reason.as_str(), health[1].until), ("see [removed]", until));
    assert_eq!(health[0].until, plane.control.now() + Duration::from_secs(300));

    let closed = json!({"api_key_id": key.id, "kind": "breaker", "model": "m", "state": "closed"});
    assert_eq!(counts(&plane.report(&[closed]).await), (1, 0, 0));
    assert_eq!(api_keys::health(&plane.control, key.id).await.unwrap().len(), 1);
    let stands = plane.read_api_key(key.id).await;
    assert_eq!(stands, key, "none of it changes the record");
}

pub(crate) async fn a_bad_report_holds_up_no_other(plane: Plane) {
    let group = plane.group("openai").await;
    let key = plane.api_key(group.id).await;
    let long = "x".repeat(201);
    let bad = [
        json!("no report"),
        json!({"kind": "ban"}),
        json!({"api_key_id": key.id, "kind": "mood"}),
        json!({"api_key_id": key.id, "kind": "cooldown"}),
        json!({"api_key_id": key.id, "kind": "breaker", "state": "ajar"}),
        json!({"api_key_id": key.id, "kind": "breaker", "state": "open", "model": long}),
        json!({"api_key_id": key.id, "kind": "breaker", "state": "open", "model": "a\nb"}),
        json!({"api_key_id": key.id, "kind": "ban", "until": "+10000-01-01T00:00:00Z"}),
    ];
    let mut reports = bad.to_vec();
    reports.insert(3, json!({"api_key_id": key.id, "kind": "ban", "from_a_newer_gateway": true}));
    let taken = plane.report(&reports).await;
    assert_eq!(counts(&taken), (1, 0, 8));
    assert_eq!(taken.rejected.iter().map(|rejected| rejected.index).collect::<Vec<_>>(), [0, 1, 2, 4, 5, 6, 7, 8]);
    assert_eq!(plane.read_api_key(key.id).await.ban_reason.as_deref(), Some("the gateway gave no reason"));
    let outcome = take(&plane.control, origin(), vec![json!({}); 1001]).await;
    assert_eq!(faults(outcome), ["/reports: must have at most 1000 entries"]);
}
