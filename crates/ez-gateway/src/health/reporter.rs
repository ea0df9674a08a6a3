//! Reports bans to the control plane, off the way of calls: it switches the credential off for everyone.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::book::HealthBook;
use crate::control_link::ControlLink;

/// Reports at once, as many as the control plane takes.
const BATCH: usize = 1_000;
const FIRST_RETRY_AFTER: Duration = Duration::from_secs(1);
const LAST_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Reports until `stop`. What cannot be reported is kept, and steers the calls of this gateway meanwhile.
pub(crate) async fn report_bans(book: Arc<HealthBook>, control_link: Arc<dyn ControlLink>, stop: CancellationToken) {
    let mut retry_after = FIRST_RETRY_AFTER;
    loop {
        let reports = book.unreported(BATCH);
        let told = if reports.is_empty() {
            Ok(())
        } else {
            tokio::select! {
                told = control_link.report(&reports) => told,
                () = stop.cancelled() => return,
            }
        };
        let pause = match told {
            Ok(()) => {
                book.note_reported(&reports);
                retry_after = FIRST_RETRY_AFTER;
                None
            }
            Err(e) => {
                tracing::warn!(error = %e, bans = reports.len(), "bans not reported; trying again");
                let pause = retry_after;
                retry_after = LAST_RETRY_AFTER.min(retry_after * 2);
                Some(pause)
            }
        };
        let next = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None if reports.len() == BATCH => {}
                None => book.ban_noted().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = next => {}
        }
    }
}
