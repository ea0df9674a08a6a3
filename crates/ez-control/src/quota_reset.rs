//! The job that starts quotas anew.

use crate::due_keys::{Due, settle_due};
use crate::{Control, ControlError};

/// Starts every quota anew that is due: used of it is what calls have used since that time, an exhausted key is active again
/// where something is left, and the next reset is the next boundary from now on, however many were missed. How many those were. May run at several places at once, and
/// again.
///
/// Errors: `Unavailable`; what was reset until then stays.
pub async fn run_once(control: &Control) -> Result<u64, ControlError> {
    settle_due(control, Due::QuotaReset).await
}
