//! Three gateways on one Redis keep a limit together, at a price of few round trips.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::Utc;
use ez_testkit::http_client::HttpClient;
use ez_testkit::redis_server::RedisServer;
use ez_testkit::sandbox::{Sandbox, SandboxOptions, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::{Method, StatusCode};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::logs::PLAIN;

const GATEWAYS: usize = 3;
const CALLERS: usize = 12;

/// By how many calls more than N gateways that reach Redis let pass (docs/limits.md).
const BOUND: u64 = 0;

/// The same within the window in which Redis stops answering.
const fn bound_alone(limit: u64) -> u64 {
    if limit > GATEWAYS as u64 { limit } else { GATEWAYS as u64 }
}

/// A call whose estimate is above what it uses.
const BOUNDED: &str = r#"{"model":"gpt-sim","max_tokens":64,"messages":[{"role":"user","content":"hi"}]}"#;

/// What it uses at most: tokens of the sim's answer and of the prompt; and billionths of a dollar, at 1,000 dollars per
/// million tokens.
const USE: u64 = 20;
const NANOS_PER_TOKEN: u64 = 1_000_000;

const DAY: i64 = 86_400;
const MINUTE: i64 = 60;

/// What lies unused at one gateway comes back to the others within this.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(10);

/// Calls that round trips are counted over.
const CALLS: u64 = 1_000;

/// The most round trips for each call, for limits of 1,000 and more per window.
const ROUND_TRIPS_PER_CALL: f64 = 0.05;

/// A tenant behind three gateways with a Redis of their own.
struct Fleet {
    redis: RedisServer,
    upstream: SimUpstream,
    sandbox: Sandbox,
    tenant: Tenant,
}

impl Fleet {
    async fn start() -> Self {
        let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
        upstream.set_recording(false);
        let redis = RedisServer::start().await;
        let options = SandboxOptions::apart(env!("CARGO_BIN_EXE_ez-api"), GATEWAYS);
        let sandbox = Sandbox::start(options.set("EZ_REDIS_URL", redis.url())).await.unwrap();
        let plan = TenantPlan::simple("acme", &upstream.openai_base_url());
        let tenant = Tenant::create(&sandbox, &plan).await.unwrap();
        Self { redis, upstream, sandbox, tenant }
    }

    /// Clients of every gateway with a new key that has these limits, once each serves it.
    async fn issue(&self, limits: &Value) -> Vec<HttpClient> {
        self.issue_of(self.tenant.master_id, limits).await
    }

    async fn issue_of(&self, master_id: i64, limits: &Value) -> Vec<HttpClient> {
        let mut key = json!({"name": "limited"});
        key.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
        let path = format!("/admin/masters/{master_id}/keys");
        let issued = self.sandbox.admin().post(&path, &key).await.unwrap();
        let gateways = self.sandbox.every_gateway_as(issued["token"].as_str().unwrap());
        for gateway in &gateways {
            // A list counts against no limit.
            let known = self.sandbox.eventually("the key is known", Duration::from_secs(10), || async move {
                Ok(gateway.call(Method::GET, "/v1/models", "").await?.status.is_success())
            });
            known.await.unwrap();
        }
        gateways
    }

    /// Puts a price on the model, and waits until every gateway charges it.
    async fn price(&self) {
        let price = NANOS_PER_TOKEN as f64 / 1e9 * 1e6;
        let model = json!({"name": "gpt-sim", "prices": {"input": price, "output": price}});
        self.sandbox.admin().post("/admin/models", &model).await.unwrap();
        for gateway in self.sandbox.every_gateway_as(&self.tenant.token) {
            let priced = self.sandbox.eventually("calls have a price", Duration::from_secs(10), || async {
                let answer = gateway.call(Method::POST, "/v1/chat/completions", BOUNDED).await?;
                Ok(answer.header("x-ez-cost").is_some())
            });
            priced.await.unwrap();
        }
    }

    /// Clients of every gateway with the key of a new master that has these limits.
    async fn issue_to_master(&self, name: &str, limits: &Value) -> Vec<HttpClient> {
        let mut master = json!({ "name": name });
        master.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
        let master = self.sandbox.admin().post("/admin/masters", &master).await.unwrap();
        self.issue_of(master["id"].as_i64().unwrap(), &json!({})).await
    }

    /// Scripts that Redis has run: a lease is one.
    fn scripts_run(&self) -> u64 {
        let stats = self.redis.run(&["INFO", "commandstats"]);
        let scripts =
            stats.lines().filter(|line| line.starts_with("cmdstat_eval") || line.starts_with("cmdstat_fcall"));
        let calls = scripts.map(|line| line.split("calls=").nth(1).unwrap().split(',').next().unwrap());
        calls.map(|count| count.parse::<u64>().unwrap()).sum()
    }

    /// Round trips for slices that the gateways have counted.
    async fn leases(&self) -> u64 {
        self.counted("ez_limit_leases_total").await
    }

    /// Calls that were judged without Redis, as it did not answer its gateway in time.
    async fn alone(&self) -> u64 {
        self.counted("ez_limit_alone_calls_total").await
    }

    /// The sum of a metric over the gateways.
    async fn counted(&self, metric: &str) -> u64 {
        let mut sum = 0;
        for process in self.sandbox.every_gateway_process() {
            let metrics = process.call(Method::GET, "/metrics", "").await.unwrap().text();
            let lines = metrics.lines().filter(|line| line.starts_with(metric));
            sum += lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>();
        }
        sum
    }
}

/// Which gateway each of so many calls goes to, some gateways being busier than others.
fn spread(calls: u64, rng: &mut StdRng) -> Vec<usize> {
    let weights: [u32; GATEWAYS] = [(); GATEWAYS].map(|()| rng.random_range(1..10));
    let total: u32 = weights.iter().sum();
    let mut draw = || {
        let mut ticket = rng.random_range(0..total);
        weights.iter().position(|weight| {
            let wins = ticket < *weight;
            ticket = ticket.saturating_sub(*weight);
            wins
        })
    };
    (0..calls).map(|_| draw().unwrap()).collect()
}

/// What came of calls.
#[derive(Debug, Default)]
struct Sent {
    passed: AtomicU64,
    /// Used by those that passed.
    tokens: AtomicU64,
}

impl Sent {
    fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::SeqCst)
    }
}

/// What was so before the calls of a round, which tells what may pass in it.
struct Round<'f> {
    fleet: &'f Fleet,
    window_seconds: i64,
    window: i64,
    alone: u64,
}

impl<'f> Round<'f> {
    async fn begin(fleet: &'f Fleet, window_seconds: i64) -> Self {
        Self { fleet, window_seconds, window: window_now(window_seconds), alone: fleet.alone().await }
    }

    /// Whether a call was judged without Redis meanwhile.
    async fn is_alone(&self) -> bool {
        self.fleet.alone().await > self.alone
    }

    /// The most that may have passed a limit meanwhile (docs/limits.md), besides what was used beyond what was reserved.
    async fn most(&self, limit: u64) -> u64 {
        let windows = 1 + window_now(self.window_seconds) - self.window;
        let bound = if self.is_alone().await { bound_alone(limit) } else { BOUND };
        windows.unsigned_abs() * (limit + bound)
    }
}

#[expect(clippy::disallowed_methods, reason = "the gateways run in real time")]
fn window_now(seconds: i64) -> i64 {
    Utc::now().timestamp().div_euclid(seconds)
}

/// Sends the calls, a dozen at a time; those that do not pass must be refused by the limit.
async fn send(gateways: &[HttpClient], targets: Vec<usize>, sent: &Arc<Sent>) {
    send_by(CALLERS, gateways, targets, sent).await;
}

/// The same, so many at a time.
async fn send_by(callers_at_once: usize, gateways: &[HttpClient], targets: Vec<usize>, sent: &Arc<Sent>) {
    let (targets, next) = (Arc::new(targets), Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..callers_at_once {
        let (gateways, targets, next, sent) = (gateways.to_vec(), targets.clone(), next.clone(), sent.clone());
        callers.spawn(async move {
            while let Some(target) = targets.get(next.fetch_add(1, Ordering::SeqCst) as usize) {
                let answer = gateways[*target].call(Method::POST, "/v1/chat/completions", BOUNDED).await.unwrap();
                match answer.status {
                    StatusCode::OK => {
                        let tokens = answer.json()["usage"]["total_tokens"].as_u64().unwrap();
                        assert!((1..=USE).contains(&tokens), "{tokens}");
                        sent.tokens.fetch_add(tokens, Ordering::SeqCst);
                        sent.passed.fetch_add(1, Ordering::SeqCst);
                    }
                    StatusCode::TOO_MANY_REQUESTS => {
                        // A quota that never starts anew does not say when.
                        let is_quota = answer.json()["error"]["code"] == "insufficient_quota";
                        assert!(is_quota || answer.header("retry-after").is_some(), "{:?}", answer.headers);
                    }
                    other => panic!("{other}: {}", answer.text()),
                }
            }
        });
    }
    callers.join_all().await;
}

/// A key with a limit of N calls a day, called more often than that: so many pass, and not one more. By how many more did,
/// where calls were judged without Redis.
async fn call_beyond(fleet: &Fleet, limit: u64, seed: u64, rng: &mut StdRng) -> Option<u64> {
    let gateways = fleet.issue(&json!({ "rpd": limit })).await;
    let (sent, round) = (Arc::<Sent>::default(), Round::begin(fleet, DAY).await);
    send(&gateways, spread(limit + limit / 2 + 20, rng), &sent).await;
    let give_up = Instant::now() + GIVEN_BACK_WITHIN;
    while sent.passed() < limit && Instant::now() < give_up {
        send(&gateways, spread(GATEWAYS as u64 * 2, rng), &sent).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(sent.passed() >= limit, "a limit of {limit} cannot be used up (seed {seed}): {sent:?}");
    send(&gateways, (0..GATEWAYS).collect(), &sent).await;
    let most = round.most(limit).await;
    assert!(sent.passed() <= most, "a limit of {limit}, {most} at most (seed {seed}): {sent:?}");
    round.is_alone().await.then(|| sent.passed().saturating_sub(limit))
}

/// Tokens, quota and budget: more is used than the limit only by calls that are let in on less than they use.
#[expect(clippy::print_stdout, reason = "the figures are what is asked for")]
async fn tokens_and_money_are_limited_together(fleet: &Fleet, rounds: u64) {
    let mut over = [0; 3];
    for seed in 0..rounds {
        let rng = &mut StdRng::seed_from_u64(seed);
        let limit = rng.random_range(1_000..3_000);
        let dollars = format!("{:.3}", (limit * NANOS_PER_TOKEN) as f64 / 1e9);
        let budget = json!({ "monthly_budget": dollars });
        // Estimates are never below what is used. One after the other, the last call of each gateway may find less left of a
        // quota or budget than it uses.
        let last_calls = GATEWAYS as u64 * USE;
        let cases = [
            (fleet.issue(&json!({ "tpm": limit })).await, MINUTE, CALLERS, 0),
            (fleet.issue(&json!({ "quota_limit": limit })).await, DAY, 1, last_calls),
            (fleet.issue_to_master(&format!("budget-{seed}-{limit}"), &budget).await, DAY, 1, last_calls),
        ];
        for (over, (gateways, window, callers, beyond)) in over.iter_mut().zip(cases) {
            let (sent, round) = (Arc::<Sent>::default(), Round::begin(fleet, window).await);
            send_by(callers, &gateways, spread(limit / USE * 3, rng), &sent).await;
            let (tokens, most) = (sent.tokens(), round.most(limit).await + beyond);
            assert!(
                (limit / 4..=most).contains(&tokens),
                "{limit} tokens in {window} s, {most} at most (seed {seed}): {tokens}"
            );
            *over = tokens.saturating_sub(limit).max(*over);
        }
    }
    println!("{rounds} rounds of tokens: at most {over:?} over by tpm, quota and budget");
}

#[expect(clippy::print_stdout, reason = "the figures are what is asked for")]
async fn keep_limits(fleet: &Fleet, rounds: u64) {
    let mut alone = Vec::new();
    for seed in 0..rounds {
        let rng = &mut StdRng::seed_from_u64(seed);
        for limit in [1, rng.random_range(2..20), rng.random_range(20..200)] {
            alone.extend(call_beyond(fleet, limit, seed, rng).await.map(|over| (limit, over)));
        }
    }
    println!("{} limits kept, {} of them also while Redis was slow: (limit, over) {alone:?}", rounds * 3, alone.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_gateways_keep_a_limit_together() {
    let fleet = Fleet::start().await;
    fleet.price().await;
    keep_limits(&fleet, 3).await;
    tokens_and_money_are_limited_together(&fleet, 1).await;
    a_limit_without_redis_is_kept_within_its_bound(&fleet, &mut StdRng::seed_from_u64(1)).await;
    calls_in_flight_are_limited_together(&fleet).await;
    a_thousand_calls_take_few_round_trips(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_three_gateways_keep_limits_together() {
    let fleet = Fleet::start().await;
    fleet.price().await;
    keep_limits(&fleet, 200).await;
    tokens_and_money_are_limited_together(&fleet, 30).await;
    for seed in 0..20 {
        a_limit_without_redis_is_kept_within_its_bound(&fleet, &mut StdRng::seed_from_u64(seed)).await;
        calls_in_flight_are_limited_together(&fleet).await;
        a_thousand_calls_take_few_round_trips(&fleet).await;
    }
}

/// Redis stops answering in the middle of the window: each gateway goes on with what it has and with its equal part.
async fn a_limit_without_redis_is_kept_within_its_bound(fleet: &Fleet, rng: &mut StdRng) {
    let limit = rng.random_range(30..90);
    let gateways = fleet.issue(&json!({ "rpd": limit })).await;
    let sent = Arc::<Sent>::default();
    send(&gateways, spread(rng.random_range(0..limit), rng), &sent).await;
    fleet.redis.pause();
    send(&gateways, spread(limit * 3, rng), &sent).await;
    fleet.redis.resume();
    let passed = sent.passed();
    // Some gateways get fewer calls than their part.
    assert!(passed >= limit / 2, "only {passed} of {limit} calls passed without Redis");
    assert!(passed <= limit + bound_alone(limit), "{passed} calls passed a limit of {limit} without Redis");
    let shared = fleet.sandbox.eventually("limits are shared again", GIVEN_BACK_WITHIN, || async {
        let mut alone = false;
        for process in fleet.sandbox.every_gateway_process() {
            let metrics = process.call(Method::GET, "/metrics", "").await?.text();
            alone |= metrics.lines().any(|line| line == "ez_limits_alone 1");
        }
        Ok(!alone)
    });
    shared.await.unwrap();
}

async fn calls_in_flight_are_limited_together(fleet: &Fleet) {
    const LIMIT: u64 = 7;
    let gateways = fleet.issue(&json!({ "max_concurrency": LIMIT })).await;
    fleet.upstream.set(Behaviour { first_byte_delay: Duration::from_secs(2), ..Behaviour::default() });
    for _ in 0..2 {
        let mut calls = JoinSet::new();
        for number in 0..30 {
            let gateway = gateways[number % GATEWAYS].clone();
            calls.spawn(async move { gateway.call(Method::POST, "/v1/chat/completions", PLAIN).await.unwrap().status });
        }
        let statuses = calls.join_all().await;
        let passed = statuses.iter().filter(|status| status.is_success()).count() as u64;
        assert!((1..=LIMIT + BOUND).contains(&passed), "{passed} calls at once passed a limit of {LIMIT}");
        assert!(statuses.iter().all(|status| status.is_success() || *status == StatusCode::TOO_MANY_REQUESTS));
    }
    fleet.upstream.set(Behaviour::default());
}

/// A whole limit of a thousand used up; and a thousand calls under larger ones of every kind.
async fn a_thousand_calls_take_few_round_trips(fleet: &Fleet) {
    count_round_trips(fleet, &json!({ "rpd": CALLS })).await;
    let every_kind = json!({"rpd": CALLS * 10, "rpm": CALLS * 10, "tpd": CALLS * 1_000_000, "max_concurrency": CALLS});
    count_round_trips(fleet, &every_kind).await;
}

#[expect(clippy::print_stdout, reason = "the figure is what is asked for")]
async fn count_round_trips(fleet: &Fleet, limits: &Value) {
    let gateways = fleet.issue(limits).await;
    // What else runs scripts, each second.
    let idle = (Instant::now(), fleet.scripts_run());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let idle_rate = (fleet.scripts_run() - idle.1) as f64 / idle.0.elapsed().as_secs_f64();
    let (began, scripts, leases) = (Instant::now(), fleet.scripts_run(), fleet.leases().await);
    let (sent, round) = (Arc::<Sent>::default(), Round::begin(fleet, DAY).await);
    send(&gateways, spread(CALLS, &mut StdRng::seed_from_u64(7)), &sent).await;
    let passed = sent.passed();
    let seconds = began.elapsed().as_secs_f64();
    let scripts = (fleet.scripts_run() - scripts) as f64 - idle_rate * seconds;
    let leases = fleet.leases().await - leases;
    println!("{CALLS} calls in {seconds:.1} s, {leases} leases, {scripts:.0} scripts, under {limits}");
    // A gateway on its own allows its part alone.
    let least = if round.is_alone().await { CALLS / 2 } else { CALLS * 3 / 4 };
    assert!(passed > least, "{passed} of {CALLS} calls passed");
    for count in [leases as f64, scripts] {
        assert!(count / (CALLS as f64) < ROUND_TRIPS_PER_CALL, "{count} round trips for {CALLS} calls");
    }
}
