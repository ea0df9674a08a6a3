//! Limits of masters and child keys: what a request may ask for, and what stands after it.

use ez_store::child_keys::ChildKey;
use ez_store::masters::Master;

use crate::error::Faults;

/// Highest limit of calls or tokens: what the database can hold.
pub const MAX_COUNT: u64 = i64::MAX as u64;

/// What a request says about limits; what is absent stays as it is, `Some(None)` clears (unlimited). A limit of 0 lets
/// nothing through, except that of calls per second, where it means unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitChange {
    /// Calls per second; 0 means unlimited.
    pub global_qps: Option<u32>,
    /// Calls per minute.
    pub rpm: Option<Option<u64>>,
    /// Tokens per minute, input and output.
    pub tpm: Option<Option<u64>>,
    /// Calls per day.
    pub rpd: Option<Option<u64>>,
    /// Tokens per day, input and output.
    pub tpd: Option<Option<u64>>,
    /// Calls in flight at once.
    pub max_concurrency: Option<Option<u32>>,
}

/// The limits of a record. The default is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StandingLimits {
    pub(crate) global_qps: u32,
    pub(crate) rpm: Option<u64>,
    pub(crate) tpm: Option<u64>,
    pub(crate) rpd: Option<u64>,
    pub(crate) tpd: Option<u64>,
    pub(crate) max_concurrency: Option<u32>,
}

impl LimitChange {
    /// The limits after the change. Notes what the database cannot hold.
    pub(crate) fn over(self, standing: StandingLimits, faults: &mut Faults) -> StandingLimits {
        let counts = [("/rpm", self.rpm), ("/tpm", self.tpm), ("/rpd", self.rpd), ("/tpd", self.tpd)];
        for (pointer, count) in counts {
            check_count(pointer, count.flatten(), faults);
        }
        StandingLimits {
            global_qps: self.global_qps.unwrap_or(standing.global_qps),
            rpm: self.rpm.unwrap_or(standing.rpm),
            tpm: self.tpm.unwrap_or(standing.tpm),
            rpd: self.rpd.unwrap_or(standing.rpd),
            tpd: self.tpd.unwrap_or(standing.tpd),
            max_concurrency: self.max_concurrency.unwrap_or(standing.max_concurrency),
        }
    }
}

impl From<&Master> for StandingLimits {
    fn from(master: &Master) -> Self {
        let &Master { global_qps, rpm, tpm, rpd, tpd, max_concurrency, .. } = master;
        Self { global_qps, rpm, tpm, rpd, tpd, max_concurrency }
    }
}

impl From<&ChildKey> for StandingLimits {
    fn from(key: &ChildKey) -> Self {
        let &ChildKey { global_qps, rpm, tpm, rpd, tpd, max_concurrency, .. } = key;
        Self { global_qps, rpm, tpm, rpd, tpd, max_concurrency }
    }
}

/// Notes a count that the database cannot hold.
pub(crate) fn check_count(pointer: &str, count: Option<u64>, faults: &mut Faults) {
    if count.is_some_and(|count| count > MAX_COUNT) {
        faults.add(pointer, format!("must be a whole number from 0 to {MAX_COUNT}"));
    }
}
