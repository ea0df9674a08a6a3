//! `/metrics` of a process that has just started: what is alerted on is there before the first of it happens.

use std::collections::BTreeSet;

use ez_testkit::sandbox::Backends;
use http::Method;

use crate::start;

/// Counters whose labels come from what is asked: they come with the first call, attempt or request of their kind.
const OF_TRAFFIC: [&str; 5] = [
    "ez_gateway_calls_total",
    "ez_gateway_requests_total",
    "ez_gateway_tokens_total",
    "ez_gateway_attempts_total",
    "ez_control_requests_total",
];
/// Headings of the parts of the page that a gateway shows, and a control plane.
const PARTS: [&[&str]; 2] = [
    &["## Calls", "## Upstreams", "## A gateway's snapshot and usage log"],
    &["## The control plane's API", "## The control plane's work"],
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_shows_the_counters_of_its_planes_at_0() {
    let [of_gateways, of_control_planes] = PARTS.map(documented);
    let sandbox = start(Backends::Apart).await;
    let gateway = sandbox.gateway_process().call(Method::GET, "/metrics", "").await.unwrap().text();
    assert_eq!(missing(&gateway, &of_gateways), BTreeSet::new(), "{gateway}");
    let control = sandbox.admin().call(Method::GET, "/metrics", "").await.unwrap().text();
    assert_eq!(missing(&control, &of_control_planes), BTreeSet::new(), "{control}");
    let rejected = "ez_log_records_total{outcome=\"rejected\"} 0";
    assert!(control.lines().any(|line| line == rejected), "every outcome by itself: {control}");

    let sandbox = start(Backends::Embedded).await;
    let whole = sandbox.admin().call(Method::GET, "/metrics", "").await.unwrap().text();
    // Of limits that processes share.
    let of_shared = ["ez_limit_leases_total", "ez_limit_alone_calls_total"];
    let of_all = of_gateways.union(&of_control_planes).copied().filter(|name| !of_shared.contains(name));
    assert_eq!(missing(&whole, &of_all.collect()), BTreeSet::new(), "{whole}");
}

/// Counters that the page has under these headings, but those of traffic.
fn documented(headings: &'static [&'static str]) -> BTreeSet<&'static str> {
    let page = include_str!("../../../../docs/metrics.md");
    let mut heading = "";
    let mut names = BTreeSet::new();
    for line in page.lines() {
        if line.starts_with("## ") {
            heading = line;
        }
        let name = line.split('`').nth(1).unwrap_or_default();
        if line.starts_with("| `ez_")
            && line.contains("| counter:")
            && headings.contains(&heading)
            && !OF_TRAFFIC.contains(&name)
        {
            names.insert(name);
        }
    }
    assert!(names.len() > 3, "the page has other headings now: {headings:?}");
    names
}

fn missing<'n>(metrics: &str, names: &BTreeSet<&'n str>) -> BTreeSet<&'n str> {
    let shown: BTreeSet<&str> = metrics.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    names.iter().copied().filter(|name| !shown.contains(name)).collect()
}
