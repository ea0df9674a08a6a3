//! Who a credential belongs to.

use std::time::Duration;

use ez_contract::status::RecordStatus;
use ez_control::credentials::MasterKey;
use ez_control::masters::{self, ChangeMaster, CreatedMaster};
use ez_control::sign_in::{Principal, Role, authenticate, authenticate_internal, login};
use ez_control::{Control, ControlConfig, ControlError, Origin, audit};
use secrecy::ExposeSecret;

use crate::support::{ADMIN_TOKEN, INTERNAL_TOKEN, Plane, assert_too_many, assert_unauthenticated, config, origin};

fn from(address: &str) -> Origin {
    Origin { client_ip: Some(address.parse().unwrap()), ..origin() }
}

/// The master that a bearer is signed in as; `None` for an administrator.
async fn master_of(control: &Control, bearer: &str) -> Option<i64> {
    match authenticate(control, bearer, &origin()).await.unwrap() {
        Principal::Admin => None,
        Principal::Master(master) => Some(master.id),
    }
}

async fn session(plane: &Plane, token: &str) -> String {
    login(&plane.control, token, &origin()).await.unwrap().access_token.expose_secret().to_owned()
}

pub(crate) async fn each_credential_is_known_for_what_it_is(plane: Plane) {
    let acme = plane.master("acme").await;
    let issued = plane.key(acme.master.id).await;
    let master_key = acme.master_key.expose_secret();

    assert_eq!(master_of(&plane.control, ADMIN_TOKEN).await, None);
    assert_eq!(master_of(&plane.control, master_key).await, Some(acme.master.id));
    let granted = login(&plane.control, ADMIN_TOKEN, &origin()).await.unwrap();
    assert_eq!((granted.role, granted.expires_in), (Role::Admin, Duration::from_secs(3600)));
    assert_eq!(master_of(&plane.control, granted.access_token.expose_secret()).await, None);
    let granted = login(&plane.control, master_key, &origin()).await.unwrap();
    assert_eq!(granted.role, Role::Master);
    let session = granted.access_token.expose_secret();
    assert_eq!(master_of(&plane.control, session).await, Some(acme.master.id));

    let forged = format!("{}x", session);
    for wrong in ["", "nonsense", issued.token.expose_secret(), &forged, "eyJ.eyJ.x"] {
        assert_unauthenticated(authenticate(&plane.control, wrong, &origin()).await);
    }
    // A session buys no session.
    assert_unauthenticated(login(&plane.control, session, &origin()).await);

    let entries = audit::list(&plane.control, None, 100).await.unwrap().items;
    let actions: Vec<_> = entries.iter().map(|entry| entry.entry.action.as_str()).collect();
    let expected = ["sign_in_failed", "sign_in_failed", "sign_in_failed", "sign_in", "sign_in", "create", "create"];
    assert_eq!(actions, expected, "of what was sent as bearer, what could be a secret is audited");
    assert_eq!(entries[0].entry.client_ip.as_deref(), Some("192.0.2.7"));
}

pub(crate) async fn a_session_ends_with_its_hour_its_epoch_and_its_master(plane: Plane) {
    let CreatedMaster { master, master_key } = plane.master("acme").await;
    let change_status = async |status| {
        let write = plane.write().await;
        let change = ChangeMaster { status: Some(status), ..ChangeMaster::default() };
        masters::update(&write, master.id, change).await.unwrap();
        write.commit().await.unwrap();
    };

    let hour = session(&plane, master_key.expose_secret()).await;
    let admin = session(&plane, ADMIN_TOKEN).await;
    plane.clock.advance(Duration::from_secs(3599));
    authenticate(&plane.control, &hour, &origin()).await.unwrap();
    plane.clock.advance(Duration::from_secs(1));
    assert_unauthenticated(authenticate(&plane.control, &hour, &origin()).await);
    assert_unauthenticated(authenticate(&plane.control, &admin, &origin()).await);

    let suspended = session(&plane, master_key.expose_secret()).await;
    change_status(RecordStatus::Suspended).await;
    for credential in [suspended.as_str(), master_key.expose_secret()] {
        let refused = authenticate(&plane.control, credential, &origin()).await;
        assert!(matches!(&refused, Err(ControlError::Unauthenticated { message }) if message.contains("suspended")));
    }
    assert_unauthenticated(login(&plane.control, master_key.expose_secret(), &origin()).await);
    change_status(RecordStatus::Active).await;
    authenticate(&plane.control, &suspended, &origin()).await.unwrap();

    let write = plane.write().await;
    masters::revoke_keys(&write, master.id).await.unwrap();
    write.commit().await.unwrap();
    assert_unauthenticated(authenticate(&plane.control, &suspended, &origin()).await);
    let renewed = session(&plane, master_key.expose_secret()).await;

    let key = MasterKey::generate().await.unwrap();
    let write = plane.write().await;
    let rotated = masters::rotate_key(&write, master.id, key, false).await.unwrap();
    write.commit().await.unwrap();
    for dead in [renewed.as_str(), master_key.expose_secret()] {
        assert_unauthenticated(authenticate(&plane.control, dead, &origin()).await);
    }
    let reborn = session(&plane, rotated.master_key.expose_secret()).await;

    let write = plane.write().await;
    masters::delete(&write, master.id, true).await.unwrap();
    write.commit().await.unwrap();
    assert_unauthenticated(authenticate(&plane.control, &reborn, &origin()).await);
}

pub(crate) async fn ten_failures_shut_an_address_out_for_a_minute(plane: Plane) {
    let admin_session = session(&plane, ADMIN_TOKEN).await;
    for _ in 0..10 {
        assert_unauthenticated(login(&plane.control, "guess", &from("198.51.100.1")).await);
    }
    assert_too_many(login(&plane.control, "guess", &from("198.51.100.1")).await);
    // Now not even the right one, or guessing would go on.
    assert_too_many(login(&plane.control, ADMIN_TOKEN, &from("198.51.100.1")).await);
    assert_too_many(authenticate(&plane.control, ADMIN_TOKEN, &from("198.51.100.1")).await);
    // A session is no guess, other addresses are others, and the count is everybody's.
    authenticate(&plane.control, &admin_session, &from("198.51.100.1")).await.unwrap();
    authenticate(&plane.control, ADMIN_TOKEN, &from("198.51.100.2")).await.unwrap();
    let other = plane.another().await;
    assert_too_many(login(&other, "guess", &from("198.51.100.1")).await);

    let failures = audit::list(&plane.control, None, 100).await.unwrap().items;
    let failures = failures.iter().filter(|entry| entry.entry.action == "sign_in_failed").count();
    assert_eq!(failures, 10, "what comes after the limit does not fill the audit");

    plane.clock.advance(Duration::from_secs(60));
    authenticate(&plane.control, ADMIN_TOKEN, &from("198.51.100.1")).await.unwrap();
}

pub(crate) async fn a_clock_that_is_set_back_shuts_nobody_out_for_longer(plane: Plane) {
    for _ in 0..10 {
        assert_unauthenticated(login(&plane.control, "guess", &from("198.51.100.1")).await);
    }
    assert_too_many(login(&plane.control, "guess", &from("198.51.100.1")).await);
    plane.clock.set(plane.control.now() - Duration::from_secs(3600));
    authenticate(&plane.control, ADMIN_TOKEN, &from("198.51.100.1")).await.unwrap();
}

pub(crate) async fn gateways_need_the_internal_token(plane: Plane) {
    authenticate_internal(&plane.control, INTERNAL_TOKEN, &origin()).await.unwrap();
    for wrong in ["", "nonsense", ADMIN_TOKEN] {
        assert_unauthenticated(authenticate_internal(&plane.control, wrong, &origin()).await);
    }
    for _ in 0..7 {
        assert_unauthenticated(authenticate_internal(&plane.control, "wrong", &origin()).await);
    }
    assert_too_many(authenticate_internal(&plane.control, "wrong", &origin()).await);
    // A misconfigured gateway must not shut out another one behind the same address.
    authenticate_internal(&plane.control, INTERNAL_TOKEN, &origin()).await.unwrap();

    let closed = ControlConfig { internal_token: None, ..config() };
    let (closed, _) = Control::prepare(plane.parts_of_another(closed).await).await.unwrap();
    for token in ["", INTERNAL_TOKEN] {
        assert_unauthenticated(authenticate_internal(&closed, token, &origin()).await);
    }
}

pub(crate) async fn a_session_of_an_admin_ends_with_its_token(plane: Plane) {
    let granted = session(&plane, ADMIN_TOKEN).await;
    authenticate(&plane.control, &granted, &origin()).await.unwrap();
    // The JWT secret is the one that is kept; the token is another from now on.
    let replaced = ControlConfig { admin_token: Some("another-admin-token".into()), ..config() };
    let (replaced, _) = Control::prepare(plane.parts_of_another(replaced).await).await.unwrap();
    assert_unauthenticated(authenticate(&replaced, &granted, &origin()).await);
}

pub(crate) async fn failures_at_one_door_do_not_count_at_the_other(plane: Plane) {
    for _ in 0..11 {
        authenticate_internal(&plane.control, "wrong", &origin()).await.unwrap_err();
    }
    assert_too_many(authenticate_internal(&plane.control, "wrong", &origin()).await);
    authenticate(&plane.control, ADMIN_TOKEN, &origin()).await.unwrap();
    assert_unauthenticated(login(&plane.control, "guess", &origin()).await);
}
