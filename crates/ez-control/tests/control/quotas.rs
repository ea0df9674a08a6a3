//! Quotas, ends of life, and the two jobs that watch them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::UsageRecord;
use ez_contract::snapshot::Quota;
use ez_contract::status::KeyStatus;
use ez_contract::usage::TokenUsage;
use ez_control::child_keys::{ChangeChildKey, CreateChildKey};
use ez_control::{
    ControlError, Tenant, audit, child_keys, key_expiry, key_rotation, logs, quota_reset, usage_publication,
};
use ez_store::child_keys::{ChildKey, KeyUsage};
use ez_store::{ActorKind, QuotaReset};
use tokio::task::JoinSet;

use crate::support::{Plane, faults, token_of, usage_record};

impl Plane {
    pub(crate) async fn try_change_key(&self, id: i64, change: ChangeChildKey) -> Result<ChildKey, ControlError> {
        let write = self.write().await;
        let changed = child_keys::update(&write, Tenant::Any, id, change).await?;
        write.commit().await?;
        Ok(changed)
    }

    pub(crate) async fn stored_key(&self, id: i64) -> ChildKey {
        child_keys::get(&self.control, Tenant::Any, id).await.unwrap()
    }

    async fn use_tokens(&self, id: i64, tokens: u64) {
        let tx = self.control.store().begin().await.unwrap();
        let usage = KeyUsage { requests: 1, tokens, quota_tokens: tokens, last_used_at: self.control.now() };
        assert!(ez_store::child_keys::add_usage(&tx, id, &usage).await.unwrap());
        tx.commit().await.unwrap();
    }

    /// The newest audit entries with this action.
    async fn audited(&self, action: &str) -> usize {
        let entries = audit::list(&self.control, None, 1000).await.unwrap().items;
        let of_action = entries.iter().filter(|entry| entry.entry.action == action);
        of_action.inspect(|entry| assert_eq!(entry.entry.actor_kind, ActorKind::System)).count()
    }
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn limit(limit: Option<u64>) -> ChangeChildKey {
    ChangeChildKey { quota_limit: Some(limit), ..ChangeChildKey::default() }
}

fn status(status: KeyStatus) -> ChangeChildKey {
    ChangeChildKey { status: Some(status), ..ChangeChildKey::default() }
}

fn end(end: Option<DateTime<Utc>>) -> ChangeChildKey {
    ChangeChildKey { expires_at: Some(end), ..ChangeChildKey::default() }
}

pub(crate) async fn a_quota_above_what_is_used_revives_and_one_below_exhausts(plane: Plane) {
    plane.clock.set(time("2026-03-04T08:00:00Z"));
    let master = plane.master("acme").await.master;
    let asked =
        CreateChildKey { quota_limit: Some(100), quota_reset: Some(QuotaReset::Weekly), ..CreateChildKey::default() };
    let issued = plane.try_key(master.id, asked).await.unwrap();
    let id = issued.key.id;
    let next = time("2026-03-09T00:00:00Z");
    assert_eq!((issued.key.status, issued.key.quota_reset_at), (KeyStatus::Active, Some(next)));
    plane.use_tokens(id, 40).await;
    plane.publish().await;

    assert_eq!(plane.try_change_key(id, limit(Some(40))).await.unwrap().status, KeyStatus::Exhausted);
    plane.publish().await;
    let published = plane.token_entry(&token_of(&issued)).await.unwrap();
    assert_eq!(published.status, KeyStatus::Exhausted);
    assert_eq!(published.quota, Some(Quota { limit: 40, used: 40, reset_at: Some(next.timestamp()) }));
    let told = faults(plane.try_change_key(id, status(KeyStatus::Active)).await);
    assert_eq!(told, ["/status: the key's quota is used up; raise its quota_limit"]);
    let renamed = ChangeChildKey { name: Some(Some("app".to_owned())), ..ChangeChildKey::default() };
    assert_eq!(plane.try_change_key(id, renamed).await.unwrap().status, KeyStatus::Exhausted);
    assert_eq!(plane.try_change_key(id, limit(Some(41))).await.unwrap().status, KeyStatus::Active);
    assert_eq!(plane.try_change_key(id, limit(Some(1))).await.unwrap().status, KeyStatus::Exhausted);
    assert_eq!(plane.try_change_key(id, limit(None)).await.unwrap().status, KeyStatus::Active);

    // A suspended key is nobody's to wake; awake again it is what its quota makes of it.
    assert_eq!(plane.try_change_key(id, status(KeyStatus::Suspended)).await.unwrap().status, KeyStatus::Suspended);
    assert_eq!(plane.try_change_key(id, limit(Some(1))).await.unwrap().status, KeyStatus::Suspended);
    assert_eq!(plane.try_change_key(id, status(KeyStatus::Active)).await.unwrap().status, KeyStatus::Exhausted);

    // A new rhythm counts from now, the same one changes nothing.
    let rhythm = |reset| ChangeChildKey { quota_reset: Some(reset), ..ChangeChildKey::default() };
    plane.clock.set(time("2026-03-10T08:00:00Z"));
    assert_eq!(plane.try_change_key(id, rhythm(QuotaReset::Weekly)).await.unwrap().quota_reset_at, Some(next));
    let monthly = plane.try_change_key(id, rhythm(QuotaReset::Monthly)).await.unwrap();
    assert_eq!(monthly.quota_reset_at, Some(time("2026-04-01T00:00:00Z")));
    assert_eq!(plane.try_change_key(id, rhythm(QuotaReset::None)).await.unwrap().quota_reset_at, None);

    let none = CreateChildKey { quota_limit: Some(0), ..CreateChildKey::default() };
    assert_eq!(plane.try_key(master.id, none).await.unwrap().key.status, KeyStatus::Exhausted);
}

pub(crate) async fn an_expired_key_comes_back_with_a_later_end(plane: Plane) {
    let master = plane.master("acme").await.master;
    let soon = plane.control.now() + Duration::from_secs(60);
    let asked = CreateChildKey { expires_at: Some(soon), ..CreateChildKey::default() };
    let issued = plane.try_key(master.id, asked).await.unwrap();
    let (id, unending) = (issued.key.id, plane.key(master.id).await.key);
    assert_eq!(key_expiry::run_once(&plane.control).await.unwrap(), 0);
    plane.publish().await;

    plane.clock.advance(Duration::from_secs(60));
    assert_eq!(key_expiry::run_once(&plane.control).await.unwrap(), 1);
    assert_eq!(key_expiry::run_once(&plane.control).await.unwrap(), 0, "once is enough");
    let expired = plane.stored_key(id).await;
    assert_eq!((expired.status, expired.updated_at), (KeyStatus::Expired, plane.control.now()));
    assert_eq!(plane.stored_key(unending.id).await, unending);
    assert_eq!(plane.audited("expire").await, 1);
    plane.publish().await;
    assert_eq!(plane.token_entry(&token_of(&issued)).await.unwrap().status, KeyStatus::Expired);

    let told = faults(plane.try_change_key(id, status(KeyStatus::Active)).await);
    assert_eq!(told, ["/status: the key has expired; give it an expires_at in the future"]);
    let later = plane.control.now() + Duration::from_secs(1);
    let revived = plane.try_change_key(id, end(Some(later))).await.unwrap();
    assert_eq!((revived.status, revived.expires_at), (KeyStatus::Active, Some(later)));

    plane.clock.advance(Duration::from_secs(1));
    assert_eq!(key_expiry::run_once(&plane.control).await.unwrap(), 1);
    assert_eq!(plane.try_change_key(id, end(None)).await.unwrap().status, KeyStatus::Active);
}

pub(crate) async fn a_quota_that_is_due_starts_anew(plane: Plane) {
    plane.clock.set(time("2026-03-04T08:00:00Z"));
    let master = plane.master("acme").await.master;
    let with = |quota_reset| CreateChildKey {
        quota_limit: Some(10),
        quota_reset: Some(quota_reset),
        ..CreateChildKey::default()
    };
    let weekly = plane.try_key(master.id, with(QuotaReset::Weekly)).await.unwrap();
    let daily = plane.try_key(master.id, with(QuotaReset::Daily)).await.unwrap().key;
    let never = plane.try_key(master.id, with(QuotaReset::None)).await.unwrap().key;
    for id in [weekly.key.id, daily.id, never.id] {
        plane.use_tokens(id, 10).await;
        assert_eq!(plane.try_change_key(id, limit(Some(9))).await.unwrap().status, KeyStatus::Exhausted);
    }
    plane.try_change_key(daily.id, status(KeyStatus::Suspended)).await.unwrap();

    plane.clock.set(time("2026-03-08T23:59:59Z"));
    assert_eq!(quota_reset::run_once(&plane.control).await.unwrap(), 1);
    let reset = plane.stored_key(daily.id).await;
    assert_eq!((reset.quota_used, reset.used_tokens, reset.status), (0, 10, KeyStatus::Suspended));
    assert_eq!(reset.quota_reset_at, Some(time("2026-03-09T00:00:00Z")), "days that were missed are not made up for");

    // Weeks late.
    plane.clock.set(time("2026-04-02T12:00:00Z"));
    assert_eq!(quota_reset::run_once(&plane.control).await.unwrap(), 2);
    assert_eq!(quota_reset::run_once(&plane.control).await.unwrap(), 0);
    let reset = plane.stored_key(weekly.key.id).await;
    assert_eq!((reset.quota_used, reset.status), (0, KeyStatus::Active));
    assert_eq!(reset.quota_reset_at, Some(time("2026-04-06T00:00:00Z")));
    let kept = plane.stored_key(never.id).await;
    assert_eq!((kept.quota_used, kept.status), (10, KeyStatus::Exhausted));
    assert_eq!(plane.audited("reset_quota").await, 3);
    plane.publish().await;
    let published = plane.token_entry(&token_of(&weekly)).await.unwrap();
    assert_eq!((published.status, published.quota.unwrap().used), (KeyStatus::Active, 0));
}

pub(crate) async fn a_quota_that_starts_anew_keeps_what_was_used_since(plane: Plane) {
    plane.clock.set(time("2026-03-04T08:00:00Z"));
    let master = plane.master("acme").await.master;
    let asked =
        CreateChildKey { quota_limit: Some(100), quota_reset: Some(QuotaReset::Daily), ..CreateChildKey::default() };
    let key = plane.try_key(master.id, asked).await.unwrap().key;
    let used = |id: &str, at: &str, tokens| UsageRecord {
        key_id: key.id,
        tokens: TokenUsage { input_tokens: Some(tokens), ..TokenUsage::default() },
        ..usage_record(id, master.id, time(at))
    };
    let ingest = async |records: &[UsageRecord]| {
        let report = logs::ingest(&plane.control, records.to_vec()).await.unwrap();
        assert_eq!(report.accepted, records.len() as u64);
    };
    let quota_used = async || plane.stored_key(key.id).await.quota_used;
    ingest(&[used("a", "2026-03-04T23:59:59.999Z", 60), used("b", "2026-03-05T00:00:00Z", 3)]).await;
    plane.clock.set(time("2026-03-05T00:00:40Z"));
    ingest(&[used("c", "2026-03-05T00:00:30Z", 4)]).await;
    assert_eq!(quota_used().await, 67);
    assert_eq!(quota_reset::run_once(&plane.control).await.unwrap(), 1);
    assert_eq!(quota_used().await, 7, "what calls of the new day have used");
    // From a gateway that did not reach the control plane at midnight, and from one whose clock is ahead.
    ingest(&[used("d", "2026-03-04T22:00:00Z", 50), used("e", "2026-03-05T00:02:00Z", 5)]).await;
    assert_eq!((quota_used().await, plane.stored_key(key.id).await.used_tokens), (12, 122));

    // All of the new day's quota is gone before it was seen to have begun.
    ingest(&[used("f", "2026-03-06T00:00:01Z", 100)]).await;
    plane.clock.set(time("2026-03-06T00:01:00Z"));
    usage_publication::run_once(&plane.control).await.unwrap();
    assert_eq!(plane.stored_key(key.id).await.status, KeyStatus::Exhausted);
    assert_eq!(quota_reset::run_once(&plane.control).await.unwrap(), 1);
    let reset = plane.stored_key(key.id).await;
    assert_eq!((reset.quota_used, reset.status), (100, KeyStatus::Exhausted));
}

pub(crate) async fn jobs_at_two_places_settle_each_key_once(plane: Plane) {
    const KEYS: u64 = 450;
    let master = plane.master("acme").await.master;
    let soon = plane.control.now() + Duration::from_secs(60);
    let write = plane.write().await;
    for _ in 0..KEYS {
        let asked = CreateChildKey {
            expires_at: Some(soon),
            quota_reset: Some(QuotaReset::Daily),
            ..CreateChildKey::default()
        };
        let id = child_keys::create(&write, master.id, asked).await.unwrap().key.id;
        key_rotation::rotate(&write, Tenant::Any, id, Duration::from_secs(30)).await.unwrap();
    }
    write.commit().await.unwrap();
    let other = plane.another().await;

    plane.clock.advance(Duration::from_secs(2 * 24 * 3600));
    let mut running = JoinSet::new();
    for control in [plane.control.clone(), other] {
        running.spawn(async move {
            (key_expiry::run_once(&control).await.unwrap(), quota_reset::run_once(&control).await.unwrap())
        });
    }
    let done = running.join_all().await;
    let (ended, reset) = done.iter().fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
    assert!(ended <= 2 * KEYS && reset <= KEYS, "nothing is settled twice: {done:?}");
    // What one of them held was left to it; a last run finds what both passed over, if any.
    let ended = ended + key_expiry::run_once(&plane.control).await.unwrap();
    let reset = reset + quota_reset::run_once(&plane.control).await.unwrap();
    assert_eq!((ended, reset), (2 * KEYS, KEYS), "expired, rid of their old tokens, and with a new quota");
    for action in ["expire", "end_rotation", "reset_quota"] {
        let entries = ez_store::audit::list(plane.control.store(), None, 10_000).await.unwrap();
        let count = entries.iter().filter(|entry| entry.entry.action == action).count();
        assert_eq!(count as u64, KEYS, "{action}");
    }
}

pub(crate) async fn a_damaged_key_does_not_keep_others_from_their_due(plane: Plane) {
    let master = plane.master("acme").await.master;
    let soon = plane.control.now() + Duration::from_secs(60);
    let ending = || CreateChildKey { expires_at: Some(soon), ..CreateChildKey::default() };
    let damaged = plane.try_key(master.id, ending()).await.unwrap().key;
    let sound = plane.try_key(master.id, ending()).await.unwrap().key;
    plane.sql("UPDATE child_keys SET issued_by = 'nobody' WHERE id = (SELECT min(id) FROM child_keys)").await;
    plane.clock.advance(Duration::from_secs(60));
    assert_eq!(key_expiry::run_once(&plane.control).await.unwrap(), 1);
    assert_eq!(plane.stored_key(sound.id).await.status, KeyStatus::Expired);
    assert!(child_keys::get(&plane.control, Tenant::Any, damaged.id).await.is_err());
}
