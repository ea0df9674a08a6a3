//! Statistics: what log records of a stretch of time add up to, by one thing or another.
//!
//! Counts, sums and costs are those of the records, exactly and at once: what is rolled up comes from roll-ups, what is not
//! yet and what is left at the ends of the stretch from the records, all of it as it stood at one moment. Percentiles are of
//! histograms, and off by at most one part in 64.

mod figures;
mod names;
mod period;
mod query;
mod source;

use std::ops::Range;

use chrono::{DateTime, Utc};

use crate::rollups::{Dims, Facet};

pub use figures::{Figures, Percentiles};
pub use names::names;
pub use query::{MasterDay, master_days, read};

/// What records are added up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grouping {
    /// All together.
    Total,
    /// The public model.
    Model,
    /// The master.
    Master,
    /// The child key.
    Key,
    /// The provider group of the last attempt.
    Provider,
    /// The API key of the last attempt.
    ApiKey,
    /// The month of arrival, UTC, like all times.
    Month,
    /// The day.
    Day,
    /// The hour.
    Hour,
    /// The minute.
    Minute,
}

/// Which records count. Absent fields don't narrow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatisticsFilter {
    /// Only those of this master; a master's own requests must set it.
    pub master_id: Option<i64>,
    /// Only those of this child key.
    pub key_id: Option<i64>,
    /// Only those whose last attempt went to this provider group.
    pub group_id: Option<i64>,
    /// Only those whose last attempt used this API key.
    pub api_key_id: Option<i64>,
    /// Only those of this public model.
    pub model: Option<String>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What records are added up by.
    pub by: Grouping,
    /// Which count.
    pub filter: StatisticsFilter,
    /// Only those that arrived at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only those that arrived before this time.
    pub until: Option<DateTime<Utc>>,
    /// Items at most: those of most requests, or the latest where time is what they are added up by.
    pub limit: usize,
    /// Whether percentiles of latencies are wanted: their histograms have many more rows than all sums.
    pub percentiles: bool,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// From when on records count: as asked, but earlier where the records of an hour (or day) that was asked for in part are
    /// gone, and later where not even roll-ups are kept. None has no beginning.
    pub since: Option<DateTime<Utc>>,
    /// Up to when; later than asked where the records of an hour (or day) are gone. None has no end.
    pub until: Option<DateTime<Utc>>,
    /// Most requests first; where time is what records are added up by, earliest first. What has no records has no item.
    pub items: Vec<Item>,
    /// Whether there are more items than were asked for.
    pub is_truncated: bool,
}

/// Records of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Of what.
    pub key: ItemKey,
    /// What they add up to.
    pub figures: Figures,
}

/// What the records of an item have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ItemKey {
    /// Nothing: they are all. Or that they reached no provider, where they are added up by that.
    None,
    /// The id of a record of configuration.
    Id(i64),
    /// A model; empty for calls that were refused because no such model exists.
    Model(String),
    /// The minute, hour, day or month that begins here.
    At(DateTime<Utc>),
}

impl Grouping {
    /// Whether items are stretches of time.
    pub fn is_time(self) -> bool {
        matches!(self, Self::Month | Self::Day | Self::Hour | Self::Minute)
    }

    fn dims(self) -> Dims {
        match self {
            Self::Model => Dims::MODEL,
            Self::Master => Dims::MASTER,
            Self::Key => Dims::KEY,
            Self::Provider => Dims::GROUP,
            Self::ApiKey => Dims::API_KEY,
            Self::Total | Self::Month | Self::Day | Self::Hour | Self::Minute => Dims::NONE,
        }
    }
}

impl StatisticsFilter {
    fn dims(&self) -> Dims {
        [
            (self.master_id.is_some(), Dims::MASTER),
            (self.key_id.is_some(), Dims::KEY),
            (self.group_id.is_some(), Dims::GROUP),
            (self.api_key_id.is_some(), Dims::API_KEY),
            (self.model.is_some(), Dims::MODEL),
        ]
        .into_iter()
        .filter(|(is_set, _)| *is_set)
        .fold(Dims::NONE, |dims, (_, dim)| dims.with(dim))
    }
}

impl Question {
    /// Whether roll-ups answer it. Where they don't, every record of the stretch of time is read, which the caller bounds.
    pub fn is_rolled_up(&self) -> bool {
        self.facet().is_some()
    }

    fn facet(&self) -> Option<&'static Facet> {
        let facet = Facet::covering(self.by.dims().with(self.filter.dims()))?;
        let has_grain = match self.by {
            Grouping::Minute => false,
            Grouping::Hour => facet.has_hours,
            _ => true,
        };
        has_grain.then_some(facet)
    }

    /// Microseconds since 1970; the lowest and the highest number stand for no beginning and no end.
    fn range(&self) -> Range<i64> {
        let micros = |at: DateTime<Utc>| at.timestamp_micros();
        self.since.map_or(i64::MIN, micros)..self.until.map_or(i64::MAX, micros)
    }
}
