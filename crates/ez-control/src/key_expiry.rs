//! The job that ends keys and tokens whose time has come. Gateways stop both by themselves; this makes the records say so.

use crate::due_keys::{Due, settle_due};
use crate::{Control, ControlError};

/// Expires keys past their end of life, and takes tokens whose rotation has ended out of the snapshot; how many those
/// were. May run at several places at once, and again.
///
/// Errors: `Unavailable`; what was settled until then stays.
pub async fn run_once(control: &Control) -> Result<u64, ControlError> {
    Ok(settle_due(control, Due::Expiry).await? + settle_due(control, Due::OverlapEnd).await?)
}
