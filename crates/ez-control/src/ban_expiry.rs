//! Ban expiry: API keys whose ban has ended are used again.

use ez_contract::status::ApiKeyStatus;
use ez_store::api_keys::{self as stored, ApiKey};

use crate::api_key_batches::record;
use crate::api_keys::with_status;
use crate::{Actor, Control, ControlError};

/// API keys in one transaction.
const BATCH: u64 = 200;

/// Transactions in one run; what is left waits for the next.
const MAX_BATCHES: u64 = 50;

/// Activates the API keys whose ban has ended, and returns how many. Replicas may run it at once: each key is locked
/// before it is judged. Errors: `Unavailable`.
pub async fn run_once(control: &Control) -> Result<u64, ControlError> {
    let mut activated = 0;
    for _ in 0..MAX_BATCHES {
        let ended = run_batch(control).await?;
        activated += ended;
        if ended < BATCH {
            break;
        }
    }
    Ok(activated)
}

async fn run_batch(control: &Control) -> Result<u64, ControlError> {
    let write = control.write(Actor::system()).await?;
    let ended = stored::list_ban_ended(write.tx(), write.now(), BATCH).await?;
    if ended.is_empty() {
        return Ok(0);
    }
    let after: Vec<ApiKey> =
        ended.iter().map(|api_key| with_status(api_key, ApiKeyStatus::Active, write.now())).collect();
    for api_key in &after {
        stored::update(write.tx(), api_key).await?;
    }
    let changes: Vec<(Option<&ApiKey>, &ApiKey)> = ended.iter().map(Some).zip(&after).collect();
    record(&write, "end_ban", &changes).await?;
    write.commit().await?;
    Ok(u64::try_from(ended.len()).unwrap_or(u64::MAX))
}
