//! Masters of older systems: rows with a hash of the master key and no digest.

use std::time::Duration;

use argon2::{Argon2, Params, PasswordHash, PasswordHasher};
use ez_contract::TokenDigest;
use ez_contract::status::RecordStatus;
use ez_control::sign_in::{Principal, authenticate, login};
use ez_control::{Origin, audit};
use ez_store::masters::{self, Master, NewMaster};
use secrecy::ExposeSecret;

use crate::support::{Plane, assert_unauthenticated, origin};

fn from(address: &str) -> Origin {
    Origin { client_ip: Some(address.parse().unwrap()), ..origin() }
}

fn bcrypt_of(key: &str) -> String {
    bcrypt::hash_with_salt(key, 4, [7; 16]).unwrap().format_for_version(bcrypt::Version::TwoA)
}

fn argon2id_of(key: &str) -> String {
    let cheap = Argon2::from(Params::new(64, 1, 1, None).unwrap());
    let hash: PasswordHash = cheap.hash_password(key.as_bytes()).unwrap();
    hash.to_string()
}

fn older(name: &str, key_hash: &str) -> NewMaster {
    NewMaster {
        name: name.to_owned(),
        group: "default".to_owned(),
        key_hash: Some(key_hash.to_owned()),
        key_digest: None,
        prefix: String::new(),
        default_namespace: "default".to_owned(),
        namespaces: vec!["default".to_owned()],
        epoch: 1,
        status: RecordStatus::Active,
        max_child_keys: 0,
        global_qps: 0,
        rpm: None,
        tpm: None,
        rpd: None,
        tpd: None,
        max_concurrency: None,
        monthly_budget: None,
        created_at: chrono::DateTime::UNIX_EPOCH,
    }
}

impl Plane {
    /// Masters as an older system left them.
    async fn older_masters(&self, rows: &[(String, String)]) -> Vec<Master> {
        let tx = self.control.store().begin().await.unwrap();
        let mut made = Vec::new();
        for (name, hash) in rows {
            made.push(masters::create(&tx, &older(name, hash)).await.unwrap());
        }
        tx.commit().await.unwrap();
        made
    }

    async fn older_master(&self, name: &str, hash: String) -> Master {
        self.older_masters(&[(name.to_owned(), hash)]).await.remove(0)
    }

    async fn stored_master(&self, id: i64) -> Master {
        masters::get(self.control.store(), id).await.unwrap().unwrap()
    }

    /// The master that a key signs in as, if any.
    async fn signed_in(&self, key: &str, address: &str) -> Option<i64> {
        match authenticate(&self.control, key, &from(address)).await {
            Ok(Principal::Master(master)) => Some(master.id),
            refused => {
                assert_unauthenticated(refused);
                None
            }
        }
    }
}

pub(crate) async fn a_key_of_an_older_system_is_found_once_by_its_hash(plane: Plane) {
    let old = plane.older_master("old", bcrypt_of("key of old")).await;
    let newer = plane.older_master("newer", argon2id_of("key of newer")).await;
    let odd = plane.older_master("odd", "{SHA}unknown".to_owned()).await;
    for (master, key) in [(&old, "key of old"), (&newer, "key of newer")] {
        let session = login(&plane.control, key, &from("198.51.100.1")).await.unwrap();
        let adopted = plane.stored_master(master.id).await;
        assert_eq!(adopted.key_digest, Some(TokenDigest::of(key)));
        assert_eq!((adopted.key_hash, adopted.epoch), (master.key_hash.clone(), 1));
        let session = session.access_token.expose_secret();
        assert_eq!(plane.signed_in(session, "198.51.100.1").await, Some(master.id));
        assert_eq!(plane.signed_in(key, "198.51.100.1").await, Some(master.id));
    }
    assert_eq!(plane.signed_in("another key", "198.51.100.1").await, None);
    assert_eq!(plane.stored_master(odd.id).await, odd);

    let entries = audit::list(&plane.control, None, 100).await.unwrap().items;
    let actions: Vec<_> = entries.iter().map(|entry| entry.entry.action.as_str()).collect();
    assert_eq!(actions, ["sign_in_failed", "sign_in", "keep_digest", "sign_in", "keep_digest"]);
    assert_eq!(entries[2].entry.client_ip.as_deref(), Some("198.51.100.1"));
    assert!(!format!("{entries:?}").contains("key of"), "{entries:?}");

    // A suspended one has its digest from now on, and is refused all the same.
    let tx = plane.control.store().begin().await.unwrap();
    let suspended = NewMaster { status: RecordStatus::Suspended, ..older("suspended", &bcrypt_of("key of suspended")) };
    let suspended = masters::create(&tx, &suspended).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(plane.signed_in("key of suspended", "198.51.100.2").await, None);
    assert!(plane.stored_master(suspended.id).await.key_digest.is_some());
}

pub(crate) async fn a_look_up_tries_a_hundred_rows_and_the_next_one_goes_on(plane: Plane) {
    let others = bcrypt_of("the key of others");
    let mut rows: Vec<_> = (0..150).map(|number| (format!("m{number}"), others.clone())).collect();
    rows[99].1 = bcrypt_of("the hundredth");
    rows[100].1 = argon2id_of("the one after");
    rows[149].1 = bcrypt_of("the last");
    let made = plane.older_masters(&rows).await;
    assert_eq!(plane.signed_in("the one after", "198.51.100.1").await, None);
    assert_eq!(plane.stored_master(made[100].id).await.key_digest, None);
    assert_eq!(plane.signed_in("the one after", "198.51.100.1").await, Some(made[100].id));
    assert_eq!(plane.signed_in("the hundredth", "198.51.100.2").await, Some(made[99].id));
    // Two rows less are in the way by now; from the last row it begins anew with the first.
    assert_eq!(plane.signed_in("the last", "198.51.100.3").await, None);
    assert_eq!(plane.signed_in("the last", "198.51.100.3").await, Some(made[149].id));
    assert_eq!(plane.signed_in("unknown", "198.51.100.4").await, None);
    assert_eq!(plane.signed_in("unknown", "198.51.100.4").await, None);
    let others: Vec<_> = masters::list_without_digest(plane.control.store(), 0, 1000).await.unwrap();
    assert_eq!(others.len(), 147);
}

pub(crate) async fn looking_for_hashes_is_limited_by_address_and_in_all(plane: Plane) {
    let first = plane.older_master("first", bcrypt_of("key of first")).await;
    let second = plane.older_master("second", bcrypt_of("key of second")).await;
    for guess in ["a", "b", "c"] {
        assert_eq!(plane.signed_in(guess, "198.51.100.1").await, None);
    }
    let limited = authenticate(&plane.control, "key of first", &from("198.51.100.1")).await.unwrap_err().to_string();
    let wrong = authenticate(&plane.control, "d", &from("198.51.100.2")).await.unwrap_err().to_string();
    assert_eq!(limited, wrong, "whether hashes were tried does not show");
    assert_eq!(plane.stored_master(first.id).await.key_digest, None);
    assert_eq!(plane.signed_in("key of first", "198.51.100.2").await, Some(first.id));
    assert_eq!(plane.signed_in("key of first", "198.51.100.1").await, Some(first.id), "a digest is no guess");

    // Ten in all: five until here.
    for address in ["198.51.100.3", "198.51.100.4", "198.51.100.5", "198.51.100.6", "198.51.100.7"] {
        assert_eq!(plane.signed_in("e", address).await, None);
    }
    assert_eq!(plane.signed_in("key of second", "198.51.100.8").await, None);
    assert_eq!(plane.stored_master(second.id).await.key_digest, None);
    let other = plane.another().await;
    assert_unauthenticated(authenticate(&other, "key of second", &from("198.51.100.9")).await);

    let failures = audit::list(&plane.control, None, 100).await.unwrap().items;
    let failures = failures.iter().filter(|entry| entry.entry.action == "sign_in_failed").count();
    assert_eq!(failures, 12, "a look-up that finds nothing is a failed sign-in");
}

pub(crate) async fn where_every_master_has_a_digest_no_hash_is_tried(plane: Plane) {
    plane.master("acme").await;
    for _ in 0..5 {
        assert_eq!(plane.signed_in("guess", "198.51.100.1").await, None);
    }
    // That none lacks one is remembered for a minute; then a row is found, as nothing was counted against it.
    let old = plane.older_master("old", bcrypt_of("key of old")).await;
    assert_eq!(plane.signed_in("key of old", "198.51.100.1").await, None);
    plane.clock.advance(Duration::from_secs(60));
    assert_eq!(plane.signed_in("key of old", "198.51.100.1").await, Some(old.id));

    // Nor is it remembered for longer where the clock is set back.
    assert_eq!(plane.signed_in("guess", "198.51.100.2").await, None);
    let older = plane.older_master("older", bcrypt_of("key of older")).await;
    plane.clock.set(plane.control.now() - Duration::from_secs(3600));
    assert_eq!(plane.signed_in("key of older", "198.51.100.2").await, Some(older.id));
}
