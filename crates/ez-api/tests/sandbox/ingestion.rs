//! kill -9 of the control plane and of PostgreSQL while gateways ship what they have: no record is lost, none is doubled, and
//! what is added up of them is what they are.

use std::time::Duration;

use ez_testkit::database::count;
use ez_testkit::postgres_server::PostgresServer;
use ez_testkit::sandbox::{Backends, Sandbox, SandboxOptions, Tenant};
use ez_testkit::upstream::{Behaviour, SimUpstream};

use crate::options;
use crate::traffic::{Traffic, assert_accounted_once};

const GATEWAYS: usize = 2;
const CALLERS: usize = 48;

/// From the last kill until every record is where it belongs.
const ACCOUNTED_WITHIN: Duration = Duration::from_secs(60);

/// What is killed.
#[derive(Debug)]
enum Killed {
    Control,
    Postgres(PostgresServer),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_plane_is_killed_while_gateways_ship() {
    kill_while_gateways_ship(Killed::Control, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_killed_while_gateways_ship() {
    kill_while_gateways_ship(Killed::Postgres(PostgresServer::start().await), 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_on_sqlite_is_killed_while_it_ships() {
    kill_on_sqlite(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_the_control_plane_is_killed_while_gateways_ship() {
    kill_while_gateways_ship(Killed::Control, 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_postgres_is_killed_while_gateways_ship() {
    kill_while_gateways_ship(Killed::Postgres(PostgresServer::start().await), 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_one_process_on_sqlite_is_killed_while_it_ships() {
    kill_on_sqlite(40).await;
}

/// Many small batches, so that a kill meets one at any point of its way.
fn in_small_batches(options: SandboxOptions) -> SandboxOptions {
    options.set("EZ_LOG_BATCH_SIZE", "20").set("EZ_LOG_FLUSH_INTERVAL", "5ms")
}

async fn upstream() -> SimUpstream {
    let behaviour = Behaviour { tokens: 20, tokens_per_second: Some(100.0), ..Behaviour::default() };
    let upstream = SimUpstream::start(behaviour).await.unwrap();
    upstream.set_recording(false);
    upstream
}

/// Never at the same point of what goes on.
async fn some_time(round: u64) {
    tokio::time::sleep(Duration::from_millis(300 + 67 * (round % 7))).await;
}

async fn kill_while_gateways_ship(mut killed: Killed, kills: u64) {
    let upstream = upstream().await;
    let mut options = in_small_batches(SandboxOptions::apart(env!("CARGO_BIN_EXE_ez-api"), GATEWAYS));
    if let Killed::Postgres(postgres) = &killed {
        options = options.set("EZ_DATABASE_URL", postgres.url());
    }
    let mut sandbox = Sandbox::start(options).await.unwrap();
    let tenant = Tenant::create_with_every_protocol(&sandbox, &upstream).await.unwrap();
    let traffic = Traffic::start(&sandbox.every_gateway_as(&tenant.token), CALLERS);
    for round in 0..kills {
        some_time(round).await;
        match &mut killed {
            Killed::Control => {
                sandbox.kill_control().await.unwrap();
                sandbox.restart_control().await.unwrap();
            }
            Killed::Postgres(postgres) => postgres.restart().await,
        }
    }
    some_time(kills).await;
    let tally = traffic.stop().await;
    assert!(tally.failed.is_empty(), "{} failed, first {:?}", tally.failed.len(), tally.failed.first());
    assert!(tally.cut.is_empty(), "{} cut, first {:?}", tally.cut.len(), tally.cut.first());
    assert_accounted_once(&sandbox, &tally.whole, ACCOUNTED_WITHIN).await;
    let logged = assert_books_balance(&sandbox, &tenant).await;
    assert_eq!(logged, tally.whole.len() as i64, "each call was whole");
}

async fn kill_on_sqlite(kills: u64) {
    let upstream = upstream().await;
    let mut sandbox = Sandbox::start(in_small_batches(options(Backends::Embedded))).await.unwrap();
    let tenant = Tenant::create_with_every_protocol(&sandbox, &upstream).await.unwrap();
    let mut whole = std::collections::HashSet::new();
    for round in 0..kills {
        let traffic = Traffic::start(&[sandbox.gateway_as(&tenant.token)], CALLERS);
        some_time(round).await;
        sandbox.kill().await.unwrap();
        whole.extend(traffic.stop().await.whole);
        sandbox.restart().await.unwrap();
    }
    assert_accounted_once(&sandbox, &whole, ACCOUNTED_WITHIN).await;
    let admin = &sandbox.admin();
    let shipped = sandbox.eventually("everything is shipped", ACCOUNTED_WITHIN, || async move {
        let metrics = admin.call(http::Method::GET, "/metrics", "").await?.text();
        Ok(metrics.lines().any(|line| line == "ez_usage_log_depth 0"))
    });
    shipped.await.unwrap();
    let logged = assert_books_balance(&sandbox, &tenant).await;
    assert!(logged >= whole.len() as i64, "{logged} records of {} whole calls", whole.len());
}

/// What was added up with the records is what they come to, and each is in one batch, which stands or is rolled up. Tells how
/// many records there are.
async fn assert_books_balance(sandbox: &Sandbox, tenant: &Tenant) -> i64 {
    let url = sandbox.database_url();
    let number = async |query: &str| count(&url, query).await;
    let logged = number("SELECT count(*) FROM logs").await;
    let tokens = "SELECT CAST(sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)) AS bigint) FROM logs";
    let key = sandbox.admin().get(&format!("/admin/keys/{}", tenant.key_id)).await.unwrap();
    assert_eq!(key["request_count"].as_i64(), Some(logged), "calls that the key counted");
    assert_eq!(key["used_tokens"].as_i64(), Some(number(tokens).await), "tokens that the key counted");
    for (place, most_or_least) in [("where the most are", "max"), ("where the least are", "min")] {
        // In one statement: records may be rolled up at any moment.
        let counted = format!(
            "SELECT (SELECT count(*) FROM logs WHERE batch_id IN (SELECT id FROM log_batches)) +
             (SELECT CAST(coalesce({most_or_least}(total), 0) AS bigint)
              FROM (SELECT sum(requests) AS total FROM rollups GROUP BY facet, grain) AS totals)"
        );
        assert_eq!(number(&counted).await, logged, "records of batches that stand, and rolled up {place}");
    }
    let empty =
        "SELECT count(*) FROM log_batches WHERE NOT EXISTS (SELECT 1 FROM logs WHERE batch_id = log_batches.id)";
    assert_eq!(number(empty).await, 0, "batches without records");
    logged
}
