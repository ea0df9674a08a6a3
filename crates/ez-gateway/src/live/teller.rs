//! Tells the shared state of the live figures. Calls know nothing of it: while the shared state is away, figures are not
//! told, and nothing waits.

use std::sync::Arc;
use std::time::Duration;

use ez_contract::live::LiveReport;
use ez_state::SharedState;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::book::{LiveBook, Told};

/// How long figures stand: those of a gateway that died vanish with it, and one that missed a turn or two does not.
const TTL: Duration = Duration::from_secs(2);

/// What telling works with.
pub(crate) struct Teller {
    pub(crate) book: Arc<LiveBook>,
    pub(crate) state: SharedState,
    pub(crate) node_id: String,
}

/// Tells at the beginning of every slot until `stop`, also that there is nothing, so that gateways can be counted; then
/// takes the figures of this run away.
pub(crate) async fn tell(teller: Teller, stop: CancellationToken) {
    // Another process may bear the same node id, as the last run of this one did.
    let run = format!("{}:{}", teller.node_id, Uuid::new_v4().simple());
    let mut was_failing = false;
    loop {
        let next = teller.book.slot_now() + 1;
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep_until(teller.book.beginning_of(next)) => {}
        }
        let report = teller.report(next);
        let told = tokio::select! {
            () = stop.cancelled() => break,
            told = teller.state.report_live(&run, &report, TTL) => told,
        };
        if let Err(e) = &told
            && !was_failing
        {
            tracing::warn!(error = %e, "live figures are not told: the control plane shows none of this gateway");
        }
        was_failing = told.is_err();
    }
    if let Err(e) = teller.state.remove_live(&run).await {
        tracing::debug!(error = %e, "the last live figures stand until their time is over");
    }
}

impl Teller {
    fn report(&self, slot: u64) -> LiveReport {
        let Told { masters, others } = self.book.figures(slot);
        LiveReport { node_id: self.node_id.clone(), masters, others }
    }
}
