//! Statistics: the dashboard's days, what API keys did between two times, and the job that rolls up.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ez_contract::UsageRecord;
use ez_control::statistics::{self, Asked, DashboardPeriod};
use ez_control::{Control, ControlError, ControlParts, Tenant, logs, rollups};
use ez_store::statistics::{Grouping, StatisticsFilter};
use ez_store::{Backend, ConnectOptions, Store};

use crate::support::{Plane, config, usage_record};

fn asked(by: Grouping, filter: StatisticsFilter) -> Asked {
    Asked { by, filter, since: None, until: None, limit: None }
}

/// Calls of the last days, each of another hour, by turns of two masters and three API keys.
fn calls(now: DateTime<Utc>) -> Vec<UsageRecord> {
    let call = |number: i64| UsageRecord {
        master_id: 1 + number % 2,
        group_id: Some(1 + number % 3 / 2),
        api_key_id: Some(10 + number % 3),
        status: if number % 5 == 0 { 500 } else { 200 },
        ..usage_record(&format!("call-{number}"), 1, now - TimeDelta::hours(number))
    };
    (0..60).map(call).collect()
}

pub(crate) async fn what_api_keys_did_is_told_between_any_times(plane: Plane) {
    let now = plane.control.now();
    let calls = calls(now);
    logs::ingest(&plane.control, calls.clone()).await.unwrap();
    for is_rolled_up in [false, true] {
        if is_rolled_up {
            assert_eq!(rollups::run_once(&plane.control).await.unwrap(), 60);
            assert_eq!(rollups::run_once(&plane.control).await.unwrap(), 0);
        }
        let (since, until) = (now - TimeDelta::minutes(40 * 60 + 30), now - TimeDelta::minutes(90));
        for group_id in [None, Some(1), Some(2)] {
            let told = statistics::api_keys_between(&plane.control, Some(since), Some(until), group_id).await.unwrap();
            assert_eq!((told.since, told.until), (Some(since), Some(until)));
            let counts = |api_key_id: i64| {
                let within = calls.iter().filter(|call| (since..until).contains(&call.created_at));
                let of_key = within.filter(|call| call.api_key_id == Some(api_key_id));
                let of_group: Vec<_> =
                    of_key.filter(|call| group_id.is_none_or(|id| call.group_id == Some(id))).collect();
                let failures = of_group.iter().filter(|call| call.is_failure()).count() as u64;
                (!of_group.is_empty()).then_some((of_group.len() as u64, failures))
            };
            for api_key_id in 10..13 {
                let figures = told.api_keys.get(&api_key_id);
                let told = figures.map(|figures| (figures.requests, figures.failures));
                assert_eq!(told, counts(api_key_id), "{api_key_id} of {group_id:?}");
            }
        }
    }
    let backwards =
        statistics::api_keys_between(&plane.control, Some(now), Some(now - TimeDelta::hours(1)), None).await;
    assert!(matches!(backwards, Err(ControlError::Invalid(_))), "{backwards:?}");
}

pub(crate) async fn the_dashboards_days_end_with_today(plane: Plane) {
    plane.clock.set("2026-03-01T23:30:00Z".parse().unwrap());
    let now = plane.control.now();
    logs::ingest(&plane.control, calls(now)).await.unwrap();
    let mut ahead = usage_record("ahead", 1, now + TimeDelta::minutes(5));
    ahead.latency_ms = 5;
    logs::ingest(&plane.control, vec![ahead]).await.unwrap();
    let day = now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
    for (period, since) in [
        (DashboardPeriod::Today, day),
        (DashboardPeriod::Days(2), day - TimeDelta::days(1)),
        (DashboardPeriod::Days(7), day - TimeDelta::days(6)),
    ] {
        let told = statistics::dashboard(&plane.control, period).await.unwrap();
        assert_eq!((told.since, told.until), (Some(since), Some(day + TimeDelta::days(1))), "{period:?}");
    }
    let all = statistics::dashboard(&plane.control, DashboardPeriod::ALL).await.unwrap();
    assert_eq!((all.since, all.until, all.figures.requests), (None, None, 61));
    plane.clock.advance(Duration::from_secs(86_400));
    let tomorrow = statistics::dashboard(&plane.control, DashboardPeriod::Today).await.unwrap();
    assert_eq!((tomorrow.since, tomorrow.figures.requests), (Some(day + TimeDelta::days(1)), 0));
}

pub(crate) async fn a_master_adds_up_its_own_calls_alone(plane: Plane) {
    let now = plane.control.now();
    logs::ingest(&plane.control, calls(now)).await.unwrap();
    for is_rolled_up in [false, true] {
        for by in [Grouping::Total, Grouping::Model, Grouping::Key, Grouping::Day, Grouping::Provider, Grouping::Master]
        {
            // Whoever else it asks for.
            let filter = StatisticsFilter { master_id: Some(1), ..StatisticsFilter::default() };
            let own = statistics::statistics(&plane.control, Tenant::Only(2), asked(by, filter)).await.unwrap();
            let requests: u64 = own.statistics.items.iter().map(|item| item.figures.requests).sum();
            assert_eq!(requests, 30, "{by:?}, rolled up: {is_rolled_up}");
        }
        rollups::run_once(&plane.control).await.unwrap();
    }
}

pub(crate) async fn what_takes_too_long_is_told_with_what_to_ask_instead(plane: Plane) {
    let options = ConnectOptions { question_timeout: Duration::from_millis(500), ..ConnectOptions::default() };
    let store = Store::connect(plane.database.url(), options).await.unwrap();
    let parts = ControlParts { store, ..plane.parts_of_another(config()).await };
    let (control, _) = Control::prepare(parts).await.unwrap();
    logs::ingest(&control, calls(control.now())).await.unwrap();
    rollups::run_once(&control).await.unwrap();
    let all = || asked(Grouping::Total, StatisticsFilter::default());
    assert!(statistics::statistics(&control, Tenant::Any, all()).await.is_ok());
    if plane.control.store().backend() == Backend::Postgres {
        plane.database.execute("ALTER TABLE rollups RENAME TO quick_rollups").await;
        plane.database.execute("CREATE VIEW rollups AS SELECT quick.* FROM quick_rollups AS quick, pg_sleep(60)").await;
        let refused = [
            statistics::statistics(&control, Tenant::Any, all()).await.map(drop),
            statistics::dashboard(&control, DashboardPeriod::ALL).await.map(drop),
            statistics::api_keys_between(&control, None, None, None).await.map(drop),
        ];
        for refused in refused {
            let Err(ControlError::TooMuch { message }) = refused else { panic!("{refused:?}") };
            assert!(message.contains("give a shorter time"), "{message}");
        }
    }
}
