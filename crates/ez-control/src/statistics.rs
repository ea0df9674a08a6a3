//! Statistics: what calls add up to, by one thing or another; the dashboard; what API keys did between two times.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ez_contract::status::{ApiKeyStatus, KeyStatus, RecordStatus};
use ez_store::statistics::{self as stored, Figures, Grouping, Item, Question, StatisticsFilter};
use ez_store::{StoreError, api_keys as stored_api_keys, child_keys, masters};
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use crate::error::Faults;
use crate::{Control, ControlError, Tenant};

/// Items of an answer at most.
pub const MAX_ITEMS: usize = 1_000;

/// Items of an answer where the caller does not say how many, and they are no stretches of time.
const DEFAULT_ITEMS: usize = 100;

/// The longest that is told by the minute, and by the hour.
const MOST_BY_MINUTE: TimeDelta = TimeDelta::hours(6);
const MOST_BY_HOUR: TimeDelta = TimeDelta::days(31);

/// The longest that is answered from the records themselves.
const MOST_OF_RECORDS: TimeDelta = TimeDelta::hours(24);

/// Questions that are answered from the records themselves, of one process at once: each holds a connection for as long as it
/// takes, and ingestion wants some of these, too.
pub(crate) const QUESTIONS_AT_ONCE: usize = 2;

/// How long another one waits, and when to come again after that.
const PATIENCE: Duration = Duration::from_secs(3);
const COME_AGAIN: Duration = Duration::from_secs(5);

/// The API keys of one answer: more than any installation has.
const MAX_API_KEYS: usize = 100_000;

/// Models that the dashboard lists.
const TOP_MODELS: usize = 10;

/// What statistics are asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What calls are added up by.
    pub by: Grouping,
    /// Which calls count.
    pub filter: StatisticsFilter,
    /// Only those that arrived at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only those that arrived before this time.
    pub until: Option<DateTime<Utc>>,
    /// Items at most, 1 to [`MAX_ITEMS`].
    pub limit: Option<u64>,
}

/// Statistics, with the names of what their items are of.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedStatistics {
    /// The statistics.
    pub statistics: stored::Statistics,
    /// Names by id, of what still exists and has one.
    pub names: BTreeMap<i64, String>,
}

/// A stretch of time of the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DashboardPeriod {
    /// The UTC day of now.
    Today,
    /// The last so many UTC days, today among them.
    Days(u32),
    /// From one time to another; absent ends are open.
    Between {
        /// The first moment of it.
        since: Option<DateTime<Utc>>,
        /// The first moment after it.
        until: Option<DateTime<Utc>>,
    },
}

/// What the dashboard tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Dashboard {
    /// From when on calls count; none has no beginning.
    pub since: Option<DateTime<Utc>>,
    /// Up to when; none has no end.
    pub until: Option<DateTime<Utc>>,
    /// What all calls add up to.
    pub figures: Figures,
    /// The models of most requests.
    pub top_models: Vec<Item>,
    /// Masters, by whether they are active.
    pub masters: Standing,
    /// Child keys.
    pub keys: Standing,
    /// API keys, by status.
    pub provider_keys: BTreeMap<ApiKeyStatus, u64>,
}

/// How many records of a kind there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Of all states.
    pub total: u64,
    /// The active ones.
    pub active: u64,
}

/// What API keys did between two times.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKeysBetween {
    /// From when on calls count, as [`stored::Statistics::since`].
    pub since: Option<DateTime<Utc>>,
    /// Up to when.
    pub until: Option<DateTime<Utc>>,
    /// Figures by the id of the API key of the last attempt: of those that had calls.
    pub api_keys: BTreeMap<i64, Figures>,
}

/// Adds calls up, among those within reach.
///
/// Errors: `TooMuch` for minutes of more than six hours; `Invalid` for ends in the wrong order, a limit out of range, hours
/// of more than 31 days, and more than a day of what no roll-ups tell apart; `TooMuch` also for what takes the database too long;
/// `Busy` where too many ask for what no roll-ups tell apart.
pub async fn statistics(control: &Control, tenant: Tenant, asked: Asked) -> Result<NamedStatistics, ControlError> {
    let mut question = question(&asked)?;
    if let Tenant::Only(master_id) = tenant {
        question.filter.master_id = Some(master_id);
    }
    check_range(&question, control.now())?;
    let statistics = read(control, question).await?;
    let names = stored::names(control.store(), asked.by, &statistics.items).await?;
    Ok(NamedStatistics { statistics, names })
}

/// The dashboard of a stretch of time. Errors: `Invalid` for ends in the wrong order.
pub async fn dashboard(control: &Control, period: DashboardPeriod) -> Result<Dashboard, ControlError> {
    let (since, until) = period.ends(control.now());
    check_order(since, until)?;
    let question = Question {
        by: Grouping::Total,
        filter: StatisticsFilter::default(),
        since,
        until,
        limit: 1,
        percentiles: true,
    };
    let all = answer(control, &question).await?;
    let models = Question { by: Grouping::Model, limit: TOP_MODELS, percentiles: false, ..question };
    let top_models = answer(control, &models).await?.items;
    let store = control.store();
    let mut provider_keys = BTreeMap::new();
    for status in ApiKeyStatus::ALL {
        provider_keys.insert(*status, stored_api_keys::count(store, Some(*status)).await?);
    }
    Ok(Dashboard {
        since: all.since,
        until: all.until,
        figures: all.items.into_iter().next().map(|item| item.figures).unwrap_or_default(),
        top_models,
        masters: Standing {
            total: masters::count(store, None).await?,
            active: masters::count(store, Some(RecordStatus::Active)).await?,
        },
        keys: Standing {
            total: child_keys::count(store, None).await?,
            active: child_keys::count(store, Some(KeyStatus::Active)).await?,
        },
        provider_keys,
    })
}

/// What the API keys of a provider group, or all, did between two times; absent ends are open. Calls count where their last
/// attempt went. Errors: `Invalid` for ends in the wrong order.
pub async fn api_keys_between(
    control: &Control,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    group_id: Option<i64>,
) -> Result<ApiKeysBetween, ControlError> {
    check_order(since, until)?;
    let filter = StatisticsFilter { group_id, ..StatisticsFilter::default() };
    let question = Question { by: Grouping::ApiKey, filter, since, until, limit: MAX_API_KEYS, percentiles: false };
    let found = answer(control, &question).await?;
    let api_keys = found.items.into_iter().filter_map(|item| Some((item.key.id()?, item.figures)));
    Ok(ApiKeysBetween { since: found.since, until: found.until, api_keys: api_keys.collect() })
}

impl DashboardPeriod {
    /// All time.
    pub const ALL: Self = Self::Between { since: None, until: None };

    /// Whole days of them end with the day of now, so that calls of gateways whose clocks are ahead count, too.
    fn ends(self, now: DateTime<Utc>) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
        let days = match self {
            Self::Between { since, until } => return (since, until),
            Self::Today => 1,
            Self::Days(days) => days,
        };
        let tomorrow = now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc() + TimeDelta::days(1);
        (Some(tomorrow - TimeDelta::days(days.into())), Some(tomorrow))
    }
}

fn question(asked: &Asked) -> Result<Question, ControlError> {
    let Asked { by, ref filter, since, until, limit } = *asked;
    let mut faults = Faults::default();
    let default = if by.is_time() { MAX_ITEMS } else { DEFAULT_ITEMS };
    let limit = limit.map_or(default, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    if !(1..=MAX_ITEMS).contains(&limit) {
        faults.add("/limit", format!("limit must be from 1 to {MAX_ITEMS}"));
    }
    if let Err(ControlError::Invalid(order)) = check_order(since, until) {
        order.into_iter().for_each(|fault| faults.add(fault.pointer, fault.message));
    }
    faults.into_result()?;
    Ok(Question { by, filter: filter.clone(), since, until, limit, percentiles: true })
}

fn check_order(since: Option<DateTime<Utc>>, until: Option<DateTime<Utc>>) -> Result<(), ControlError> {
    match (since, until) {
        (Some(since), Some(until)) if since > until => {
            Err(ControlError::invalid_at("/since", "since must not be after until"))
        }
        _ => Ok(()),
    }
}

/// What is not answered from roll-ups, or in many items, is bounded by time. An end that is open is now.
fn check_range(question: &Question, now: DateTime<Utc>) -> Result<(), ControlError> {
    let length = question.since.map(|since| question.until.unwrap_or(now) - since);
    let is_within = |most| length.is_some_and(|length| length <= most);
    let hours = |most: TimeDelta| most.num_hours();
    match question.by {
        Grouping::Minute if !is_within(MOST_BY_MINUTE) => Err(ControlError::TooMuch {
            message: format!(
                "minutes are told of at most {} hours: give a since that is no longer than that before until (or now), or \
                 group by hour",
                hours(MOST_BY_MINUTE)
            ),
        }),
        Grouping::Hour if !is_within(MOST_BY_HOUR) => Err(ControlError::invalid_at(
            "/since",
            format!(
                "hours are told of at most {} days: give a since that is no longer than that before until (or now), or \
                 group by day",
                MOST_BY_HOUR.num_days()
            ),
        )),
        _ if !question.is_rolled_up() && !is_within(MOST_OF_RECORDS) => Err(ControlError::invalid_at(
            "/since",
            format!(
                "calls are not added up by all of this together: leave a filter out, or give a since that is at most {} \
                 hours before until (or now)",
                hours(MOST_OF_RECORDS)
            ),
        )),
        _ => Ok(()),
    }
}

/// Reads statistics; of a child key with those of its master, by whom they are found sooner.
async fn read(control: &Control, mut question: Question) -> Result<stored::Statistics, ControlError> {
    if let (None, Some(key_id)) = (question.filter.master_id, question.filter.key_id) {
        let found = match child_keys::get(control.store(), key_id).await {
            // Its calls are found without, too.
            Err(StoreError::Corrupt { .. }) => None,
            found => found?,
        };
        let narrowed = StatisticsFilter { master_id: found.map(|key| key.master_id), ..question.filter.clone() };
        let narrowed = Question { filter: narrowed, ..question.clone() };
        if narrowed.is_rolled_up() == question.is_rolled_up() {
            question = narrowed;
        }
    }
    answer(control, &question).await
}

/// Reads statistics, those of records a few at once.
async fn answer(control: &Control, question: &Question) -> Result<stored::Statistics, ControlError> {
    let _room = if question.is_rolled_up() { None } else { Some(room(control).await?) };
    stored::read(control.store(), question).await.map_err(|error| match error {
        error if error.took_too_long() => ControlError::TooMuch {
            message:
                "this takes the database too long to add up: give a shorter time, or leave out a filter or group_by"
                    .to_owned(),
        },
        other => other.into(),
    })
}

/// Waits for room among the questions that are answered from records.
async fn room(control: &Control) -> Result<SemaphorePermit<'_>, ControlError> {
    match timeout(PATIENCE, control.questions().acquire()).await {
        Ok(Ok(room)) => Ok(room),
        Ok(Err(_)) | Err(_) => Err(ControlError::Busy {
            message: format!(
                "others are having log records added up one by one: ask again in {} seconds, or for hours, days, or fewer \
                 filters at once, which are added up already",
                COME_AGAIN.as_secs()
            ),
            retry_after: COME_AGAIN,
        }),
    }
}

#[cfg(test)]
mod tests;
