//! Many API keys at once.

use ez_contract::snapshot::{SnapshotEntry, SnapshotKey};
use ez_contract::status::ApiKeyStatus;
use ez_control::api_key_batches::{self, CreateApiKeys, CreatedApiKeys, set_status};
use ez_control::api_keys::ChangeApiKey;
use ez_control::publisher::reconcile;
use ez_control::{ControlError, api_keys, audit};
use ez_store::outbox;
use secrecy::SecretString;

use crate::support::{Plane, faults, pointers, secret_in};

fn batch(group_id: i64, secrets: &str) -> CreateApiKeys {
    CreateApiKeys {
        group_id,
        secrets: SecretString::from(secrets),
        name: None,
        weight: None,
        max_concurrency: None,
        status: None,
        auto_ban: None,
    }
}

impl Plane {
    async fn try_batch(&self, new: CreateApiKeys) -> Result<CreatedApiKeys, ControlError> {
        let write = self.write().await;
        let created = api_key_batches::create(&write, new).await?;
        write.commit().await?;
        Ok(created)
    }
}

pub(crate) async fn a_batch_creates_what_is_new_and_tells_what_is_not(plane: Plane) {
    let (group, other) = (plane.group("openai").await, plane.group("other").await);
    plane.try_api_key(secret_in(group.id, "sk-standing")).await.unwrap();
    plane.try_api_key(secret_in(other.id, "sk-of-another-group")).await.unwrap();
    plane.binding(group.id).await;
    plane.publish().await;

    let text = "sk-one\r\n\n  sk-two  \nsk-standing\nsk-one\nsk-of-another-group\n";
    let asked = CreateApiKeys { name: Some("batch".to_owned()), weight: Some(3), ..batch(group.id, text) };
    let CreatedApiKeys { created, skipped } = plane.try_batch(asked).await.unwrap();
    assert_eq!(created.len(), 3);
    assert!(created.iter().all(|key| key.name == "batch" && key.weight == 3 && key.group_id == group.id));
    let told: Vec<(usize, &str)> = skipped.iter().map(|line| (line.line, line.reason.as_str())).collect();
    let expected =
        [(4, "the provider group has an API key with this secret"), (5, "the same secret stands on a line before")];
    assert_eq!(told, expected);

    let due = outbox::list_due(plane.control.store(), plane.control.now(), 100).await.unwrap();
    assert_eq!(due.len(), 2, "one for their places, one for the group's models");
    plane.publish().await;
    for key in &created {
        assert!(plane.published(&SnapshotKey::Provider(key.id)).await.is_some());
    }
    let Some(SnapshotEntry::Binding(binding)) = plane.published(&SnapshotKey::Binding("default.m".to_owned())).await
    else {
        panic!("no binding");
    };
    assert_eq!(binding.candidates[0].upstreams.len(), 4);
    assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 0);

    let entries = audit::list(&plane.control, None, 100).await.unwrap().items;
    let creations = entries.iter().filter(|entry| created.iter().any(|key| entry.entry.record_id == Some(key.id)));
    assert_eq!(creations.filter(|entry| entry.entry.action == "create").count(), 3);
    let text = format!("{entries:?}{created:?}{skipped:?}");
    assert!(!text.contains("sk-one") && !text.contains("sk-standing"), "{text}");

    let again = plane.try_batch(batch(group.id, "sk-one\nsk-two")).await.unwrap();
    assert_eq!((again.created.len(), again.skipped.len()), (0, 2), "again changes nothing");
    assert_eq!(plane.outbox_depth().await, 0);
}

pub(crate) async fn a_faulty_batch_creates_nothing(plane: Plane) {
    let group = plane.group("openai").await;
    let asked = CreateApiKeys {
        name: Some("tab\t".to_owned()),
        status: Some(ApiKeyStatus::AutoDisabled),
        ..batch(group.id, "sk-good\nsk bad\n\nsk-\u{e4}")
    };
    let told = faults(plane.try_batch(asked).await);
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told[2].starts_with("/secrets: line 2 ") && told[3].starts_with("/secrets: line 4 "), "{told:?}");
    assert!(!told.join("").contains("bad"), "{told:?}");
    assert_eq!(pointers(plane.try_batch(batch(group.id, " \n\n")).await), ["/secrets"]);
    let told = faults(plane.try_batch(batch(group.id, "{\n}\n{\"type\":\"service_account\"}")).await);
    assert_eq!(told, ["/secrets: line 1 must be all of the service account's JSON; check what was pasted"]);
    assert_eq!(pointers(plane.try_batch(batch(999, "sk-1")).await), ["/group_id"]);
    let many: String = (0..1001).map(|number| format!("sk-{number}\n")).collect();
    let told = faults(plane.try_batch(batch(group.id, &many)).await);
    assert_eq!(told, ["/secrets: must hold at most 1000 secrets; send the rest in another batch"]);
    let none = ez_store::api_keys::list_by_group(plane.control.store(), group.id).await.unwrap();
    assert_eq!(none, []);
}

pub(crate) async fn batches_at_once_bring_no_secret_twice(plane: Plane) {
    let group = plane.group("openai").await;
    let other = plane.another().await;
    let text = "sk-1\nsk-2\nsk-3";
    let there = async {
        let write = other.write(ez_control::Actor::system()).await?;
        let created = api_key_batches::create(&write, batch(group.id, text)).await?;
        write.commit().await?;
        Ok::<_, ControlError>(created)
    };
    let (here, there) = tokio::join!(plane.try_batch(batch(group.id, text)), there);
    assert_eq!(here.unwrap().created.len() + there.unwrap().created.len(), 3);
}

pub(crate) async fn a_status_is_set_for_all_or_none(plane: Plane) {
    let (first, second) = (plane.group("first").await, plane.group("second").await);
    let mut ids = Vec::new();
    for (group, secret) in [(&first, "sk-1"), (&first, "sk-2"), (&second, "sk-3")] {
        ids.push(plane.try_api_key(secret_in(group.id, secret)).await.unwrap().id);
    }
    plane.binding(first.id).await;
    plane.binding(second.id).await;
    let suspend = ChangeApiKey { status: Some(ApiKeyStatus::Suspended), ..ChangeApiKey::default() };
    plane.change_api_key(ids[0], suspend).await;
    plane.publish().await;

    let write = plane.write().await;
    let asked = [ids[2], 998, ids[0], 999];
    assert_eq!(pointers(set_status(&write, &asked, ApiKeyStatus::Suspended).await), ["/ids/1", "/ids/3"]);
    assert_eq!(pointers(set_status(&write, &[], ApiKeyStatus::AutoDisabled).await), ["/status", "/ids"]);
    assert_eq!(pointers(set_status(&write, &[1; 1001], ApiKeyStatus::Active).await), ["/ids"]);
    drop(write);

    let before = audit::list(&plane.control, None, 100).await.unwrap().items.len();
    let write = plane.write().await;
    let twice = [ids[2], ids[0], ids[1], ids[2]];
    let changed = set_status(&write, &twice, ApiKeyStatus::Suspended).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(changed.iter().map(|key| (key.id, key.status)).collect::<Vec<_>>(), {
        ids.iter().map(|id| (*id, ApiKeyStatus::Suspended)).collect::<Vec<_>>()
    });
    let after = audit::list(&plane.control, None, 100).await.unwrap().items.len();
    assert_eq!(after - before, 2, "one was suspended already");
    assert_eq!(plane.outbox_depth().await, 3, "the models of two groups, and the places of the keys");
    plane.publish().await;
    for id in &ids {
        let Some(SnapshotEntry::Provider(provider)) = plane.published(&SnapshotKey::Provider(*id)).await else {
            panic!("no provider {id}");
        };
        assert_eq!(provider.status, ApiKeyStatus::Suspended);
    }
    assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 0);
    assert_eq!(api_keys::get(&plane.control, ids[1]).await.unwrap(), changed[1]);
}
