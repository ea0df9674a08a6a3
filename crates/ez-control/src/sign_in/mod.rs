//! Sign-in: who a credential belongs to. Admin token, master key, and the sessions (JWT) that either buys.

mod attempts;
mod key_hash;
mod legacy;
mod sessions;

use std::time::Duration;

use ez_contract::TokenDigest;
use ez_contract::status::RecordStatus;
use ez_store::audit::{self, NewAuditEntry};
use ez_store::masters::{self, Master};
use ez_store::{ActorKind, RecordKind};
use ez_telemetry::metrics::SIGN_IN_FAILURES;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use crate::error::chain;
use crate::{Actor, Control, ControlError, Origin};

pub(crate) use attempts::Attempts;
pub(crate) use legacy::Legacy;
pub(crate) use sessions::Sessions;

use sessions::{Claims, SESSION_LENGTH, Subject};

/// The doors: failures at one do not count at the other.
const SIGN_IN: &str = "sign-in";
const INTERNAL: &str = "internal";
pub(crate) const DOORS: [&str; 2] = [SIGN_IN, INTERNAL];

const LOGIN_HINT: &str =
    "send `Authorization: Bearer …` with the admin token, a master key, or a session from POST /auth/login";
const INTERNAL_HINT: &str =
    "send `Authorization: Bearer …` with EZ_INTERNAL_TOKEN, and set it on the control plane too";

/// What a sign-in is as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An administrator.
    Admin,
    /// A master.
    Master,
}

impl Role {
    /// `admin` or `master`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Master => "master",
        }
    }
}

/// A session.
#[derive(Debug)]
pub struct LoginGrant {
    /// What to send as bearer.
    pub access_token: SecretString,
    /// How long it is good for.
    pub expires_in: Duration,
    /// What for.
    pub role: Role,
}

/// Whom a request comes from.
#[derive(Debug, Clone)]
pub enum Principal {
    /// An administrator.
    Admin,
    /// This master, as it stands now; it is active.
    Master(Box<Master>),
}

/// Grants a session for an admin token or a master key.
///
/// Errors: `Unauthenticated`; `TooMany` after ten failures within a minute from one address; `Unavailable`.
pub async fn login(control: &Control, token: &str, origin: &Origin) -> Result<LoginGrant, ControlError> {
    let principal = sign_in(control, token, origin).await?;
    let now = control.now();
    let (claims, role) = match &principal {
        Principal::Admin => (Claims::admin(control.sessions().mark(control.admin_digest()), now), Role::Admin),
        Principal::Master(master) => {
            let mark = mark_of(control, master).ok_or_else(|| ControlError::internal("signed in without a digest"))?;
            (Claims::master(master, mark, now), Role::Master)
        }
    };
    let access_token = control.sessions().issue(&claims)?;
    let actor = match &principal {
        Principal::Admin => Actor::admin(origin.clone()),
        Principal::Master(master) => Actor::master(master.id, origin.clone()),
    };
    note(control, "sign_in", &actor).await?;
    Ok(LoginGrant { access_token, expires_in: SESSION_LENGTH, role })
}

/// Tells whose bearer token this is: an admin token, a master key, or a session of either.
///
/// Errors: `Unauthenticated`; `TooMany` after ten failures within a minute from one address (a valid session is still
/// good); `Unavailable`.
pub async fn authenticate(control: &Control, bearer: &str, origin: &Origin) -> Result<Principal, ControlError> {
    if Sessions::looks_like_one(bearer) {
        session(control, bearer).await
    } else {
        sign_in(control, bearer, origin).await
    }
}

/// Whether a credential is still good for what it was when a long answer to it began. Neither counted nor audited: it was
/// no guess. Errors: `Unavailable`.
pub async fn still_stands(control: &Control, bearer: &str, principal: &Principal) -> Result<bool, ControlError> {
    let found = if Sessions::looks_like_one(bearer) {
        session(control, bearer).await
    } else {
        let digest = TokenDigest::of(bearer);
        match is_same(&digest, control.admin_digest()) {
            true => Ok(Principal::Admin),
            // A key of an older system has had its digest since it was signed in with.
            false => match masters::get_by_digest(control.store(), &digest).await? {
                Some(master) => active(master),
                None => return Ok(false),
            },
        }
    };
    match (found, principal) {
        (Ok(Principal::Admin), Principal::Admin) => Ok(true),
        (Ok(Principal::Master(now)), Principal::Master(then)) => Ok(now.id == then.id),
        (Ok(_), _) | (Err(ControlError::Unauthenticated { .. }), _) => Ok(false),
        (Err(error), _) => Err(error),
    }
}

/// Tells whose session this is.
async fn session(control: &Control, bearer: &str) -> Result<Principal, ControlError> {
    // A session cannot be guessed, and consoles go on sending one that has ended: neither counted nor audited.
    let ended = || ControlError::unauthenticated("the session has ended or is not valid; sign in again");
    let claims = control.sessions().verify(bearer, control.now()).ok_or_else(ended)?;
    match claims.subject() {
        Subject::Admin { credential } if *credential == control.sessions().mark(control.admin_digest()) => {
            Ok(Principal::Admin)
        }
        Subject::Admin { .. } => Err(ended()),
        Subject::Master { master_id, epoch, credential } => {
            let stands =
                |master: &Master| master.epoch == *epoch && mark_of(control, master).as_ref() == Some(credential);
            active(masters::get(control.store(), *master_id).await?.filter(stands).ok_or_else(ended)?)
        }
    }
}

/// Lets a gateway in. Without a configured internal token nobody is. A wrong token is counted and audited, and never
/// shuts out a right one from the same address.
///
/// Errors: `Unauthenticated`, `TooMany`.
pub async fn authenticate_internal(control: &Control, bearer: &str, origin: &Origin) -> Result<(), ControlError> {
    let Some(expected) = &control.config().internal_token else {
        return Err(ControlError::unauthenticated(INTERNAL_HINT));
    };
    if is_same(&TokenDigest::of(bearer), &TokenDigest::of(expected.expose_secret())) {
        return Ok(());
    }
    Err(fail(control, INTERNAL, INTERNAL_HINT, origin).await)
}

/// Tells whose secret this is.
async fn sign_in(control: &Control, token: &str, origin: &Origin) -> Result<Principal, ControlError> {
    control.attempts().refuse_blocked(SIGN_IN, origin, control.now())?;
    if token.is_empty() {
        return Err(ControlError::unauthenticated(LOGIN_HINT));
    }
    let digest = TokenDigest::of(token);
    if is_same(&digest, control.admin_digest()) {
        return Ok(Principal::Admin);
    }
    // An index look-up by digest tells nothing that helps to find a token.
    let found = match masters::get_by_digest(control.store(), &digest).await? {
        Some(master) => Some(master),
        None => control.legacy().find(control, token, origin).await?,
    };
    match found {
        Some(master) => active(master),
        None => Err(fail(control, SIGN_IN, LOGIN_HINT, origin).await),
    }
}

/// What ties a master's sessions to its key; none before its digest is known.
fn mark_of(control: &Control, master: &Master) -> Option<String> {
    master.key_digest.as_ref().map(|digest| control.sessions().mark(digest))
}

fn active(master: Master) -> Result<Principal, ControlError> {
    match master.status {
        RecordStatus::Active => Ok(Principal::Master(Box::new(master))),
        RecordStatus::Suspended => {
            Err(ControlError::unauthenticated("this master is suspended; ask whoever runs this installation"))
        }
    }
}

/// Counts and audits a failed attempt, and says what to answer.
async fn fail(control: &Control, door: &'static str, hint: &str, origin: &Origin) -> ControlError {
    metrics::counter!(SIGN_IN_FAILURES, "door" => door).increment(1);
    let unauthenticated = ControlError::unauthenticated(format!("the credential is not known here; {hint}"));
    match control.attempts().count(control, door, origin).await {
        // What comes after the limit tells nothing new, and must not fill the audit.
        Some(too_many) => too_many,
        None => {
            let nobody = Actor { kind: ActorKind::System, id: None, origin: origin.clone() };
            if let Err(error) = note(control, "sign_in_failed", &nobody).await {
                tracing::warn!(error = %chain(&error), "a failed sign-in could not be audited");
            }
            unauthenticated
        }
    }
}

async fn note(control: &Control, action: &str, actor: &Actor) -> Result<(), ControlError> {
    let entry = NewAuditEntry {
        created_at: control.now(),
        actor_kind: actor.kind,
        actor_id: actor.id,
        action: action.to_owned(),
        record_kind: RecordKind::Session,
        record_id: None,
        before: None,
        after: None,
        request_id: Some(actor.origin.request_id.clone()).filter(|id| !id.is_empty()),
        client_ip: actor.origin.client_ip.map(|address| address.to_string()),
    };
    let tx = control.store().begin().await?;
    audit::append(&tx, &entry).await?;
    Ok(tx.commit().await?)
}

fn is_same(a: &TokenDigest, b: &TokenDigest) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}
