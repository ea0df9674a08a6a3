//! The parts that a stretch of time is read in: whole months, days and hours from roll-ups, what is left at its ends from
//! the records themselves.

use std::ops::Range;

use crate::rollups::{Grain, Kept};

/// How a stretch of time is read; all times are microseconds since 1970. The lowest and the highest stand for no beginning
/// and no end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Period {
    /// What is covered: as asked, but for ends whose records are gone.
    pub(super) covered: Range<i64>,
    /// From roll-ups, and from records that are not rolled up yet.
    pub(super) rolled_up: Range<i64>,
    /// The roll-ups that make `rolled_up`.
    pub(super) parts: Vec<(Grain, Range<i64>)>,
    /// From records, whether rolled up or not.
    pub(super) raw: Vec<Range<i64>>,
}

/// By what grains roll-ups may be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grains {
    pub(super) finest: Grain,
    pub(super) coarsest: Grain,
}

impl Period {
    /// A stretch that is read from records alone.
    pub(super) fn of_records(covered: Range<i64>) -> Self {
        let rolled_up = covered.start..covered.start;
        Self { raw: vec![covered.clone()], covered, rolled_up, parts: Vec::new() }
    }
}

/// Divides a stretch of time that roll-ups answer.
pub(super) fn divide(asked: Range<i64>, grains: Grains, kept: &Kept) -> Period {
    let asked = std::cmp::max(asked.start, kept.rollups)..asked.end;
    if asked.is_empty() {
        return Period::of_records(asked.start..asked.start);
    }
    // Where hours are gone, days are the finest.
    let finest_at = |at: i64| if Grain::Hour.floor(at) < kept.hours { Grain::Day } else { grains.finest };
    let (first, last) = (finest_at(asked.start), finest_at(asked.end));
    let has_records = |from: i64| from >= kept.records;
    let mut begin = first.ceil(asked.start);
    let mut end = last.floor(asked.end);
    if begin > end && has_records(asked.start) {
        // Not even one whole hour.
        return Period::of_records(asked);
    }
    let mut covered = asked.clone();
    let mut raw = Vec::new();
    if begin != asked.start {
        if has_records(asked.start) && begin <= end {
            raw.push(asked.start..begin);
        } else {
            begin = first.floor(asked.start);
            covered.start = begin;
        }
    }
    if end != asked.end {
        if has_records(std::cmp::max(end, begin)) && end >= begin {
            raw.push(end..asked.end);
        } else {
            end = last.ceil(asked.end);
            covered.end = end;
        }
    }
    Period { covered, rolled_up: begin..end, parts: parts(begin..end, grains), raw }
}

/// Roll-ups that make a stretch of whole hours, or days where hours are not kept.
fn parts(whole: Range<i64>, grains: Grains) -> Vec<(Grain, Range<i64>)> {
    let mut parts = Vec::new();
    let (mut begin, mut end) = (whole.start, whole.end);
    let mut finest = grains.finest;
    // The ends of the stretch in one grain, what is between them in the next.
    while finest < grains.coarsest {
        let coarse = if finest == Grain::Hour { Grain::Day } else { Grain::Month };
        let (inner_begin, inner_end) = (coarse.ceil(begin), coarse.floor(end));
        if inner_begin >= inner_end {
            break;
        }
        parts.extend([(finest, begin..inner_begin), (finest, inner_end..end)]);
        (begin, end, finest) = (inner_begin, inner_end, coarse);
    }
    parts.push((finest, begin..end));
    parts.retain(|(_, range)| !range.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};

    const ALL: Grains = Grains { finest: Grain::Hour, coarsest: Grain::Month };
    const DAYS: Grains = Grains { finest: Grain::Day, coarsest: Grain::Month };
    const EVERYTHING: Kept = Kept { records: i64::MIN, hours: i64::MIN, rollups: i64::MIN };

    fn at(text: &str) -> i64 {
        match text {
            "" => i64::MIN,
            "-" => i64::MAX,
            text => format!("2026-{text}:00Z").parse::<DateTime<Utc>>().unwrap().timestamp_micros(),
        }
    }

    /// What is read how, as text: `raw`, `hour`, `day`, `month` and what is covered.
    fn check(grains: Grains, kept: Kept, asked: (&str, &str), expected: &[(&str, &str, &str)]) {
        let period = divide(at(asked.0)..at(asked.1), grains, &kept);
        let mut told: Vec<(&str, Range<i64>)> = vec![("covered", period.covered)];
        told.extend(period.raw.into_iter().map(|range| ("raw", range)));
        let name = |grain| match grain {
            Grain::Hour => "hour",
            Grain::Day => "day",
            Grain::Month => "month",
        };
        told.extend(period.parts.into_iter().map(|(grain, range)| (name(grain), range)));
        let expected: Vec<_> = expected.iter().map(|(how, from, to)| (*how, at(from)..at(to))).collect();
        assert_eq!(told, expected, "{asked:?}");
    }

    #[test]
    fn a_stretch_is_cut_at_hours_days_and_months() {
        check(
            ALL,
            EVERYTHING,
            ("01-30T22:30", "04-02T01:15"),
            &[
                ("covered", "01-30T22:30", "04-02T01:15"),
                ("raw", "01-30T22:30", "01-30T23:00"),
                ("raw", "04-02T01:00", "04-02T01:15"),
                ("hour", "01-30T23:00", "01-31T00:00"),
                ("hour", "04-02T00:00", "04-02T01:00"),
                ("day", "01-31T00:00", "02-01T00:00"),
                ("day", "04-01T00:00", "04-02T00:00"),
                ("month", "02-01T00:00", "04-01T00:00"),
            ],
        );
        check(ALL, EVERYTHING, ("", "-"), &[("covered", "", "-"), ("month", "", "-")]);
        check(
            ALL,
            EVERYTHING,
            ("", "01-01T01:00"),
            &[("covered", "", "01-01T01:00"), ("hour", "01-01T00:00", "01-01T01:00"), ("month", "", "01-01T00:00")],
        );
        check(
            DAYS,
            EVERYTHING,
            ("01-02T01:00", "01-04T02:00"),
            &[
                ("covered", "01-02T01:00", "01-04T02:00"),
                ("raw", "01-02T01:00", "01-03T00:00"),
                ("raw", "01-04T00:00", "01-04T02:00"),
                ("day", "01-03T00:00", "01-04T00:00"),
            ],
        );
    }

    #[test]
    fn what_has_no_whole_hour_is_read_from_records() {
        for asked in [("01-02T01:10", "01-02T01:20"), ("01-02T01:10", "01-02T01:10")] {
            check(ALL, EVERYTHING, asked, &[("covered", asked.0, asked.1), ("raw", asked.0, asked.1)]);
        }
        check(
            ALL,
            EVERYTHING,
            ("01-02T01:10", "01-02T02:20"),
            &[
                ("covered", "01-02T01:10", "01-02T02:20"),
                ("raw", "01-02T01:10", "01-02T02:00"),
                ("raw", "01-02T02:00", "01-02T02:20"),
            ],
        );
    }

    #[test]
    fn ends_whose_records_are_gone_are_widened() {
        let kept = Kept { records: at("01-02T01:30"), ..EVERYTHING };
        check(
            ALL,
            kept,
            ("01-02T01:10", "01-02T02:20"),
            &[
                ("covered", "01-02T01:00", "01-02T02:20"),
                ("raw", "01-02T02:00", "01-02T02:20"),
                ("hour", "01-02T01:00", "01-02T02:00"),
            ],
        );
        check(
            ALL,
            kept,
            ("01-02T01:10", "01-02T01:20"),
            &[("covered", "01-02T01:00", "01-02T02:00"), ("hour", "01-02T01:00", "01-02T02:00")],
        );
        check(
            DAYS,
            kept,
            ("01-02T01:10", "01-02T01:20"),
            &[("covered", "01-02T00:00", "01-03T00:00"), ("day", "01-02T00:00", "01-03T00:00")],
        );
        let kept = Kept { records: at("01-05T01:30"), hours: at("01-05T00:00"), rollups: at("01-01T00:00") };
        check(
            ALL,
            kept,
            ("", "01-05T01:15"),
            &[
                ("covered", "01-01T00:00", "01-05T02:00"),
                ("hour", "01-05T00:00", "01-05T02:00"),
                ("day", "01-01T00:00", "01-05T00:00"),
            ],
        );
        check(
            ALL,
            kept,
            ("01-03T05:00", "01-04T03:00"),
            &[("covered", "01-03T00:00", "01-05T00:00"), ("day", "01-03T00:00", "01-05T00:00")],
        );
    }
}
