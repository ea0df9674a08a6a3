//! The figures of a day, from its records one by one.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use ez_contract::UsageRecord;
use ez_contract::usage::EndedBy;
use ez_control::Tenant;
use ez_control::statistics::{Asked, DashboardPeriod, dashboard, statistics};
use ez_store::statistics::{Figures, Grouping, ItemKey, StatisticsFilter};
use rust_decimal::Decimal;

use crate::support::Plane;

/// Of a percentile, relative.
const TOLERANCE: f64 = 0.02;

/// Compares the dashboard, and the statistics by everything, of the system and of two masters.
pub(super) async fn check(plane: &Plane, records: &[UsageRecord], midnight: DateTime<Utc>) {
    let all: Vec<&UsageRecord> = records.iter().collect();
    check_dashboard(plane, &all, midnight).await;
    let (first, last) = (records[0].master_id, records[records.len() - 1].master_id);
    for master_id in [None, Some(first), Some(last)] {
        let records: Vec<&UsageRecord> =
            all.iter().copied().filter(|record| master_id.is_none_or(|id| record.master_id == id)).collect();
        let tenant = master_id.map_or(Tenant::Any, Tenant::Only);
        for by in [
            Grouping::Master,
            Grouping::Key,
            Grouping::Model,
            Grouping::Provider,
            Grouping::ApiKey,
            Grouping::Month,
            Grouping::Day,
            Grouping::Hour,
        ] {
            check_statistics(plane, tenant, by, &records, midnight..midnight + TimeDelta::days(1)).await;
        }
        // From and to odd moments.
        let odd = midnight + TimeDelta::seconds(12_345)..midnight + TimeDelta::milliseconds(54_321_987);
        check_statistics(plane, tenant, Grouping::Model, &records, odd.clone()).await;
        check_statistics(plane, tenant, Grouping::Key, &records, odd).await;
        let hours = midnight + TimeDelta::minutes(590)..midnight + TimeDelta::minutes(820);
        check_statistics(plane, tenant, Grouping::Minute, &records, hours).await;
    }
}

async fn check_dashboard(plane: &Plane, records: &[&UsageRecord], midnight: DateTime<Utc>) {
    let until = Some(midnight + TimeDelta::days(1));
    for period in
        [DashboardPeriod::Between { since: Some(midnight), until }, DashboardPeriod::Days(7), DashboardPeriod::ALL]
    {
        let told = dashboard(&plane.control, period).await.unwrap();
        assert!(told.figures.latency.is_some());
        assert_same(&told.figures, records, "the dashboard");
        assert_eq!((told.masters.total, told.masters.active, told.keys.total), (100, 100, 1_000));
        let mut models = by_key(records, Grouping::Model).into_iter().collect::<Vec<_>>();
        models.sort_by(|(a, a_records), (b, b_records)| (b_records.len(), a).cmp(&(a_records.len(), b)));
        let top: Vec<_> = told.top_models.iter().map(|item| item.key.clone()).collect();
        assert_eq!(top, models.iter().take(10).map(|(key, _)| key.clone()).collect::<Vec<_>>());
    }
}

async fn check_statistics(
    plane: &Plane,
    tenant: Tenant,
    by: Grouping,
    records: &[&UsageRecord],
    period: std::ops::Range<DateTime<Utc>>,
) {
    let asked = Asked {
        by,
        filter: StatisticsFilter::default(),
        since: Some(period.start),
        until: Some(period.end),
        limit: Some(1_000),
    };
    let told = statistics(&plane.control, tenant, asked).await.unwrap().statistics;
    let within: Vec<&UsageRecord> =
        records.iter().copied().filter(|record| period.contains(&record.created_at)).collect();
    let expected = by_key(&within, by);
    assert_eq!(told.items.len(), expected.len(), "{by:?} of {tenant:?}");
    let has_percentiles = tenant == Tenant::Any && !matches!(by, Grouping::Key | Grouping::ApiKey);
    for item in told.items {
        assert!(item.figures.latency.is_some() || !has_percentiles, "{by:?} {:?}", item.key);
        let records = expected.get(&item.key).unwrap_or_else(|| panic!("nothing of {:?} was called", item.key));
        assert_same(&item.figures, records, &format!("{by:?} {:?} of {tenant:?}", item.key));
    }
}

fn by_key<'r>(records: &[&'r UsageRecord], by: Grouping) -> BTreeMap<ItemKey, Vec<&'r UsageRecord>> {
    let mut kinds: BTreeMap<ItemKey, Vec<&UsageRecord>> = BTreeMap::new();
    for record in records {
        let at = |length: TimeDelta| ItemKey::At(record.created_at.duration_trunc(length).unwrap());
        let key = match by {
            Grouping::Model => ItemKey::Model(record.model.clone()),
            Grouping::Master => ItemKey::Id(record.master_id),
            Grouping::Key => ItemKey::Id(record.key_id),
            Grouping::Provider => record.group_id.map_or(ItemKey::None, ItemKey::Id),
            Grouping::Month => ItemKey::At("2026-03-01T00:00:00Z".parse().unwrap()),
            Grouping::Day => at(TimeDelta::days(1)),
            Grouping::Hour => at(TimeDelta::hours(1)),
            Grouping::Minute => at(TimeDelta::minutes(1)),
            Grouping::ApiKey => record.api_key_id.map_or(ItemKey::None, ItemKey::Id),
            Grouping::Total => ItemKey::None,
        };
        kinds.entry(key).or_default().push(record);
    }
    kinds
}

#[track_caller]
fn assert_same(told: &Figures, records: &[&UsageRecord], what: &str) {
    let count = |is: fn(&UsageRecord) -> bool| records.iter().filter(|record| is(record)).count() as u64;
    let sum = |of: fn(&UsageRecord) -> Option<u64>| records.iter().filter_map(|record| of(record)).sum::<u64>();
    let costs: Vec<Decimal> = records.iter().filter_map(|record| record.cost.as_deref()?.parse().ok()).collect();
    let expected = Figures {
        requests: records.len() as u64,
        failures: count(UsageRecord::is_failure),
        limited: count(|record| record.ended_by == EndedBy::Limit),
        streams: count(|record| record.stream),
        input_tokens: sum(|record| record.tokens.input_tokens),
        output_tokens: sum(|record| record.tokens.output_tokens),
        cache_read_tokens: sum(|record| record.tokens.cache_read_tokens),
        cache_write_tokens: sum(|record| record.tokens.cache_write_tokens),
        reasoning_tokens: sum(|record| record.tokens.reasoning_tokens),
        cost: (!costs.is_empty()).then(|| costs.iter().sum::<Decimal>().normalize().to_string()),
        unpriced: count(|record| record.cost.is_none()),
        latency_avg_ms: Some(sum(|record| Some(record.latency_ms)) as f64 / records.len() as f64),
        first_byte_avg_ms: Some(sum(|record| record.first_byte_ms) as f64 / records.len() as f64),
        latency: told.latency,
    };
    assert_eq!(*told, expected, "{what}");
    let Some(percentiles) = told.latency else { return };
    let mut latencies: Vec<u64> = records.iter().map(|record| record.latency_ms).collect();
    latencies.sort_unstable();
    for (percent, told) in [(50, percentiles.p50_ms), (95, percentiles.p95_ms), (99, percentiles.p99_ms)] {
        let exact = latencies[(latencies.len() * percent).div_ceil(100) - 1] as f64;
        assert!((told - exact).abs() <= exact * TOLERANCE, "{what}: p{percent} is {exact} ms, and told as {told}");
    }
}
