//! Live figures: the last minute and the present moment, summed over the gateways that tell of theirs.
//!
//! Gateways tell twice a second of the minute before; what was read is used again for a fifth of a second, however many
//! watch. So figures are wrong by less than a second while the shared state is up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::live::{LIVE_RATE_SECONDS, LiveFigures};
use ez_store::masters as stored;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::chain;
use crate::{Control, ControlError};

/// Masters that the figures of the whole system name, those with the most requests.
pub const MAX_MASTERS: usize = 1_000;
/// How long what was read is used again.
const MAX_AGE: Duration = Duration::from_millis(200);

/// Figures of one master or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Calls that arrived within the last 60 seconds, refused ones included.
    pub requests: u64,
    /// Input and output tokens of calls that ended within the last 60 seconds.
    pub tokens: u64,
    /// Calls a second, the average of the last 10.
    pub qps: f64,
    /// Calls that a limit refused within the last 60 seconds.
    pub limited_requests: u64,
    /// Calls that have arrived and not ended.
    pub in_flight: u64,
    /// Of these, those that asked for a stream.
    pub in_flight_streams: u64,
}

/// What one master has at present.
#[derive(Debug, Clone, PartialEq)]
pub struct MasterRealtime {
    /// Its figures, over all gateways.
    pub figures: Figures,
    /// Gateways that tell of theirs.
    pub gateways: u64,
    /// When they were summed.
    pub as_of: DateTime<Utc>,
}

/// What the whole system has at present.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemRealtime {
    /// The figures over all masters and gateways.
    pub figures: Figures,
    /// Gateways that tell of theirs.
    pub gateways: u64,
    /// When they were summed.
    pub as_of: DateTime<Utc>,
    /// The masters of which there is anything to tell, those with the most requests first: [`MAX_MASTERS`] of them.
    pub masters: Vec<NamedFigures>,
}

/// A master's part in what the system has.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedFigures {
    /// The master's id.
    pub id: i64,
    /// Its name; none where it was deleted within the last minute.
    pub name: Option<String>,
    /// Its figures, over all gateways.
    pub figures: Figures,
}

/// What was read last.
#[derive(Default)]
pub(crate) struct Kept {
    sum: Latest<Sum>,
    system: Latest<SystemRealtime>,
}

/// One reading that all who ask at about the same time share, be it that it failed: in an outage they would wait for each
/// other's time-outs.
struct Latest<T>(Mutex<Option<Reading<T>>>);

struct Reading<T> {
    read_at: Instant,
    /// Or why it failed.
    outcome: Result<Arc<T>, String>,
}

/// The reports of all gateways, added up.
struct Sum {
    total: LiveFigures,
    masters: HashMap<i64, LiveFigures>,
    gateways: u64,
    as_of: DateTime<Utc>,
}

/// The figures of a master, which are all 0 where there is nothing to tell. Who asks has seen to it that there is this
/// master. Errors: `Unavailable` (the shared state).
pub async fn of_master(control: &Control, master_id: i64) -> Result<MasterRealtime, ControlError> {
    let sum = sum(control).await?;
    let figures = sum.masters.get(&master_id).copied().unwrap_or_default();
    Ok(MasterRealtime { figures: figures.into(), gateways: sum.gateways, as_of: sum.as_of })
}

/// The figures of the whole system. Errors: `Unavailable` (the shared state, or the database for the names).
pub async fn of_system(control: &Control) -> Result<Arc<SystemRealtime>, ControlError> {
    let read = async { name(control, &*sum(control).await?).await };
    control.realtime().system.get(read).await
}

async fn sum(control: &Control) -> Result<Arc<Sum>, ControlError> {
    control.realtime().sum.get(add_up(control)).await
}

impl<T> Latest<T> {
    /// What was read a moment ago, else what `read` gets. One reads at a time, and the others wait for that.
    async fn get(&self, read: impl Future<Output = Result<T, ControlError>>) -> Result<Arc<T>, ControlError> {
        let mut kept = self.0.lock().await;
        if let Some(reading) = kept.as_ref().filter(|reading| reading.read_at.elapsed() < MAX_AGE) {
            return reading.outcome.clone().map_err(|reason| ControlError::Unavailable(reason.into()));
        }
        let read = read.await.map(Arc::new);
        let outcome = read.as_ref().map(Arc::clone).map_err(|error| chain(error));
        *kept = Some(Reading { read_at: Instant::now(), outcome });
        read
    }
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

async fn add_up(control: &Control) -> Result<Sum, ControlError> {
    let reports = control.state().list_live().await?;
    let gateways = reports.len() as u64;
    let (mut total, mut masters) = (LiveFigures::default(), HashMap::new());
    for report in reports {
        total += report.others;
        for (id, figures) in report.masters {
            total += figures;
            *masters.entry(id).or_insert_with(LiveFigures::default) += figures;
        }
    }
    Ok(Sum { total, masters, gateways, as_of: control.now() })
}

async fn name(control: &Control, sum: &Sum) -> Result<SystemRealtime, ControlError> {
    let mut busiest: Vec<(i64, LiveFigures)> = sum.masters.iter().map(|(id, figures)| (*id, *figures)).collect();
    busiest.sort_unstable_by_key(|(id, figures)| (std::cmp::Reverse(figures.requests), *id));
    busiest.truncate(MAX_MASTERS);
    let ids: Vec<i64> = busiest.iter().map(|(id, _)| *id).collect();
    let mut names: BTreeMap<i64, String> = stored::list_names(control.store(), &ids).await?.into_iter().collect();
    let masters = busiest
        .into_iter()
        .map(|(id, figures)| NamedFigures { id, name: names.remove(&id), figures: figures.into() })
        .collect();
    Ok(SystemRealtime { figures: sum.total.into(), gateways: sum.gateways, as_of: sum.as_of, masters })
}

impl From<LiveFigures> for Figures {
    fn from(figures: LiveFigures) -> Self {
        Self {
            requests: figures.requests,
            tokens: figures.tokens,
            qps: figures.recent_requests as f64 / LIVE_RATE_SECONDS as f64,
            limited_requests: figures.limited_requests,
            in_flight: figures.in_flight,
            in_flight_streams: figures.in_flight_streams,
        }
    }
}
