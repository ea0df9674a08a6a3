//! Log records: ingestion counts each once, lists skip and repeat none.

use chrono::{DateTime, Utc};
use ez_contract::UsageRecord;
use ez_contract::provider::{Protocol, ProviderType};
use ez_contract::usage::{EndedBy, TokenUsage, UsageSource};
use ez_store::logs::{self, LogFilter};
use ez_store::{Store, StoreError};

use crate::fixture::{Fixture, at};

/// Stores records; how many were new.
pub(crate) async fn ingest(store: &Store, records: &[UsageRecord]) -> Result<u64, StoreError> {
    let are_new = ingest_each(store, records).await?;
    Ok(are_new.into_iter().filter(|is_new| *is_new).count() as u64)
}

/// Stores records; of each whether it was new.
pub(crate) async fn ingest_each(store: &Store, records: &[UsageRecord]) -> Result<Vec<bool>, StoreError> {
    logs::ingest_with_bodies(store, records, &[]).await
}

pub(crate) fn record(number: usize, created_at: DateTime<Utc>) -> UsageRecord {
    UsageRecord {
        id: format!("log-{number:05}"),
        request_id: format!("req-{number}"),
        created_at,
        master_id: 1,
        key_id: 2,
        group_id: Some(3),
        api_key_id: None,
        namespace: "default".to_owned(),
        model: "gpt-4.1".to_owned(),
        upstream_model: Some("gpt-4.1-2025".to_owned()),
        protocol: Protocol::AnthropicMessages,
        provider_type: Some(ProviderType::Openai),
        status: 200,
        error: None,
        stream: true,
        ended_by: EndedBy::Complete,
        attempts: 1,
        latency_ms: 1234,
        first_byte_ms: Some(56),
        tokens: TokenUsage { input_tokens: Some(10), output_tokens: Some(0), ..TokenUsage::default() },
        usage_source: UsageSource::Exact,
        cost: Some("0.000000375".to_owned()),
        price_version: Some("2026-11-01".to_owned()),
        client_ip: Some("2001:db8::1".to_owned()),
        request_bytes: 2048,
        response_bytes: 0,
    }
}

fn records(numbers: std::ops::Range<usize>) -> Vec<UsageRecord> {
    numbers.map(|number| record(number, at(0))).collect()
}

fn year(year: i32) -> DateTime<Utc> {
    chrono::NaiveDate::from_ymd_opt(year, 1, 1).unwrap().and_time(chrono::NaiveTime::MIN).and_utc()
}

async fn list_all(db: &Fixture, filter: &LogFilter) -> Vec<String> {
    let found = logs::list(&db.store, filter, None, 10_000).await.unwrap();
    assert_eq!(found.next, None);
    found.items.into_iter().map(|record| record.id).collect()
}

pub(crate) async fn every_field_comes_back(db: Fixture) {
    let full = record(1, at(0));
    let mut bare = record(2, at(1));
    (bare.group_id, bare.api_key_id, bare.upstream_model, bare.provider_type) = (None, Some(9), None, None);
    (bare.first_byte_ms, bare.cost, bare.price_version, bare.client_ip) = (None, None, None, None);
    (bare.status, bare.error, bare.ended_by) = (499, Some("client left".to_owned()), EndedBy::Client);
    bare.tokens = TokenUsage { reasoning_tokens: Some(7), cache_read_tokens: Some(8), ..TokenUsage::default() };
    bare.usage_source = UsageSource::Unknown;
    assert_eq!(ingest(&db.store, &[full.clone(), bare.clone()]).await.unwrap(), 2);
    assert_eq!(logs::get(&db.store, &full.id).await.unwrap(), Some(full));
    assert_eq!(logs::get(&db.store, &bare.id).await.unwrap(), Some(bare));
    assert_eq!(logs::get(&db.store, "nowhere").await.unwrap(), None);
}

pub(crate) async fn ingestion_is_idempotent(db: Fixture) {
    let batch = records(0..2000);
    assert_eq!(ingest(&db.store, &batch).await.unwrap(), 2000);
    assert_eq!(ingest(&db.store, &batch).await.unwrap(), 0);
    assert_eq!(ingest(&db.store, &records(1500..2500)).await.unwrap(), 500);
    let mut twice = records(2500..2503);
    twice.extend(records(2500..2503));
    assert_eq!(ingest(&db.store, &twice).await.unwrap(), 3);
    assert_eq!(ingest(&db.store, &[]).await.unwrap(), 0);
    assert_eq!(list_all(&db, &LogFilter::default()).await.len(), 2503);
    // The first to arrive stands.
    let mut changed = record(0, at(0));
    changed.status = 500;
    ingest(&db.store, &[changed]).await.unwrap();
    assert_eq!(logs::get(&db.store, "log-00000").await.unwrap().unwrap().status, 200);
}

pub(crate) async fn overlapping_batches_at_once_count_each_record_once(db: Fixture) {
    let gateways = (0..6).map(|gateway| {
        let store = db.store.clone();
        tokio::spawn(async move {
            let mut batch = records(gateway * 100..gateway * 100 + 700);
            if gateway % 2 == 1 {
                batch.reverse();
            }
            ingest(&store, &batch).await.unwrap()
        })
    });
    let mut inserted = 0;
    for gateway in gateways.collect::<Vec<_>>() {
        inserted += gateway.await.unwrap();
    }
    assert_eq!(inserted, 1200);
    assert_eq!(list_all(&db, &LogFilter::default()).await.len(), 1200);
}

pub(crate) async fn a_nul_in_a_text_does_not_block_its_batch(db: Fixture) {
    let mut damaged = record(1, at(0));
    damaged.error = Some("bad\0byte".to_owned());
    assert_eq!(ingest(&db.store, &[damaged, record(2, at(0))]).await.unwrap(), 2);
    let stored = logs::get(&db.store, "log-00001").await.unwrap().unwrap();
    assert_eq!(stored.error.as_deref(), Some("bad\u{fffd}byte"));
}

pub(crate) async fn paging_through_equal_times_neither_skips_nor_repeats(db: Fixture) {
    // Three moments, a microsecond apart, with many records each.
    let moments = [at(0), at(0) + chrono::TimeDelta::microseconds(1), at(0) + chrono::TimeDelta::microseconds(2)];
    let batch: Vec<_> = (0..100).map(|number| record(number, moments[number % 3])).collect();
    ingest(&db.store, &batch).await.unwrap();
    let mut expected = batch;
    expected.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));

    let filter = LogFilter { master_id: Some(1), ..LogFilter::default() };
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = logs::list(&db.store, &filter, cursor.as_ref(), 7).await.unwrap();
        seen.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
        // What arrives meanwhile is newer, and does not shift what follows.
        ingest(&db.store, &[record(1000 + seen.len(), at(60))]).await.unwrap();
    }
    assert_eq!(seen, expected);
}

pub(crate) async fn filters_narrow_the_logs(db: Fixture) {
    let mut batch = records(0..3);
    batch[0].created_at = at(10);
    batch[1].created_at = at(20);
    batch[2].created_at = at(30);
    (batch[0].master_id, batch[0].key_id, batch[0].status) = (7, 70, 404);
    (batch[1].group_id, batch[1].api_key_id, batch[1].status) = (Some(8), Some(80), 499);
    (batch[2].model, batch[2].status) = ("other".to_owned(), 500);
    batch[0].error = Some("Upstream said: 100% of C:\\tmp is full".to_owned());
    batch[2].error = Some("upstream_timeout after 100 ms".to_owned());
    ingest(&db.store, &batch).await.unwrap();
    let any = LogFilter::default;
    for (filter, expected) in [
        (LogFilter { master_id: Some(7), ..any() }, &["log-00000"][..]),
        (LogFilter { key_id: Some(70), ..any() }, &["log-00000"]),
        (LogFilter { group_id: Some(8), ..any() }, &["log-00001"]),
        (LogFilter { api_key_id: Some(80), ..any() }, &["log-00001"]),
        (LogFilter { model: Some("other".to_owned()), ..any() }, &["log-00002"]),
        (LogFilter { status: Some(400..=499), ..any() }, &["log-00001", "log-00000"]),
        (LogFilter { request_id: Some("req-2".to_owned()), ..any() }, &["log-00002"]),
        (LogFilter { since: Some(at(20)), until: Some(at(30)), ..any() }, &["log-00001"]),
        (LogFilter { master_id: Some(1), status: Some(500..=599), ..any() }, &["log-00002"]),
        (LogFilter { status: Some(400..=404), ..any() }, &["log-00000"]),
        (LogFilter { status: Some(400..=599), group_id: Some(8), ..any() }, &["log-00001"]),
        (LogFilter { error: Some("UPSTREAM".to_owned()), ..any() }, &["log-00002", "log-00000"]),
        (LogFilter { error: Some("%".to_owned()), ..any() }, &["log-00000"]),
        (LogFilter { error: Some("0%".to_owned()), ..any() }, &["log-00000"]),
        (LogFilter { error: Some("p_t".to_owned()), ..any() }, &[]),
        (LogFilter { error: Some("_".to_owned()), ..any() }, &["log-00002"]),
        (LogFilter { error: Some("c:\\TMP".to_owned()), ..any() }, &["log-00000"]),
        (LogFilter { error: Some("upstream".to_owned()), master_id: Some(7), ..any() }, &["log-00000"]),
        (LogFilter { error: Some("upstream".to_owned()), key_id: Some(2), ..any() }, &["log-00002"]),
        (LogFilter { request_id: Some("req-0".to_owned()), master_id: Some(7), ..any() }, &["log-00000"]),
        (LogFilter { request_id: Some("req-0".to_owned()), master_id: Some(1), ..any() }, &[]),
        (LogFilter { request_id: Some("req-0".to_owned()), key_id: Some(2), ..any() }, &[]),
        (
            LogFilter { key_id: Some(70), master_id: Some(7), model: Some("gpt-4.1".to_owned()), ..any() },
            &["log-00000"],
        ),
        (LogFilter { key_id: Some(70), master_id: Some(1), ..any() }, &[]),
        (LogFilter { key_id: Some(71), master_id: Some(7), ..any() }, &[]),
        (LogFilter { master_id: Some(1), since: Some(at(20)), until: Some(at(30)), ..any() }, &["log-00001"]),
        (LogFilter { since: Some(at(30)), until: Some(at(20)), ..any() }, &[]),
        (
            LogFilter { since: Some(year(1)), until: Some(year(9999)), key_id: Some(2), ..any() },
            &["log-00002", "log-00001"],
        ),
    ] {
        assert_eq!(list_all(&db, &filter).await, expected, "{filter:?}");
    }
}
