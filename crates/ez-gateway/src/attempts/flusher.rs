//! The flusher: hands counts to the control plane now and then. A batch keeps its id for as long as nobody knows whether it
//! was taken, so that it counts once; what is counted meanwhile goes into the next one. A killed process loses what was not
//! taken, at most an interval's while the control plane is there; one that is stopped loses it where the control plane stays
//! away for some seconds more.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ez_contract::flush::{ApiKeyDelta, ApiKeyFlush, MAX_FLUSH_DELTAS};
use ez_telemetry::request_id::sortable_id;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::counts::AttemptCounts;
use crate::control_link::ControlLink;

const FIRST_RETRY_AFTER: Duration = Duration::from_secs(1);
const LAST_RETRY_AFTER: Duration = Duration::from_secs(30);
/// How long what is left is tried when the process ends, and the pause between two tries. The process waits longer than that
/// for all that it hands in at its end.
const LAST_FOR: Duration = Duration::from_secs(5);
const LAST_PAUSE: Duration = Duration::from_millis(250);
/// How long a batch is tried: less than the control plane knows its id, so that it never counts twice.
const MAX_AGE: Duration = Duration::from_secs(6 * 24 * 3_600);

/// A batch that was not taken yet, as far as is known.
struct Waiting {
    flush: ApiKeyFlush,
    since: Instant,
}

/// Flushes every `interval` until `stop`, which must come when no attempt is under way any more; then what is left.
pub(crate) async fn flush_attempts(
    counts: Arc<AttemptCounts>,
    control_link: Arc<dyn ControlLink>,
    interval: Duration,
    stop: CancellationToken,
) {
    let mut waiting = None;
    let mut retry_after = FIRST_RETRY_AFTER;
    let mut end = pin!(patience(&stop));
    loop {
        // Asked before counting: only what is counted after the last attempt is the end.
        let is_last = stop.is_cancelled();
        let Some(batch) = waiting.take().filter(Waiting::is_fresh).or_else(|| Waiting::next(&counts)) else {
            if is_last {
                return;
            }
            pause(interval, &stop).await;
            continue;
        };
        let taken = tokio::select! {
            biased;
            taken = control_link.flush_api_keys(&batch.flush) => taken,
            () = &mut end => return tell_of_lost(&batch, &counts),
        };
        if let Err(e) = taken {
            if retry_after == FIRST_RETRY_AFTER {
                tracing::warn!(error = %e, "attempts by API key are not taken by the control plane; trying again");
            }
            if is_last {
                tokio::select! {
                    () = tokio::time::sleep(LAST_PAUSE) => {}
                    () = &mut end => return tell_of_lost(&batch, &counts),
                }
            } else {
                pause(retry_after, &stop).await;
            }
            retry_after = LAST_RETRY_AFTER.min(retry_after * 2);
            waiting = Some(batch);
            continue;
        }
        retry_after = FIRST_RETRY_AFTER;
        if batch.flush.deltas.len() < MAX_FLUSH_DELTAS {
            pause(interval, &stop).await;
        }
    }
}

/// Ends when nothing is tried any more.
async fn patience(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LAST_FOR).await;
}

/// Tells what the process ends with, which no total has.
fn tell_of_lost(batch: &Waiting, counts: &AttemptCounts) {
    let of = |deltas: &[ApiKeyDelta]| deltas.iter().map(|delta| delta.requests).sum::<u64>();
    let mut attempts = of(&batch.flush.deltas);
    while let Some(batch) = Waiting::next(counts) {
        attempts += of(&batch.flush.deltas);
    }
    tracing::warn!(
        attempts,
        "the last attempts by API key are not counted: the control plane took none before the end"
    );
}

impl Waiting {
    /// What was counted since the last one; `None` where nothing was.
    fn next(counts: &AttemptCounts) -> Option<Self> {
        let deltas = counts.take(MAX_FLUSH_DELTAS);
        if deltas.is_empty() {
            return None;
        }
        let flush = ApiKeyFlush { batch_id: sortable_id().to_string(), deltas };
        Some(Self { flush, since: Instant::now() })
    }

    /// Whether the control plane would still know that it was taken.
    fn is_fresh(&self) -> bool {
        let is_fresh = self.since.elapsed() < MAX_AGE;
        if !is_fresh {
            tracing::warn!(
                api_keys = self.flush.deltas.len(),
                "attempts by API key that were never taken are given up"
            );
        }
        is_fresh
    }
}

async fn pause(length: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(length) => {}
        () = stop.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use chrono::{DateTime, Utc};
    use ez_contract::Clock;
    use ez_contract::alerts::AlertFinding;
    use ez_contract::health::CredentialReport;
    use ez_contract::snapshot::GatewayHeartbeat;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::control_link::{ControlLinkError, IngestReport, LinkFuture};
    use crate::usage_log::UsageBatch;

    const INTERVAL: Duration = Duration::from_secs(5);

    struct Epoch;

    impl Clock for Epoch {
        fn now(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH
        }
    }

    /// What becomes of a flush.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Fate {
        Taken,
        /// It never arrives.
        Lost,
        /// It is taken, and its answer lost.
        Unanswered,
    }

    /// A control plane that counts each batch once.
    struct ScriptedLink {
        fate: Mutex<Fate>,
        tries: Mutex<Vec<(String, Instant)>>,
        /// In the order that they came in.
        taken: Mutex<Vec<ApiKeyFlush>>,
    }

    impl ControlLink for ScriptedLink {
        fn ingest<'a>(&'a self, _batch: &'a UsageBatch) -> LinkFuture<'a, IngestReport> {
            unreachable!("no records here")
        }

        fn heartbeat<'a>(&'a self, _heartbeat: &'a GatewayHeartbeat) -> LinkFuture<'a, ()> {
            unreachable!("no heartbeats here")
        }

        fn report<'a>(&'a self, _reports: &'a [CredentialReport]) -> LinkFuture<'a, ()> {
            unreachable!("no reports here")
        }

        fn report_alerts<'a>(&'a self, _alerts: &'a [AlertFinding]) -> LinkFuture<'a, ()> {
            unreachable!("no alerts here")
        }

        fn flush_api_keys<'a>(&'a self, flush: &'a ApiKeyFlush) -> LinkFuture<'a, ()> {
            Box::pin(async move {
                self.tries.lock().unwrap().push((flush.batch_id.clone(), Instant::now()));
                let fate = *self.fate.lock().unwrap();
                let mut taken = self.taken.lock().unwrap();
                if fate != Fate::Lost && taken.iter().all(|taken| taken.batch_id != flush.batch_id) {
                    taken.push(flush.clone());
                }
                if fate == Fate::Taken { Ok(()) } else { Err(ControlLinkError::Unreachable("away".into())) }
            })
        }
    }

    /// API key, successes and failures of each batch that was taken.
    fn batches(link: &ScriptedLink) -> Vec<Vec<(i64, u64, u64)>> {
        let of = |flush: &ApiKeyFlush| {
            flush.deltas.iter().map(|delta| (delta.api_key_id, delta.successes, delta.failures)).collect()
        };
        link.taken.lock().unwrap().iter().map(of).collect()
    }

    struct Flushing {
        counts: Arc<AttemptCounts>,
        link: Arc<ScriptedLink>,
        tasks: TaskTracker,
        stop: CancellationToken,
    }

    impl Flushing {
        fn start(fate: Fate) -> Self {
            let counts = AttemptCounts::new(Arc::new(Epoch));
            let link = ScriptedLink { fate: Mutex::new(fate), tries: Mutex::default(), taken: Mutex::default() };
            let (link, tasks, stop) = (Arc::new(link), TaskTracker::new(), CancellationToken::new());
            tasks.spawn(flush_attempts(counts.clone(), link.clone(), INTERVAL, stop.clone()));
            Self { counts, link, tasks, stop }
        }

        fn attempt(&self, api_key_id: i64, has_failed: bool) {
            let mut attempt = self.counts.begin(api_key_id);
            if has_failed {
                attempt.failed();
            }
        }

        fn become_of_flushes(&self, fate: Fate) {
            *self.link.fate.lock().unwrap() = fate;
        }

        fn batches(&self) -> Vec<Vec<(i64, u64, u64)>> {
            batches(&self.link)
        }

        async fn end(self) -> Arc<ScriptedLink> {
            self.stop.cancel();
            self.tasks.close();
            self.tasks.wait().await;
            self.link
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_whose_answer_is_lost_keeps_its_id_and_counts_once() {
        let flushing = Flushing::start(Fate::Unanswered);
        flushing.attempt(1, false);
        flushing.attempt(1, true);
        tokio::time::sleep(2 * INTERVAL).await;
        flushing.attempt(1, false);
        flushing.attempt(2, false);
        tokio::time::sleep(10 * INTERVAL).await;
        assert_eq!(flushing.batches(), [[(1, 1, 1)]], "the rest waits behind it");
        flushing.become_of_flushes(Fate::Taken);
        tokio::time::sleep(10 * INTERVAL).await;
        let mut batches = flushing.batches();
        batches[1].sort_unstable();
        assert_eq!(batches, [vec![(1, 1, 1)], vec![(1, 1, 0), (2, 1, 0)]]);
        let link = flushing.end().await;
        let tries = link.tries.lock().unwrap();
        assert!(tries.len() > 3, "{tries:?}");
        let first = tries.iter().take_while(|(id, _)| *id == tries[0].0).count();
        assert_eq!(first, tries.len() - 1, "one id until it is answered: {tries:?}");
        let longest = tries.windows(2).map(|pair| pair[1].1 - pair[0].1).max().unwrap();
        assert!(longest <= LAST_RETRY_AFTER, "{longest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_where_nothing_was_counted_and_the_rest_goes_at_the_end() {
        let flushing = Flushing::start(Fate::Taken);
        tokio::time::sleep(10 * INTERVAL).await;
        assert_eq!(flushing.batches(), Vec::<Vec<_>>::new());
        for id in 0..2_500 {
            flushing.attempt(id, false);
        }
        let link = flushing.end().await;
        let sizes: Vec<usize> = batches(&link).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1_000, 1_000, 500]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_without_a_control_plane_does_not_take_long() {
        let flushing = Flushing::start(Fate::Lost);
        flushing.attempt(1, false);
        let began = Instant::now();
        let link = flushing.end().await;
        assert!(link.tries.lock().unwrap().len() > 10);
        assert!(began.elapsed() <= LAST_FOR + LAST_PAUSE, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_control_plane_that_comes_back_during_the_end_counts_what_is_left() {
        let flushing = Flushing::start(Fate::Lost);
        flushing.attempt(1, false);
        flushing.stop.cancel();
        tokio::time::sleep(LAST_FOR - 2 * LAST_PAUSE).await;
        flushing.become_of_flushes(Fate::Taken);
        let link = flushing.end().await;
        assert_eq!(batches(&link), [[(1, 1, 0)]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_the_control_plane_may_have_forgotten_is_given_up() {
        let flushing = Flushing::start(Fate::Unanswered);
        flushing.attempt(1, false);
        tokio::time::sleep(MAX_AGE - INTERVAL).await;
        let first = flushing.link.tries.lock().unwrap()[0].0.clone();
        assert!(flushing.link.tries.lock().unwrap().iter().all(|(id, _)| *id == first));
        tokio::time::sleep(2 * LAST_RETRY_AFTER).await;
        flushing.become_of_flushes(Fate::Taken);
        flushing.attempt(2, false);
        tokio::time::sleep(2 * INTERVAL).await;
        let link = flushing.end().await;
        let last = link.tries.lock().unwrap().iter().rposition(|(id, _)| *id == first).unwrap();
        assert_eq!(last, link.tries.lock().unwrap().len() - 2);
        assert_eq!(batches(&link), [[(1, 1, 0)], [(2, 1, 0)]]);
    }
}
