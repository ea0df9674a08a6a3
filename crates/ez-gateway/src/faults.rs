//! Faults of this gateway that somebody should look into: told to the control plane, which makes alerts of them. Off the way
//! of calls, and each at most once in five minutes.

use std::sync::Arc;
use std::time::Duration;

use ez_contract::alerts::{AlertFinding, AlertSeverity, AlertType};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::control_link::ControlLink;
use crate::usage_log::{UsageLog, UsageLogFaults};

/// How often to look.
const INTERVAL: Duration = Duration::from_secs(1);
/// The least time between two reports of one fault.
const COOLDOWN: Duration = Duration::from_secs(300);
/// How long to wait where the control plane does not listen.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Who tells, of what, and to whom.
pub(crate) struct FaultReporter {
    pub(crate) node_id: String,
    pub(crate) usage_log: UsageLog,
    pub(crate) control_link: Arc<dyn ControlLink>,
}

/// What can be at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The disk of the usage log refuses records.
    Disk,
    /// The usage log holds as much as it may.
    Full,
    /// The control plane rejected usage records.
    Rejected,
    /// Nothing could store usage records.
    Lost,
    /// Segments of the usage log are damaged.
    Damaged,
}

/// What was told, and when.
#[derive(Debug, Default)]
struct Told {
    disk: Lasting,
    full: Lasting,
    rejected: Counted,
    lost: Counted,
    damaged: Counted,
}

/// A fault that lasts: told at once, and again after a while where it still does.
#[derive(Debug, Default)]
struct Lasting {
    told_at: Option<Instant>,
    /// Whether it was there when it was due, though it may be over by the time that somebody listens.
    is_untold: bool,
}

/// A fault that is counted: told where there are more than were told.
#[derive(Debug, Default)]
struct Counted {
    told: u64,
    told_at: Option<Instant>,
}

/// Reports until `stop`.
pub(crate) async fn report_faults(reporter: FaultReporter, stop: CancellationToken) {
    let mut told = Told::default();
    let mut last_failure = String::new();
    loop {
        let faults = reporter.usage_log.faults();
        let due = told.due(&faults, Instant::now());
        let mut pause = INTERVAL;
        if !due.is_empty() {
            let findings: Vec<AlertFinding> =
                due.iter().map(|fault| fault.finding(&reporter.node_id, &faults)).collect();
            let heard = tokio::select! {
                heard = reporter.control_link.report_alerts(&findings) => heard,
                () = stop.cancelled() => return,
            };
            match heard {
                Ok(()) => {
                    told.note(&due, &faults, Instant::now());
                    last_failure.clear();
                }
                Err(e) => {
                    pause = RETRY_AFTER;
                    let failure = e.to_string();
                    if failure != last_failure {
                        tracing::warn!(error = failure, "faults of this gateway not reported; trying again");
                    }
                    last_failure = failure;
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Told {
    /// What there is to tell.
    fn due(&mut self, faults: &UsageLogFaults, now: Instant) -> Vec<Fault> {
        // Segments that somebody moved away make room for others to be news.
        self.damaged.told = self.damaged.told.min(faults.damaged_segments);
        let causes = [
            (Fault::Disk, self.disk.is_due(faults.is_failing, now)),
            (Fault::Full, self.full.is_due(faults.is_full, now)),
            (Fault::Rejected, self.rejected.is_due(faults.rejected, now)),
            (Fault::Lost, self.lost.is_due(faults.lost, now)),
            (Fault::Damaged, self.damaged.is_due(faults.damaged_segments, now)),
        ];
        causes.into_iter().filter_map(|(fault, is_due)| is_due.then_some(fault)).collect()
    }

    fn note(&mut self, due: &[Fault], faults: &UsageLogFaults, now: Instant) {
        for fault in due {
            match fault {
                Fault::Disk => self.disk.note(now),
                Fault::Full => self.full.note(now),
                Fault::Rejected => self.rejected.note(faults.rejected, now),
                Fault::Lost => self.lost.note(faults.lost, now),
                Fault::Damaged => self.damaged.note(faults.damaged_segments, now),
            }
        }
    }
}

impl Lasting {
    fn is_due(&mut self, is_there: bool, now: Instant) -> bool {
        self.is_untold |= is_there && has_cooled(self.told_at, now);
        self.is_untold
    }

    fn note(&mut self, now: Instant) {
        (self.told_at, self.is_untold) = (Some(now), false);
    }
}

impl Counted {
    fn is_due(&self, count: u64, now: Instant) -> bool {
        count > self.told && has_cooled(self.told_at, now)
    }

    fn note(&mut self, count: u64, now: Instant) {
        (self.told, self.told_at) = (count, Some(now));
    }
}

fn has_cooled(told_at: Option<Instant>, now: Instant) -> bool {
    told_at.is_none_or(|at| now.saturating_duration_since(at) >= COOLDOWN)
}

impl Fault {
    fn finding(self, node_id: &str, faults: &UsageLogFaults) -> AlertFinding {
        let (name, severity, title, message, metadata) = match self {
            Self::Disk => (
                "disk",
                AlertSeverity::Critical,
                "the disk of a gateway's usage log refuses records",
                "calls are refused until it takes them again; see that the disk has room and works",
                json!({ "bytes": faults.bytes, "waiting_records": faults.records }),
            ),
            Self::Full => (
                "full",
                AlertSeverity::Critical,
                "a gateway's usage log is full",
                "calls are refused until the control plane takes what waits; see that it is there and keeps up, or give \
                 the log more room with EZ_USAGE_LOG_MAX_BYTES",
                json!({ "bytes": faults.bytes, "waiting_records": faults.records }),
            ),
            Self::Rejected => (
                "rejected",
                AlertSeverity::Warning,
                "the control plane rejected usage records",
                "they are kept in rejected.jsonl of the gateway's usage log, each with its reason; mend them and hand \
                 them in again",
                json!({ "rejected_records": faults.rejected }),
            ),
            Self::Lost => (
                "lost",
                AlertSeverity::Critical,
                "usage records of a gateway are lost",
                "nothing could store them; the gateway's process log has a line for each, with its tokens: account for \
                 them by hand",
                json!({ "lost_records": faults.lost }),
            ),
            Self::Damaged => (
                "damage",
                AlertSeverity::Critical,
                "a gateway's usage log is damaged",
                "what can be read was shipped, and the damaged segments are kept; look into them and into the disk, then \
                 move them away",
                json!({ "damaged_segments": faults.damaged_segments }),
            ),
        };
        AlertFinding {
            alert_type: AlertType::System,
            severity,
            title: title.to_owned(),
            message: message.to_owned(),
            related_type: Some("gateway".to_owned()),
            related_id: None,
            metadata: metadata.as_object().cloned().unwrap_or_default(),
            fingerprint: format!("system:usage_log_{name}:gateway:{node_id}"),
            related_name: Some(node_id.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: UsageLogFaults = UsageLogFaults {
        is_failing: false,
        is_full: false,
        rejected: 0,
        lost: 0,
        damaged_segments: 0,
        records: 3,
        bytes: 4_096,
    };
    const ALL: UsageLogFaults =
        UsageLogFaults { is_failing: true, is_full: true, rejected: 1, lost: 1, damaged_segments: 1, ..NONE };

    #[test]
    fn each_fault_is_told_once_in_five_minutes() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut told = Told::default();
        let mut look = |faults: UsageLogFaults, seconds: u64| {
            let due = told.due(&faults, at(seconds));
            told.note(&due, &faults, at(seconds));
            due
        };
        let (failing, full) = (UsageLogFaults { is_failing: true, ..NONE }, UsageLogFaults { is_full: true, ..NONE });
        assert_eq!(look(NONE, 0), []);
        assert_eq!(look(failing, 1), [Fault::Disk]);
        assert_eq!(look(failing, 300), []);
        assert_eq!(look(failing, 301), [Fault::Disk], "as long as it lasts");
        assert_eq!(look(full, 302), [Fault::Full]);
        assert_eq!(look(full, 400), []);
        assert_eq!(look(NONE, 700), []);
        let counted = |rejected, lost, damaged_segments| UsageLogFaults { rejected, lost, damaged_segments, ..NONE };
        assert_eq!(look(counted(2, 3, 1), 701), [Fault::Rejected, Fault::Lost, Fault::Damaged]);
        assert_eq!(look(counted(9, 4, 1), 702), []);
        assert_eq!(look(counted(9, 4, 1), 1_001), [Fault::Rejected, Fault::Lost], "of more that came since");
        assert_eq!(look(counted(9, 4, 1), 2_000), []);
        assert_eq!(look(counted(9, 4, 0), 2_001), []);
        assert_eq!(look(counted(9, 4, 1), 2_002), [Fault::Damaged], "another one");
    }

    #[test]
    fn what_was_not_heard_stays_to_be_told() {
        let mut told = Told::default();
        let now = Instant::now();
        let due = told.due(&ALL, now);
        assert_eq!(told.due(&ALL, now + INTERVAL), due);
        let over = UsageLogFaults { is_failing: false, is_full: false, ..ALL };
        assert_eq!(told.due(&over, now + INTERVAL), due, "calls were refused, though none is any more");
        let findings: Vec<AlertFinding> = due.iter().map(|fault| fault.finding("gateway-1", &ALL)).collect();
        let severities: Vec<_> = findings.iter().map(|found| (found.severity, found.fingerprint.as_str())).collect();
        let expected = [
            (AlertSeverity::Critical, "system:usage_log_disk:gateway:gateway-1"),
            (AlertSeverity::Critical, "system:usage_log_full:gateway:gateway-1"),
            (AlertSeverity::Warning, "system:usage_log_rejected:gateway:gateway-1"),
            (AlertSeverity::Critical, "system:usage_log_lost:gateway:gateway-1"),
            (AlertSeverity::Critical, "system:usage_log_damage:gateway:gateway-1"),
        ];
        assert_eq!(severities, expected);
        told.note(&due, &over, now + INTERVAL);
        assert_eq!(told.due(&over, now + COOLDOWN * 2), []);
    }
}
