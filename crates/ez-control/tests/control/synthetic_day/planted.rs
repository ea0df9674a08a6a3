//! What is planted in a day, and the one alert that each of it is to raise.

use ez_contract::UsageRecord;

use super::traffic::{Call, MINUTES, Tenants, Traffic, limited, refused_by_upstream};

/// From where on traffic is a spike; the settings of the day.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spikes {
    pub(super) global_qps: u64,
    pub(super) master_rpm: u64,
    pub(super) master_tpm: u64,
    pub(super) master_rpd: u64,
    pub(super) master_tpd: u64,
}

/// An alert: its type, what it is about, how severe it ends up, and the metric of a spike.
pub(super) type Expected = (&'static str, Option<(&'static str, i64)>, &'static str, Option<&'static str>);

/// The masters that something is planted for, by their places.
const BUSY_MINUTE: usize = 3;
const BUSIER_MINUTE: usize = 5;
const MANY_TOKENS_A_MINUTE: usize = 7;
const BUSY_DAY: usize = 11;
const BUSIER_DAY: usize = 13;
const MANY_TOKENS_A_DAY: usize = 17;
const LIMITED: usize = 19;
const FAILING_KEYS: usize = 23;
const QUOTAS: usize = 29;
const NEARLY: usize = 31;

/// Tokens of each of the keys with a quota.
pub(super) const QUOTA: u64 = 1_000_000;

/// Keys, by their places, that have a quota: one that nearly uses it up, one that does, one that stays far below.
pub(super) fn keys_with_quota(tenants: &Tenants) -> [usize; 3] {
    let first = tenants.keys_of(QUOTAS).start;
    [first, first + 1, first + 2]
}

/// Makes everything that is planted: the calls, and the alerts that are to be there in the end.
pub(super) fn plant(traffic: &mut Traffic<'_>, spikes: Spikes) -> (Vec<UsageRecord>, Vec<Expected>) {
    let tenants = traffic.tenants;
    let master = |place: usize| Some(("master", tenants.masters[place]));
    let key = |place: usize| Some(("key", tenants.keys[place]));
    let mut calls = Vec::new();

    // Everybody at once, so that no master stands out.
    let all = tenants.keys.len();
    let crowd = spikes.global_qps * 60 * 5 / 4;
    calls.extend((0..crowd).map(|n| traffic.burst(Call { minute: 700, key: at(n, all) })));
    let mut expected = vec![("traffic_spike", None, "warning", Some("global_qps"))];

    for (place, minute, calls_of_minute, severity) in [
        (BUSY_MINUTE, 300, spikes.master_rpm * 5 / 4, "warning"),
        (BUSIER_MINUTE, 400, spikes.master_rpm * 9 / 4, "critical"),
    ] {
        calls.extend((0..calls_of_minute).map(|n| {
            let record = traffic.burst(Call { minute, key: of_master(tenants, place, n) });
            // They are a burst when they end, too.
            if place == BUSY_MINUTE { lasting(record, TWO_MINUTES) } else { record }
        }));
        expected.push(("traffic_spike", master(place), severity, Some("master_rpm")));
    }

    let heavy = (0..12).map(|n| {
        with_tokens(
            traffic.burst(Call { minute: 500, key: of_master(tenants, MANY_TOKENS_A_MINUTE, n) }),
            spikes.master_tpm / 10,
        )
    });
    calls.extend(heavy);
    expected.push(("traffic_spike", master(MANY_TOKENS_A_MINUTE), "warning", Some("master_tpm")));

    for (place, calls_of_day, severity) in
        [(BUSY_DAY, spikes.master_rpd * 5 / 4, "warning"), (BUSIER_DAY, spikes.master_rpd * 9 / 4, "critical")]
    {
        calls.extend(
            (0..calls_of_day)
                .map(|n| traffic.call(Call { minute: spread(n, calls_of_day), key: of_master(tenants, place, n) })),
        );
        expected.push(("traffic_spike", master(place), severity, Some("master_rpd")));
    }

    // Many tokens over the day, never many in a minute.
    let rounds = MINUTES as u64 / 2;
    let tokens = spikes.master_tpd * 5 / 4 / rounds;
    calls.extend((0..rounds).map(|n| {
        with_tokens(
            traffic.call(Call { minute: spread(n, rounds), key: of_master(tenants, MANY_TOKENS_A_DAY, n) }),
            tokens,
        )
    }));
    expected.push(("traffic_spike", master(MANY_TOKENS_A_DAY), "warning", Some("master_tpd")));

    calls.extend((0..8).map(|n| limited(traffic.call(Call { minute: 600, key: of_master(tenants, LIMITED, n) }))));
    expected.push(("rate_limit", master(LIMITED), "warning", None));

    // One key fails at a fifth of its calls; another fails as much in too few calls; a third in many, but seldom.
    let keys = tenants.keys_of(FAILING_KEYS);
    for (place, calls_of_key, failures) in [(keys.start, 50, 10), (keys.start + 1, 10, 5), (keys.start + 2, 60, 2)] {
        calls.extend((0..calls_of_key).map(|n| {
            let record = traffic.burst(Call { minute: 800 + i64::from(n % 4), key: place });
            if n < failures { refused_by_upstream(record) } else { record }
        }));
    }
    expected.push(("error_spike", key(keys.start), "warning", None));

    // An API key of its own that few calls of each key go to: three of four fail, each after minutes. Another has too few
    // calls.
    for (api_key_id, calls_of_it, failures) in [(DOWN, 40_u32, 30), (SELDOM, 8, 8)] {
        calls.extend((0..calls_of_it).map(|n| {
            let record = traffic.burst(Call { minute: 900 + i64::from(n % 3), key: at(u64::from(n) * 7, all) });
            let record =
                UsageRecord { api_key_id: Some(api_key_id), group_id: Some(6), ..lasting(record, SIX_MINUTES) };
            if n < failures { refused_by_upstream(record) } else { record }
        }));
    }
    expected.push(("provider_down", Some(("api_key", DOWN)), "warning", None));

    let [nearly, wholly, little] = keys_with_quota(tenants);
    for (place, shares, minute) in [(nearly, 92, 200), (wholly, 101, 250), (little, 50, 260)] {
        // In steps, so that a quota is seen to be nearly used before it is used up.
        calls.extend(
            (0..shares).map(|n| with_tokens(traffic.call(Call { minute: minute + n * 10, key: place }), QUOTA / 100)),
        );
    }
    expected.push(("quota_exceeded", key(nearly), "warning", None));
    expected.push(("quota_exceeded", key(wholly), "critical", None));

    // Just below what is a spike.
    calls.extend(
        (0..spikes.master_rpm * 3 / 4)
            .map(|n| traffic.burst(Call { minute: 1000, key: of_master(tenants, NEARLY, n) })),
    );
    (calls, expected)
}

/// API keys that no quiet call goes to.
const DOWN: i64 = 101;
const SELDOM: i64 = 102;

/// Milliseconds.
const TWO_MINUTES: u64 = 120_000;
const SIX_MINUTES: u64 = 360_000;

fn lasting(record: UsageRecord, latency_ms: u64) -> UsageRecord {
    UsageRecord { latency_ms, ..record }
}

fn with_tokens(mut record: UsageRecord, tokens: u64) -> UsageRecord {
    (record.tokens.input_tokens, record.tokens.output_tokens) = (Some(tokens - tokens / 4), Some(tokens / 4));
    (record.tokens.cache_read_tokens, record.tokens.reasoning_tokens) = (None, None);
    record
}

/// The keys of a master in turn.
fn of_master(tenants: &Tenants, master: usize, n: u64) -> usize {
    let keys = tenants.keys_of(master);
    keys.start + at(n, keys.len())
}

fn at(n: u64, length: usize) -> usize {
    usize::try_from(n).unwrap() % length
}

/// Minutes at equal distances over the day.
fn spread(n: u64, of: u64) -> i64 {
    i64::try_from(n * MINUTES as u64 / of).unwrap()
}
