//! Live figures of gateways.

use std::time::Duration;

use ez_contract::live::{LiveFigures, LiveReport};
use redis::AsyncCommands;
use tokio::time::{Instant, sleep};

use crate::backend::Backend;

const GOLDEN: &str = include_str!("../../../ez-contract/goldens/live_report.json");
const LONG: Duration = Duration::from_secs(30);
const BRIEF: Duration = Duration::from_millis(500);

pub(crate) fn golden() -> LiveReport {
    serde_json::from_str(GOLDEN).unwrap()
}

fn of(node_id: &str, requests: u64) -> LiveReport {
    let figures = LiveFigures { requests, ..LiveFigures::default() };
    LiveReport { node_id: node_id.to_owned(), masters: [(1, figures)].into(), ..golden() }
}

pub(crate) async fn figures_stand_for_their_time_and_leave_with_their_gateway(backend: Backend) {
    let (one, two) = (&backend.state, &backend.another().await);
    assert_eq!(one.list_live().await.unwrap(), []);
    one.report_live("b", &golden(), LONG).await.unwrap();
    two.report_live("a", &of("gw-2", 5), LONG).await.unwrap();
    one.report_live("c", &of("gw-3", 7), BRIEF).await.unwrap();
    assert_eq!(two.list_live().await.unwrap(), [of("gw-2", 5), golden(), of("gw-3", 7)], "by run");

    let give_up = Instant::now() + Duration::from_secs(10);
    while two.list_live().await.unwrap().len() == 3 {
        assert!(Instant::now() < give_up, "figures outlast their time");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(two.list_live().await.unwrap(), [of("gw-2", 5), golden()]);

    two.remove_live("a").await.unwrap();
    two.remove_live("of nobody").await.unwrap();
    assert_eq!(one.list_live().await.unwrap(), [golden()]);
}

pub(crate) async fn the_newest_figures_of_a_run_stand(backend: Backend) {
    let state = &backend.state;
    for requests in [3, 2, 9] {
        state.report_live("run", &of("gw-1", requests), LONG).await.unwrap();
    }
    // Another run of the same gateway is another gateway: the old one may still have calls to end.
    state.report_live("run-2", &of("gw-1", 1), LONG).await.unwrap();
    assert_eq!(state.list_live().await.unwrap(), [of("gw-1", 9), of("gw-1", 1)]);
}

#[tokio::test]
async fn the_hash_ends_with_the_last_report_and_damage_is_left_out() {
    let backend = Backend::redis().await;
    let mut raw = backend.raw().await;
    let (live, ends) = (backend.key("stats:live"), backend.key("stats:live_ends"));
    backend.state.report_live("dead", &of("gw-0", 1), Duration::from_millis(1)).await.unwrap();
    sleep(Duration::from_millis(20)).await;
    backend.state.report_live("brief", &of("gw-1", 1), BRIEF).await.unwrap();
    backend.state.report_live("run", &golden(), LONG).await.unwrap();
    backend.state.remove_live("brief").await.unwrap();
    let runs: Vec<String> = raw.hkeys(&live).await.unwrap();
    assert_eq!(runs, ["run"], "what has passed is not kept");
    // Whoever tells of its own figures reads ends alone, which are short.
    let kept: String = raw.hget(&live, "run").await.unwrap();
    assert_eq!(kept, GOLDEN.trim_end());
    let listed: Vec<(String, f64)> = raw.zrange_withscores(&ends, 0, -1).await.unwrap();
    assert_eq!((listed.len(), listed[0].0.as_str()), (1, "run"));
    for key in [&live, &ends] {
        let ttl: i64 = raw.pttl(key).await.unwrap();
        assert!((20_000..=30_000).contains(&ttl), "{key}: {ttl}");
    }

    let _: () = raw.hset(&live, "bad", "{").await.unwrap();
    let _: () = raw.hset(&live, "without an end", GOLDEN).await.unwrap();
    for run in ["bad", "without figures"] {
        let _: () = raw.zadd(&ends, run, listed[0].1).await.unwrap();
    }
    assert_eq!(backend.state.list_live().await.unwrap(), [golden()]);
}
