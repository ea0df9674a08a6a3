//! Made-up log records: the same for the same seed, crowded around the borders of hours, days and months.

use chrono::{DateTime, TimeDelta, Utc};
use ez_contract::UsageRecord;
use ez_contract::usage::{EndedBy, TokenUsage, UsageSource};

use crate::logs::record;

/// Numbers that look random (xorshift).
pub(crate) struct Random(u64);

/// Moments around which records are made up.
const MOMENTS: [&str; 8] = [
    "2025-12-31T23:00:00Z",
    "2026-01-01T00:00:00Z",
    "2026-01-01T13:00:00Z",
    "2026-01-15T00:00:00Z",
    "2026-01-15T23:00:00Z",
    "2026-01-31T12:00:00Z",
    "2026-02-01T00:00:00Z",
    "2026-02-28T23:00:00Z",
];

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % end
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// One in so many times.
    pub(crate) fn is_one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Right at, right before, or within hours of one of the moments.
    pub(crate) fn moment(&mut self) -> DateTime<Utc> {
        let moment: DateTime<Utc> = self.pick(&MOMENTS).parse().unwrap();
        let micros = match self.below(4) {
            0 => 0,
            1 => -1,
            2 => i64::try_from(self.below(7_200_000_000)).unwrap() - 3_600_000_000,
            _ => i64::try_from(self.below(40_000_000_000)).unwrap() - 20_000_000_000,
        };
        moment + TimeDelta::microseconds(micros)
    }

    fn count(&mut self) -> Option<u64> {
        match self.below(20) {
            0 => Some(u64::MAX),
            1 => Some(10_000_000_001),
            2..=4 => None,
            _ => Some(self.below(5_000) as u64),
        }
    }

    pub(crate) fn record(&mut self, number: usize) -> UsageRecord {
        let mut record = record(number, self.moment());
        record.master_id = 1 + self.below(4) as i64;
        record.key_id = record.master_id * 10 + self.below(3) as i64;
        record.model = (*self.pick(&["gpt-4.1", "o\"4\\", "{null},", "ü\u{1f980}", ""])).to_owned();
        let group = (!self.is_one_in(5)).then(|| 1 + self.below(3) as i64);
        record.group_id = group;
        record.api_key_id = group.filter(|_| !self.is_one_in(9)).map(|group| group * 10 + self.below(2) as i64);
        record.status = *self.pick(&[200, 200, 200, 201, 399, 400, 404, 429, 499, 500]);
        record.ended_by = *self.pick(&[
            EndedBy::Complete,
            EndedBy::Complete,
            EndedBy::Complete,
            EndedBy::Client,
            EndedBy::Upstream,
            EndedBy::Gateway,
            EndedBy::Limit,
        ]);
        record.stream = self.is_one_in(2);
        record.attempts = self.below(3) as u32;
        if self.is_one_in(10) {
            record.namespace = String::new();
        }
        record.latency_ms = match self.below(30) {
            0 => u64::MAX,
            1..=9 => self.below(64) as u64,
            10..=25 => self.below(3_000) as u64,
            _ => self.below(1_000_000) as u64,
        };
        record.first_byte_ms = (!self.is_one_in(4)).then(|| self.below(2_000) as u64);
        record.tokens = TokenUsage {
            input_tokens: self.count(),
            output_tokens: self.count(),
            cache_read_tokens: self.count(),
            cache_write_tokens: self.count(),
            reasoning_tokens: self.count(),
        };
        record.usage_source = UsageSource::Estimated;
        record.cost = self.cost();
        record
    }

    fn cost(&mut self) -> Option<String> {
        let digits = |random: &mut Self, count: usize| -> String {
            (0..count).map(|_| char::from(b'0' + random.below(10) as u8)).collect()
        };
        match self.below(8) {
            0 | 1 => None,
            2 => Some(format!("0.{}", digits(self, 28))),
            3 => Some(format!("{}.{}", self.below(900_000), digits(self, 20))),
            4 => Some("0".to_owned()),
            // Nonsense counts as unknown.
            5 => Some(self.pick(&["-1", "ten", "10000000", ""]).to_string()),
            _ => Some(format!("0.{}", digits(self, 9))),
        }
    }
}
