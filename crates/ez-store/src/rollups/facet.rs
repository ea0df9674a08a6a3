//! Facets and grains: by what roll-ups are kept apart.

use chrono::{DateTime, Datelike, Months, NaiveDate, Utc};

/// Microseconds of an hour and of a day.
pub(crate) const HOUR: i64 = 3_600_000_000;
pub(crate) const DAY: i64 = 24 * HOUR;

/// A set of dimensions of a record: a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Dims(i64);

impl Dims {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const MASTER: Self = Self(1);
    pub(crate) const KEY: Self = Self(2);
    pub(crate) const GROUP: Self = Self(4);
    pub(crate) const API_KEY: Self = Self(8);
    pub(crate) const MODEL: Self = Self(16);

    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn holds(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// As the column `facet` has it.
    pub(crate) const fn number(self) -> i64 {
        self.0
    }
}

/// A set of dimensions that records are added up by. A dimension that is not kept is 0, or an empty text, in every row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Facet {
    pub(crate) dims: Dims,
    /// Whether its hours are kept; its days and months always are.
    pub(crate) has_hours: bool,
    /// Whether its latencies are.
    pub(crate) has_latencies: bool,
}

const fn facet(dims: Dims) -> Facet {
    Facet { dims, has_hours: true, has_latencies: false }
}

/// Every facet, those of fewer dimensions first.
pub(crate) const FACETS: [Facet; 10] = [
    Facet { dims: Dims::NONE, has_hours: true, has_latencies: true },
    Facet { dims: Dims::MASTER, has_hours: true, has_latencies: true },
    Facet { dims: Dims::GROUP, has_hours: true, has_latencies: true },
    Facet { dims: Dims::MODEL, has_hours: true, has_latencies: true },
    facet(Dims::MASTER.with(Dims::KEY)),
    facet(Dims::MASTER.with(Dims::GROUP)),
    facet(Dims::MASTER.with(Dims::MODEL)),
    facet(Dims::GROUP.with(Dims::API_KEY)),
    facet(Dims::GROUP.with(Dims::MODEL)),
    // Its hours would be nearly as many as the records.
    Facet { dims: Dims::MASTER.with(Dims::KEY).with(Dims::MODEL), has_hours: false, has_latencies: false },
];

impl Facet {
    /// The one of fewest dimensions that keeps all of these apart.
    pub(crate) fn covering(needed: Dims) -> Option<&'static Self> {
        FACETS.iter().find(|facet| facet.dims.holds(needed))
    }
}

/// How much time a roll-up covers, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Grain {
    Hour,
    Day,
    Month,
}

impl Grain {
    /// As the column `grain` has it.
    pub(crate) const fn number(self) -> i64 {
        match self {
            Self::Hour => 0,
            Self::Day => 1,
            Self::Month => 2,
        }
    }

    /// The beginning of the hour, day or month that a time is in; all in microseconds since 1970.
    pub(crate) fn floor(self, at: i64) -> i64 {
        match self {
            Self::Hour => floor_to(at, HOUR),
            Self::Day => floor_to(at, DAY),
            Self::Month => first_of_month(at).and_then(micros).unwrap_or(at),
        }
    }

    /// The first beginning of one that is not before a time.
    pub(crate) fn ceil(self, at: i64) -> i64 {
        let floor = self.floor(at);
        if floor == at {
            return at;
        }
        match self {
            Self::Hour => floor.saturating_add(HOUR),
            Self::Day => floor.saturating_add(DAY),
            Self::Month => first_of_month(at)
                .and_then(|first| first.checked_add_months(Months::new(1)))
                .and_then(micros)
                .unwrap_or(i64::MAX),
        }
    }
}

/// The beginning of the stretch of this length that a time is in. The lowest and the highest time begin one, as they
/// stand for no beginning and no end.
pub(crate) fn floor_to(at: i64, length: i64) -> i64 {
    if at == i64::MIN || at == i64::MAX { at } else { at.saturating_sub(at.rem_euclid(length)) }
}

fn first_of_month(at: i64) -> Option<NaiveDate> {
    DateTime::<Utc>::from_timestamp_micros(at)?.date_naive().with_day(1)
}

fn micros(date: NaiveDate) -> Option<i64> {
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<DateTime<Utc>>().unwrap().timestamp_micros()
    }

    #[test]
    fn times_are_in_the_hour_day_and_month_that_they_began_in() {
        for (grain, time, floor, ceil) in [
            (Grain::Hour, "2026-02-28T23:59:59.999999Z", "2026-02-28T23:00:00Z", "2026-03-01T00:00:00Z"),
            (Grain::Day, "2026-02-28T23:59:59.999999Z", "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"),
            (Grain::Month, "2026-02-28T23:59:59.999999Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            (Grain::Month, "2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            (Grain::Month, "2025-12-31T00:00:00.000001Z", "2025-12-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            (Grain::Hour, "1969-12-31T23:30:00Z", "1969-12-31T23:00:00Z", "1970-01-01T00:00:00Z"),
            (Grain::Day, "1960-02-29T12:00:00Z", "1960-02-29T00:00:00Z", "1960-03-01T00:00:00Z"),
        ] {
            assert_eq!((grain.floor(at(time)), grain.ceil(at(time))), (at(floor), at(ceil)), "{grain:?} of {time}");
        }
        for grain in [Grain::Hour, Grain::Day, Grain::Month] {
            for end in [i64::MIN, i64::MAX] {
                assert_eq!((grain.floor(end), grain.ceil(end)), (end, end));
            }
        }
    }

    #[test]
    fn the_smallest_facet_that_keeps_enough_answers() {
        let covering = |dims| Facet::covering(dims).map(|facet| facet.dims);
        assert_eq!(covering(Dims::NONE), Some(Dims::NONE));
        assert_eq!(covering(Dims::KEY), Some(Dims::MASTER.with(Dims::KEY)));
        assert_eq!(covering(Dims::API_KEY), Some(Dims::GROUP.with(Dims::API_KEY)));
        assert_eq!(covering(Dims::KEY.with(Dims::MODEL)), Some(Dims::MASTER.with(Dims::KEY).with(Dims::MODEL)));
        assert_eq!(covering(Dims::MASTER.with(Dims::API_KEY)), None);
        assert!(FACETS.is_sorted_by_key(|facet| facet.dims.number().count_ones()));
    }
}
