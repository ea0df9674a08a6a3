//! A day of made-up calls: quiet traffic of many tenants, and what was planted in it.

use chrono::{DateTime, TimeDelta, Utc};
use ez_contract::UsageRecord;
use ez_contract::provider::{Protocol, ProviderType};
use ez_contract::usage::{EndedBy, TokenUsage, UsageSource};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rust_decimal::Decimal;

pub(super) const MINUTES: i64 = 24 * 60;
pub(super) const MODELS: usize = 20;
const GROUPS: usize = 5;
/// API keys of each group.
const API_KEYS: usize = 3;

/// The tenants of the day: ids as the database gave them.
pub(super) struct Tenants {
    pub(super) masters: Vec<i64>,
    /// Of every master as many, in the order of the masters.
    pub(super) keys: Vec<i64>,
}

/// Makes records. What it makes is the same in every run.
pub(super) struct Traffic<'a> {
    pub(super) tenants: &'a Tenants,
    pub(super) midnight: DateTime<Utc>,
    random: StdRng,
    made: u64,
}

/// Where in the day a call arrives, and whose it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) minute: i64,
    /// Place among the tenants' keys.
    pub(super) key: usize,
}

impl Tenants {
    /// The master that a key belongs to, by their places.
    pub(super) fn master_of(&self, key: usize) -> usize {
        key / (self.keys.len() / self.masters.len())
    }

    /// The places of a master's keys.
    pub(super) fn keys_of(&self, master: usize) -> std::ops::Range<usize> {
        let each = self.keys.len() / self.masters.len();
        master * each..(master + 1) * each
    }
}

impl<'a> Traffic<'a> {
    pub(super) fn new(tenants: &'a Tenants, midnight: DateTime<Utc>) -> Self {
        Self { tenants, midnight, random: StdRng::seed_from_u64(20_261_123), made: 0 }
    }

    /// A call of the quiet traffic: at any time, more of them by day, of any model and of the keys of every other master (for
    /// the others something is planted), a few of them failing.
    pub(super) fn quiet(&mut self) -> UsageRecord {
        let minute = loop {
            let minute = self.random.random_range(0..MINUTES);
            let by_day = (std::f64::consts::PI * minute as f64 / MINUTES as f64).sin();
            if self.random.random_bool(0.3 + 0.7 * by_day) {
                break minute;
            }
        };
        let key = loop {
            let key = self.random.random_range(0..self.tenants.keys.len());
            if self.tenants.master_of(key).is_multiple_of(2) {
                break key;
            }
        };
        let record = self.call(Call { minute, key });
        match self.random.random_range(0..1000) {
            0..2 => refused_by_upstream(record),
            2..4 => faulty(record),
            4..5 => left(record),
            _ => record,
        }
    }

    /// A call that goes well.
    pub(super) fn call(&mut self, Call { minute, key }: Call) -> UsageRecord {
        self.made += 1;
        let micros = self.random.random_range(0..60_000_000);
        let model = self.random.random_range(0..MODELS);
        let group = model % GROUPS;
        let api_key = group * API_KEYS + self.random.random_range(0..API_KEYS);
        let input_tokens = self.random.random_range(20..2_000);
        let output_tokens = self.random.random_range(1..400);
        let cache_read_tokens = if self.random.random_bool(0.3) { input_tokens / 2 } else { 0 };
        // Few are slow, as in life.
        let latency_ms = (80.0 * (self.random.random_range(0.0_f64..6.0)).exp()) as u64;
        let price = Decimal::new(i64::try_from(model).unwrap() * 7 + 1, 11);
        let cost = price * Decimal::from(input_tokens + 4 * output_tokens);
        UsageRecord {
            id: format!("call-{:08}", self.made),
            request_id: format!("req-{:08}", self.made),
            created_at: self.midnight + TimeDelta::minutes(minute) + TimeDelta::microseconds(micros),
            master_id: self.tenants.masters[self.tenants.master_of(key)],
            key_id: self.tenants.keys[key],
            group_id: Some(i64::try_from(group).unwrap() + 1),
            api_key_id: Some(i64::try_from(api_key).unwrap() + 1),
            namespace: "default".to_owned(),
            model: format!("model-{model:02}"),
            upstream_model: Some(format!("vendor/model-{model:02}")),
            protocol: Protocol::OpenaiChat,
            provider_type: Some(ProviderType::Openai),
            status: 200,
            error: None,
            stream: self.random.random_bool(0.5),
            ended_by: EndedBy::Complete,
            attempts: 1,
            latency_ms,
            first_byte_ms: Some(latency_ms / 3),
            tokens: TokenUsage {
                input_tokens: Some(input_tokens),
                output_tokens: Some(output_tokens),
                cache_read_tokens: Some(cache_read_tokens),
                cache_write_tokens: None,
                reasoning_tokens: self.random.random_bool(0.2).then_some(output_tokens / 3),
            },
            usage_source: UsageSource::Exact,
            cost: self.random.random_bool(0.98).then(|| cost.normalize().to_string()),
            price_version: Some("2026-11".to_owned()),
            client_ip: Some("192.0.2.1".to_owned()),
            request_bytes: input_tokens * 4,
            response_bytes: output_tokens * 4,
        }
    }

    /// A call that is over soon, well within its minute: so that the calls of a minute end within one.
    pub(super) fn burst(&mut self, call: Call) -> UsageRecord {
        let record = self.call(call);
        let micros = self.random.random_range(5_000_000..55_000_000);
        let created_at = self.midnight + TimeDelta::minutes(call.minute) + TimeDelta::microseconds(micros);
        let latency_ms = record.latency_ms.min(500);
        UsageRecord { created_at, latency_ms, first_byte_ms: Some(latency_ms / 3), ..record }
    }

    /// How many minutes a gateway hands a record in after its call: nearly always at once.
    pub(super) fn lateness(&mut self) -> i64 {
        if self.random.random_bool(0.01) { self.random.random_range(1..4) } else { 0 }
    }

    /// Whether an answer is lost and the records are handed in again.
    pub(super) fn is_handed_in_twice(&mut self) -> bool {
        self.random.random_bool(0.05)
    }
}

/// The upstream's fault.
pub(super) fn refused_by_upstream(record: UsageRecord) -> UsageRecord {
    let error = Some("the upstream answered 503".to_owned());
    unpaid(UsageRecord { status: 502, ended_by: EndedBy::Upstream, error, ..record })
}

/// The client's fault.
pub(super) fn faulty(record: UsageRecord) -> UsageRecord {
    let error = Some("the upstream answered 400: messages must not be empty".to_owned());
    unpaid(UsageRecord { status: 400, error, ..record })
}

/// The client went away before its answer.
fn left(record: UsageRecord) -> UsageRecord {
    let error = Some("the client left before the call had ended".to_owned());
    UsageRecord { status: 499, ended_by: EndedBy::Client, error, ..record }
}

/// Refused by a limit, so that no upstream was asked.
pub(super) fn limited(record: UsageRecord) -> UsageRecord {
    let error = Some("the limit of 600 requests a minute of the master is used up".to_owned());
    let record = UsageRecord { status: 429, ended_by: EndedBy::Limit, error, attempts: 0, latency_ms: 1, ..record };
    unpaid(UsageRecord { group_id: None, api_key_id: None, upstream_model: None, provider_type: None, ..record })
}

fn unpaid(record: UsageRecord) -> UsageRecord {
    let usage_source = UsageSource::Unknown;
    UsageRecord { tokens: TokenUsage::default(), cost: None, price_version: None, usage_source, ..record }
}
