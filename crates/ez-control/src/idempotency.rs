//! Idempotency: a creating request that names itself is carried out once, however often it arrives within a day.

use chrono::TimeDelta;
use ez_contract::TokenDigest;
use ez_store::ActorKind;
use ez_store::idempotency::{self as stored, Claimed, IdempotencyClaim};
use serde_json::Value as Json;

use crate::error::FieldFault;
use crate::write::Actor;
use crate::{ControlError, Write};

/// How long a request is known by its name.
const LIFETIME: TimeDelta = TimeDelta::hours(24);

/// Bytes of an answer that is kept.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Claims of a day before that go with each new one: more than one, so that their number falls.
const SWEPT_AT_ONCE: u64 = 100;

/// JSON pointer of faults.
const POINTER: &str = "/idempotency-key";

/// A creating request that names itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRequest {
    /// Its `Idempotency-Key`.
    pub key: String,
    /// The path that it is sent to.
    pub route: String,
    /// Digest of its parameters and body.
    pub digest: TokenDigest,
}

/// A claimed request, whose answer is still to be kept: [`keep`].
#[derive(Debug)]
#[must_use = "a claim without an answer answers nobody"]
pub struct Claim {
    id: i64,
}

/// What to do about a request.
#[derive(Debug)]
pub enum Standing {
    /// Carry it out, and keep the answer.
    New(Claim),
    /// It was carried out: this is what it was answered with, less its secret.
    Answered(Json),
}

/// Claims a request for the actor of this unit of work, within it: what the request changes and that it was answered
/// are kept together or not at all. Of two at once the second waits for the first. Call it before any other rule.
///
/// Errors: `Invalid` where the same name stood for another request; `Conflict` where the first is under way.
pub async fn claim(write: &Write, request: &NamedRequest) -> Result<Standing, ControlError> {
    let wanted = IdempotencyClaim {
        scope: scope(write.actor()),
        route: request.route.clone(),
        key: request.key.clone(),
        request_digest: request.digest,
        created_at: write.now(),
    };
    let expired = write.now() - LIFETIME;
    match stored::claim(write.tx(), &wanted, expired).await? {
        Claimed::New(id) => {
            stored::sweep(write.tx(), expired, SWEPT_AT_ONCE).await?;
            Ok(Standing::New(Claim { id }))
        }
        Claimed::Before { request_digest, .. } if request_digest != request.digest => {
            let message = "this Idempotency-Key stood for another request within the last 24 hours; send a new one";
            Err(fault(message.to_owned()))
        }
        Claimed::Before { answer: Some(answer), .. } => {
            Ok(Standing::Answered(serde_json::from_str(&answer).map_err(ControlError::internal)?))
        }
        Claimed::Before { answer: None, .. } | Claimed::Unsettled => {
            Err(ControlError::conflict("the first request with this Idempotency-Key is still in progress; retry"))
        }
    }
}

/// Keeps what a claimed request is answered with. `answer` must carry no secret. Errors: `Invalid` where it is too large
/// to be kept.
pub async fn keep(write: &Write, claim: Claim, answer: &Json) -> Result<(), ControlError> {
    let text = answer.to_string();
    if text.len() > MAX_ANSWER_BYTES {
        let message = format!(
            "the answer would have more than {MAX_ANSWER_BYTES} bytes, too many to be kept; ask for less at once, or \
             send no Idempotency-Key"
        );
        return Err(fault(message));
    }
    stored::settle(write.tx(), claim.id, &text).await?;
    Ok(())
}

fn scope(actor: &Actor) -> String {
    match (actor.kind, actor.id) {
        (ActorKind::Master, Some(id)) => format!("{}:{id}", ActorKind::Master),
        (kind, _) => kind.to_string(),
    }
}

fn fault(message: String) -> ControlError {
    ControlError::Invalid(vec![FieldFault { pointer: POINTER.to_owned(), message }])
}
