//! Statistics as anyone would compute them who has all records in memory.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, NaiveTime, TimeDelta, Timelike, Utc};
use ez_contract::UsageRecord;
use ez_contract::usage::EndedBy;
use ez_store::statistics::{Figures, Grouping, ItemKey, Percentiles, Question};
use rust_decimal::Decimal;

/// Counts above are nonsense, and count as this.
const MAX_COUNT: u64 = 10_000_000_000;

/// Compares what was answered with what the records say that count.
pub(crate) fn check(
    records: &[UsageRecord],
    question: &Question,
    context: &str,
    answer: &ez_store::statistics::Statistics,
) {
    let counting = records.iter().filter(|record| counts(record, question));
    let mut by_key: BTreeMap<ItemKey, Vec<&UsageRecord>> = BTreeMap::new();
    for record in counting {
        by_key.entry(key_of(record, question.by)).or_default().push(record);
    }
    let mut expected: Vec<(ItemKey, Vec<&UsageRecord>)> = by_key.into_iter().collect();
    if !question.by.is_time() {
        expected.sort_by_key(|(_, records)| std::cmp::Reverse(records.len()));
    }
    let is_truncated = expected.len() > question.limit;
    assert_eq!(answer.is_truncated, is_truncated, "{context}: {question:?}");
    assert_eq!(answer.items.len(), std::cmp::min(expected.len(), question.limit), "{context}: {question:?}");
    let by_key: BTreeMap<ItemKey, Vec<&UsageRecord>> = expected.clone().into_iter().collect();
    let skipped = if question.by.is_time() { expected.len() - answer.items.len() } else { 0 };
    for (item, (rank_key, of_rank)) in answer.items.iter().zip(expected.iter().skip(skipped)) {
        let context = format!("{context}: {:?} of {question:?}", item.key);
        assert_eq!(item.figures.requests, of_rank.len() as u64, "{context}");
        if question.by.is_time() {
            assert_eq!(&item.key, rank_key, "{context}");
        }
        check_figures(&context, &item.figures, &by_key[&item.key]);
    }
}

fn counts(record: &UsageRecord, question: &Question) -> bool {
    let filter = &question.filter;
    question.since.is_none_or(|since| record.created_at >= since)
        && question.until.is_none_or(|until| record.created_at < until)
        && filter.master_id.is_none_or(|id| record.master_id == id)
        && filter.key_id.is_none_or(|id| record.key_id == id)
        && filter.group_id.is_none_or(|id| record.group_id == Some(id))
        && filter.api_key_id.is_none_or(|id| record.api_key_id == Some(id))
        && filter.model.as_ref().is_none_or(|model| model_of(record) == model)
}

fn model_of(record: &UsageRecord) -> &str {
    let is_unknown = record.namespace.is_empty() || (record.attempts == 0 && record.status == 404);
    if is_unknown { "" } else { &record.model }
}

fn key_of(record: &UsageRecord, by: Grouping) -> ItemKey {
    let id = |id: Option<i64>| id.map_or(ItemKey::None, ItemKey::Id);
    let day = record.created_at.date_naive();
    let midnight = |day: chrono::NaiveDate| ItemKey::At(day.and_time(NaiveTime::MIN).and_utc());
    let cut: fn(DateTime<Utc>) -> TimeDelta = match by {
        Grouping::Minute => |at| TimeDelta::seconds(at.second().into()),
        _ => |at| TimeDelta::seconds((at.minute() * 60 + at.second()).into()),
    };
    match by {
        Grouping::Total => ItemKey::None,
        Grouping::Model => ItemKey::Model(model_of(record).to_owned()),
        Grouping::Master => ItemKey::Id(record.master_id),
        Grouping::Key => ItemKey::Id(record.key_id),
        Grouping::Provider => id(record.group_id),
        Grouping::ApiKey => id(record.api_key_id),
        Grouping::Month => midnight(day.with_day(1).unwrap()),
        Grouping::Day => midnight(day),
        Grouping::Hour | Grouping::Minute => {
            let at = record.created_at - cut(record.created_at);
            ItemKey::At(at - TimeDelta::microseconds(at.timestamp_subsec_micros().into()))
        }
    }
}

fn check_figures(context: &str, told: &Figures, records: &[&UsageRecord]) {
    let sum = |of: &dyn Fn(&UsageRecord) -> Option<u64>| -> u64 {
        records.iter().filter_map(|record| of(record)).map(|count| count.min(MAX_COUNT)).sum()
    };
    let count = |of: &dyn Fn(&UsageRecord) -> bool| records.iter().filter(|record| of(record)).count() as u64;
    let costs: Vec<i128> = records.iter().filter_map(|record| units(record.cost.as_deref()?)).collect();
    let first_bytes = count(&|record| record.first_byte_ms.is_some());
    let expected = Figures {
        requests: records.len() as u64,
        failures: count(&|record| record.is_failure()),
        limited: count(&|record| record.ended_by == EndedBy::Limit),
        streams: count(&|record| record.stream),
        input_tokens: sum(&|record| record.tokens.input_tokens),
        output_tokens: sum(&|record| record.tokens.output_tokens),
        cache_read_tokens: sum(&|record| record.tokens.cache_read_tokens),
        cache_write_tokens: sum(&|record| record.tokens.cache_write_tokens),
        reasoning_tokens: sum(&|record| record.tokens.reasoning_tokens),
        cost: (!costs.is_empty()).then(|| text(costs.iter().sum())),
        unpriced: (records.len() - costs.len()) as u64,
        latency_avg_ms: Some(sum(&|record| Some(record.latency_ms)) as f64 / records.len() as f64),
        latency: told.latency,
        first_byte_avg_ms: (first_bytes > 0).then(|| sum(&|record| record.first_byte_ms) as f64 / first_bytes as f64),
    };
    assert_eq!(told, &expected, "{context}");
    if let Some(Percentiles { p50_ms, p95_ms, p99_ms }) = told.latency {
        let mut latencies: Vec<u64> = records.iter().map(|record| record.latency_ms).collect();
        latencies.sort_unstable();
        for (percent, told) in [(50, p50_ms), (95, p95_ms), (99, p99_ms)] {
            let exact = latencies[(latencies.len() * percent).div_ceil(100) - 1];
            // The histogram ends at 2^46 ms.
            let exact = std::cmp::min(exact, 1 << 46) as f64;
            assert!((told - exact).abs() <= exact * 0.02, "{context}: p{percent} is {exact}, told as {told}");
        }
    }
}

/// A cost in units of 10^-28 dollars; none where it is none.
fn units(cost: &str) -> Option<i128> {
    let cost = Decimal::from_str_exact(cost).ok()?;
    let is_sane = !cost.is_sign_negative() && cost < Decimal::from(10_000_000);
    is_sane.then(|| cost.mantissa() * 10_i128.pow(28 - cost.scale()))
}

fn text(units: i128) -> String {
    let (whole, rest) = (units / 10_i128.pow(28), units % 10_i128.pow(28));
    let text = format!("{whole}.{rest:028}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
