//! The unit of work.

use ez_control::credentials::MasterKey;
use ez_control::masters::{ChangeMaster, CreateMaster};
use ez_control::{Actor, ControlError, Expectation, RecordTag, audit, masters};
use ez_store::masters::MasterFilter;
use ez_store::{ActorKind, RecordKind, Sort, outbox};
use secrecy::ExposeSecret;

use crate::support::{FIRST_PAGE, Plane, conflict, origin, secret_in};

pub(crate) async fn a_dry_run_and_an_unmet_expectation_leave_nothing(plane: Plane) {
    let acme = plane.master("acme").await.master;
    let before = plane.database.dump().await;
    let rename = || ChangeMaster { name: Some("renamed".to_owned()), ..ChangeMaster::default() };

    let write = plane.write().await.dry_run(true);
    assert_eq!(masters::update(&write, acme.id, rename()).await.unwrap().name, "renamed");
    write.commit().await.unwrap();
    assert_eq!(plane.database.dump().await, before);

    let stale = Expectation::OneOf(vec!["0".to_owned()]);
    let write = plane.write().await.expecting(Some(stale));
    let refused = masters::update(&write, acme.id, rename()).await;
    assert!(matches!(&refused, Err(ControlError::Stale { what }) if *what == format!("master {}", acme.id)));
    drop(write);

    // A rule that forgets to look must not pass for one that did.
    let write = plane.write().await.expecting(Some(Expectation::Any));
    let new = CreateMaster { name: "beta".to_owned(), ..CreateMaster::default() };
    masters::create(&write, new, MasterKey::generate().await.unwrap()).await.unwrap();
    assert!(matches!(write.commit().await, Err(ControlError::Internal(_))));
    assert_eq!(plane.database.dump().await, before);

    let write = plane.write().await.expecting(Some(Expectation::OneOf(vec![RecordTag::of(&acme).to_string()])));
    masters::update(&write, acme.id, rename()).await.unwrap();
    write.commit().await.unwrap();
    assert_ne!(plane.database.dump().await, before);
}

pub(crate) async fn a_change_its_audit_entry_and_its_outbox_entry_come_together_or_not_at_all(plane: Plane) {
    let counts = async || {
        let control = &plane.control;
        let masters = masters::list(control, &MasterFilter::default(), Sort::default(), FIRST_PAGE).await.unwrap();
        let audited = audit::list(control, None, 100).await.unwrap().items.len();
        (masters.total, audited, plane.outbox_depth().await)
    };

    let acme = plane.master("acme").await.master;
    assert_eq!(counts().await, (1, 1, 1));
    let entry = audit::list(&plane.control, None, 1).await.unwrap().items.remove(0).entry;
    assert_eq!(
        (entry.action.as_str(), entry.record_kind, entry.record_id),
        ("create", RecordKind::Master, Some(acme.id))
    );
    assert_eq!((entry.actor_kind, entry.actor_id), (ActorKind::Admin, None));
    assert_eq!((entry.request_id.as_deref(), entry.client_ip.as_deref()), (Some("req-1"), Some("192.0.2.7")));
    assert_eq!((entry.before, entry.after.unwrap()["name"].as_str()), (None, Some("acme")));
    let due = outbox::list_due(plane.control.store(), plane.control.now(), 10).await.unwrap();
    assert_eq!((due[0].kind, due[0].record_id), (RecordKind::Master, acme.id));

    // Not committed.
    let key = MasterKey::generate().await.unwrap();
    let write = plane.write().await;
    let new = CreateMaster { name: "beta".to_owned(), ..CreateMaster::default() };
    masters::create(&write, new, key).await.unwrap();
    drop(write);
    assert_eq!(counts().await, (1, 1, 1));

    // Refused by the database.
    let outcome = plane.try_master(CreateMaster { name: "acme".to_owned(), ..CreateMaster::default() }).await;
    let (message, _) = conflict(outcome);
    assert!(message.contains("another master has the same name"), "{message}");
    assert_eq!(counts().await, (1, 1, 1));

    // A master's own change says so, with what was before and what is after.
    let write = plane.control.write(Actor::master(acme.id, origin())).await.unwrap();
    let change = ChangeMaster { group: Some("gold".to_owned()), ..ChangeMaster::default() };
    masters::update(&write, acme.id, change).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(counts().await, (1, 2, 2));
    let entry = audit::list(&plane.control, None, 1).await.unwrap().items.remove(0).entry;
    assert_eq!((entry.actor_kind, entry.actor_id), (ActorKind::Master, Some(acme.id)));
    let group = |json: Option<serde_json::Value>| json.unwrap()["group"].as_str().unwrap().to_owned();
    assert_eq!((group(entry.before), group(entry.after)), ("default".to_owned(), "gold".to_owned()));
}

pub(crate) async fn secrets_are_in_no_audit_entry_and_no_debug_text(plane: Plane) {
    let created = plane.master("acme").await;
    let issued = plane.key(created.master.id).await;
    let group = plane.group("openai").await;
    let api_key = plane.try_api_key(secret_in(group.id, "sk-very-secret")).await.unwrap();

    let envelope = api_key.api_key.clone().unwrap();
    assert!(envelope.starts_with("enc:v1:") && !envelope.contains("sk-very-secret"), "{envelope}");
    let entries = audit::list(&plane.control, None, 100).await.unwrap().items;
    assert_eq!(entries.len(), 4);
    let texts = format!("{entries:?} {created:?} {issued:?} {api_key:?} {:?}", plane.control);
    let secrets = [created.master_key.expose_secret(), issued.token.expose_secret(), "sk-very-secret"];
    for secret in secrets {
        assert!(!texts.contains(secret), "{secret} in {texts}");
    }
    let audited = format!("{entries:?}");
    for kept in [envelope, created.master.key_hash.unwrap(), issued.key.token_digest.to_string()] {
        assert!(!audited.contains(&kept), "{kept} in {audited}");
    }
}
