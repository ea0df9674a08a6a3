//! Jobs: what is run, how often, and by how many processes. [`jobs`] is the one table of them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::alerts::detector;
use crate::{
    Control, ControlError, ban_expiry, key_expiry, log_cleaner, publisher, quota_reset, rollups, usage_publication,
    webhooks,
};

/// The job that publishes what was committed. Each commit wakes it.
pub const SYNC_OUTBOX: &str = "sync-outbox";

/// The job that compares everything published with everything stored.
pub const FULL_RECONCILE: &str = "full-reconcile";

/// The job that drops log records which are kept no longer. A deletion of log records wants it.
pub const LOG_CLEANER: &str = "log-cleaner";

/// Every job of the product. A new one is a line here and a row in the binary's table of settings.
pub fn jobs() -> Vec<Job> {
    const SECOND: Duration = Duration::from_secs(1);
    vec![
        Job::each_process(SYNC_OUTBOX, SECOND, async |control| publisher::run_once(&control).await),
        Job::own_turn(FULL_RECONCILE, 300 * SECOND, async |control| publisher::reconcile_once(&control).await),
        Job::leased("key-expiry", 30 * SECOND, async |control| key_expiry::run_once(&control).await),
        Job::leased("ban-expiry", 5 * SECOND, async |control| ban_expiry::run_once(&control).await),
        Job::leased("quota-reset", 60 * SECOND, async |control| quota_reset::run_once(&control).await),
        Job::leased("usage-publication", 5 * SECOND, async |control| usage_publication::run_once(&control).await),
        Job::leased("rollups", 10 * SECOND, async |control| rollups::run_once(&control).await),
        Job::leased(LOG_CLEANER, 3600 * SECOND, async |control| log_cleaner::run_once(&control).await),
        Job::leased("alert-detector", 60 * SECOND, async |control| detector::run_once(&control).await),
        Job::leased("log-webhook", 5 * SECOND, async |control| webhooks::watch_log(&control).await),
        Job::leased("webhook-delivery", 2 * SECOND, async |control| webhooks::deliver_due(&control).await),
    ]
}

/// A unit of work that the scheduler runs again and again. It takes no input, and running it twice does no harm.
#[derive(Clone)]
pub struct Job {
    pub(super) name: &'static str,
    pub(super) default_interval: Duration,
    pub(super) sharing: Sharing,
    work: Arc<dyn Fn(Control) -> Working + Send + Sync>,
}

/// What one run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    /// It handled so many items.
    Items(u64),
    /// Another process has the turn, so it did nothing.
    Skipped,
}

/// How the processes share a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Each process runs it, as what it committed itself wakes it. The job keeps processes in order by itself.
    EachProcess,
    /// One process an interval. The job keeps processes in order by itself.
    OwnTurn,
    /// One process an interval, under a lease.
    Lease,
}

type Working = Pin<Box<dyn Future<Output = Result<Ran, ControlError>> + Send>>;

impl Job {
    /// A job of one process an interval, under a lease. While the shared state is down there is no lease, and each
    /// process runs it: it must lock in the database what it changes. Its work tells how many items it handled.
    pub fn leased<Work, Run, Did>(name: &'static str, default_interval: Duration, work: Work) -> Self
    where
        Work: Fn(Control) -> Run + Send + Sync + 'static,
        Run: Future<Output = Result<Did, ControlError>> + Send + 'static,
        Did: Into<Ran>,
    {
        Self::new(name, default_interval, Sharing::Lease, work)
    }

    fn each_process<Work, Run, Did>(name: &'static str, default_interval: Duration, work: Work) -> Self
    where
        Work: Fn(Control) -> Run + Send + Sync + 'static,
        Run: Future<Output = Result<Did, ControlError>> + Send + 'static,
        Did: Into<Ran>,
    {
        Self::new(name, default_interval, Sharing::EachProcess, work)
    }

    fn own_turn<Work, Run, Did>(name: &'static str, default_interval: Duration, work: Work) -> Self
    where
        Work: Fn(Control) -> Run + Send + Sync + 'static,
        Run: Future<Output = Result<Did, ControlError>> + Send + 'static,
        Did: Into<Ran>,
    {
        Self::new(name, default_interval, Sharing::OwnTurn, work)
    }

    fn new<Work, Run, Did>(name: &'static str, default_interval: Duration, sharing: Sharing, work: Work) -> Self
    where
        Work: Fn(Control) -> Run + Send + Sync + 'static,
        Run: Future<Output = Result<Did, ControlError>> + Send + 'static,
        Did: Into<Ran>,
    {
        let work = Arc::new(move |control| -> Working {
            let run = work(control);
            Box::pin(async move { run.await.map(Into::into) })
        });
        Self { name, default_interval, sharing, work }
    }

    /// Its name, such as `key-expiry`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How often it runs where nothing else is configured.
    pub fn default_interval(&self) -> Duration {
        self.default_interval
    }

    /// The setting of its interval, such as `EZ_JOB_KEY_EXPIRY_INTERVAL`.
    pub fn setting(&self) -> String {
        format!("EZ_JOB_{}_INTERVAL", self.name.to_uppercase().replace('-', "_"))
    }

    pub(super) fn work(&self, control: &Control) -> Working {
        (self.work)(control.clone())
    }
}

impl From<u64> for Ran {
    fn from(items: u64) -> Self {
        Self::Items(items)
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("name", &self.name).field("sharing", &self.sharing).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_give_their_settings() {
        let jobs = jobs();
        let names: BTreeSet<&str> = jobs.iter().map(Job::name).collect();
        assert_eq!(names.len(), jobs.len());
        let outbox = jobs.iter().find(|job| job.name() == SYNC_OUTBOX).unwrap();
        assert_eq!(outbox.setting(), "EZ_JOB_SYNC_OUTBOX_INTERVAL");
    }
    #[test]
    fn every_job_is_documented_and_no_other() {
        let page = include_str!("../../../../docs/operations.md");
        let (_, part) = page.split_once("## Jobs").unwrap();
        let (part, _) = part.split_once("## ").unwrap();
        let rows = part.lines().filter(|line| line.starts_with("| `"));
        let documented: BTreeSet<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
        let jobs = jobs();
        assert_eq!(documented, jobs.iter().map(Job::name).collect());
    }
}
