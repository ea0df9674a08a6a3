//! What the first start makes.

use std::sync::Arc;

use ez_contract::secret::SecretKey;
use ez_control::sign_in::{Principal, authenticate, login};
use ez_control::{Control, ControlConfig, ControlError};
use secrecy::{ExposeSecret, SecretString};

use crate::support::{ADMIN_TOKEN, Plane, assert_unauthenticated, config, faults, origin};

fn without_secrets() -> ControlConfig {
    ControlConfig::default()
}

pub(crate) async fn the_first_start_makes_an_admin_token_and_shows_it_once(plane: Plane) {
    let (first, first_run) = Control::prepare(plane.parts_of_another(without_secrets()).await).await.unwrap();
    let made = first_run.admin_token.expect("the first start makes a token");
    assert!(made.expose_secret().starts_with("ez-admin-"), "{}", made.expose_secret());
    let (second, second_run) = Control::prepare(plane.parts_of_another(without_secrets()).await).await.unwrap();
    assert!(second_run.admin_token.is_none(), "it is shown once");

    for control in [&first, &second] {
        let principal = authenticate(control, made.expose_secret(), &origin()).await.unwrap();
        assert!(matches!(principal, Principal::Admin));
    }
    // Each knows the other's sessions, as the JWT secret was made once too.
    let session = login(&first, made.expose_secret(), &origin()).await.unwrap().access_token;
    let principal = authenticate(&second, session.expose_secret(), &origin()).await.unwrap();
    assert!(matches!(principal, Principal::Admin));
}

pub(crate) async fn processes_that_start_at_once_agree(plane: Plane) {
    let (a, b) = (plane.parts_of_another(without_secrets()).await, plane.parts_of_another(without_secrets()).await);
    let (a, b) = tokio::join!(Control::prepare(a), Control::prepare(b));
    let ((a, a_run), (b, b_run)) = (a.unwrap(), b.unwrap());
    let shown: Vec<SecretString> = [a_run.admin_token, b_run.admin_token].into_iter().flatten().collect();
    assert_eq!(shown.len(), 1, "one of them made it");
    for (issuer, verifier) in [(&a, &b), (&b, &a)] {
        let session = login(issuer, shown[0].expose_secret(), &origin()).await.unwrap().access_token;
        authenticate(verifier, session.expose_secret(), &origin()).await.unwrap();
    }
}

pub(crate) async fn a_configured_admin_token_is_the_one_that_counts(plane: Plane) {
    let (_, first_run) = Control::prepare(plane.parts_of_another(without_secrets()).await).await.unwrap();
    let made = first_run.admin_token.unwrap();
    assert_unauthenticated(authenticate(&plane.control, made.expose_secret(), &origin()).await);
    authenticate(&plane.control, ADMIN_TOKEN, &origin()).await.unwrap();
}

pub(crate) async fn an_empty_or_unusable_secret_stops_the_start(plane: Plane) {
    let empty = || Some(SecretString::from(" "));
    let config_with_faults =
        ControlConfig { admin_token: empty(), jwt_secret: empty(), internal_token: empty(), ..config() };
    let outcome = Control::prepare(plane.parts_of_another(config_with_faults).await).await;
    let named = faults(outcome.map(|_| ()));
    assert_eq!(named.len(), 3, "{named:?}");
    assert!(named[0].starts_with("EZ_ADMIN_TOKEN: must not be empty"), "{named:?}");

    // The kept JWT secret is sealed with the installation's key.
    let mut parts = plane.parts_of_another(config()).await;
    parts.secret_key = Arc::new(SecretKey::from_bytes(&[8; 32]).unwrap());
    let error = Control::prepare(parts).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, ControlError::Internal(_)), "{error:?}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("EZ_SECRET_KEY"), "{source}");
}
