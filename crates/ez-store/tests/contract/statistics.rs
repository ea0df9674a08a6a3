//! Statistics and roll-ups: figures are those of the records, whatever is rolled up when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ez_contract::UsageRecord;
use ez_store::logs::retention::{DayDrop, Oldest, delete_step, drop_day, list_days_before};
use ez_store::rollups::{self, Aged};
use ez_store::statistics::{self, Figures, Grouping, MasterDay, Question, StatisticsFilter};
use ez_store::{Backend, ConnectOptions, Store, StoreError, settings};
use sqlx::Connection;

use crate::brute_force;
use crate::fixture::Fixture;
use crate::logs::{ingest, record};
use crate::random::Random;

const GROUPINGS: [Grouping; 9] = [
    Grouping::Total,
    Grouping::Model,
    Grouping::Master,
    Grouping::Key,
    Grouping::Provider,
    Grouping::ApiKey,
    Grouping::Month,
    Grouping::Day,
    Grouping::Hour,
];

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn all(by: Grouping) -> Question {
    Question { by, filter: StatisticsFilter::default(), since: None, until: None, limit: 1_000, percentiles: true }
}

async fn fold_all(store: &Store) -> u64 {
    let mut records = 0;
    loop {
        let folded = rollups::fold(store).await.unwrap();
        records += folded.records;
        if !folded.has_more {
            return records;
        }
    }
}

fn made_up_question(random: &mut Random) -> Question {
    let by = *random.pick(&GROUPINGS);
    let mut maybe = |value: i64, times| random.is_one_in(times).then_some(value);
    let filter = StatisticsFilter {
        master_id: maybe(2, 3),
        key_id: maybe(21, 5),
        group_id: maybe(1, 5),
        api_key_id: maybe(10, 7),
        model: maybe(0, 4).map(|_| "o\"4\\".to_owned()),
    };
    let (mut since, mut until) = (Some(random.moment()), Some(random.moment()));
    if since > until {
        std::mem::swap(&mut since, &mut until);
    }
    let since = since.filter(|_| !random.is_one_in(5));
    let until = until.filter(|_| !random.is_one_in(5));
    let limit = *random.pick(&[1, 2, 1_000, 1_000]);
    Question { by, filter, since, until, limit, percentiles: true }
}

async fn check_questions(db: &Fixture, records: &[UsageRecord], random: &mut Random, count: usize, context: &str) {
    for _ in 0..count {
        let question = made_up_question(random);
        let answer = statistics::read(&db.store, &question).await.unwrap();
        assert_eq!((answer.since, answer.until), (question.since, question.until), "{question:?}");
        brute_force::check(records, &question, context, &answer);
    }
}

pub(crate) async fn figures_are_those_of_the_records_whatever_is_rolled_up(db: Fixture) {
    let mut random = Random::new(20_261_124);
    let mut records = Vec::new();
    while records.len() < 3_000 {
        let batch: Vec<_> = (0..1 + random.below(150)).map(|at| random.record(records.len() + at)).collect();
        ingest(&db.store, &batch).await.unwrap();
        records.extend(batch);
        if random.is_one_in(4) {
            rollups::fold(&db.store).await.unwrap();
        }
        if random.is_one_in(6) {
            check_questions(&db, &records, &mut random, 6, "while records come").await;
        }
    }
    for by in GROUPINGS {
        let answer = statistics::read(&db.store, &all(by)).await.unwrap();
        brute_force::check(&records, &all(by), "before the last fold", &answer);
    }
    fold_all(&db.store).await;
    for by in GROUPINGS {
        let answer = statistics::read(&db.store, &all(by)).await.unwrap();
        brute_force::check(&records, &all(by), "all rolled up", &answer);
        let has_latencies = !matches!(by, Grouping::Key | Grouping::ApiKey);
        assert!(answer.items.iter().all(|item| item.figures.latency.is_some() == has_latencies), "{by:?}");
    }
    check_questions(&db, &records, &mut random, 150, "all rolled up").await;
    assert_eq!(rollups::fold(&db.store).await.unwrap().records, 0, "nothing is left");
}

pub(crate) async fn minutes_are_read_from_the_records(db: Fixture) {
    let mut random = Random::new(7);
    let records: Vec<_> = (0..600).map(|number| random.record(number)).collect();
    ingest(&db.store, &records[..300]).await.unwrap();
    fold_all(&db.store).await;
    ingest(&db.store, &records[300..]).await.unwrap();
    let question = Question {
        since: Some(time("2026-01-01T10:00:30.5Z")),
        until: Some(time("2026-01-01T15:59:59.999999Z")),
        ..all(Grouping::Minute)
    };
    assert!(!question.is_rolled_up());
    let answer = statistics::read(&db.store, &question).await.unwrap();
    assert!(answer.items.len() > 10);
    brute_force::check(&records, &question, "minutes", &answer);
}

pub(crate) async fn figures_outlive_the_records(db: Fixture) {
    let mut random = Random::new(99);
    let records: Vec<_> = (0..1_500).map(|number| random.record(number)).collect();
    ingest(&db.store, &records).await.unwrap();
    fold_all(&db.store).await;
    let dropped_before = time("2026-01-31T12:20:00Z");
    db.commit(async |tx| {
        let micros = dropped_before.timestamp_micros().to_string();
        settings::put(tx, rollups::LOGS_DROPPED_BEFORE, &micros).await
    })
    .await;
    db.sql("DELETE FROM logs WHERE created_at < 1769862000000000").await;
    let widened = check_covered(&db, &records, &mut random, 200, "records are gone").await;
    assert!(widened > 10, "ends were hardly ever widened: {widened}");
}

/// Asks questions of records that may be gone: what is told is what the records of the stretch say that it tells of. How many
/// ends were widened.
async fn check_covered(db: &Fixture, records: &[UsageRecord], random: &mut Random, count: usize, context: &str) -> u32 {
    let mut widened = 0;
    for _ in 0..count {
        let asked = made_up_question(random);
        if !asked.is_rolled_up() {
            continue;
        }
        let answer = statistics::read(&db.store, &asked).await.unwrap();
        let covered = Question { since: answer.since, until: answer.until, ..asked.clone() };
        brute_force::check(records, &covered, context, &answer);
        assert!(covered.since <= asked.since && (covered.until >= asked.until || covered.until.is_none()), "{asked:?}");
        for (end, asked) in [(covered.since, asked.since), (covered.until, asked.until)] {
            let (Some(end), Some(asked)) = (end, asked) else { continue };
            assert!((end - asked).abs() < TimeDelta::days(1), "{asked} was widened to {end}");
            assert!(end == asked || end.timestamp() % 3_600 == 0, "{asked} was widened to {end}");
            widened += u32::from(end != asked);
        }
    }
    widened
}

/// Drops what arrived before a time, as the cleaner does: whole days where they have tables, the rest in steps. How many went by
/// step, and how many days.
async fn drop_before(store: &Store, before: DateTime<Utc>) -> (u64, u64) {
    let (mut deleted, mut days) = (0, 0);
    for day in list_days_before(store, before).await.unwrap() {
        loop {
            match drop_day(store, &day).await.unwrap() {
                DayDrop::Dropped(_) => days += 1,
                DayDrop::Busy => {
                    tokio::task::yield_now().await;
                    continue;
                }
                DayDrop::Gone | DayDrop::Standing => {}
            }
            break;
        }
    }
    let mut oldest = Oldest { after: None, since: None, before, records: 40 };
    loop {
        let step = delete_step(store, &oldest).await.unwrap();
        let Some(end) = step.end else { return (deleted, days) };
        deleted += step.deleted;
        oldest.after = Some(end);
    }
}

pub(crate) async fn figures_outlive_folds_and_drops_of_records(db: Fixture) {
    let mut random = Random::new(31);
    let (mut records, mut gone, mut widened) = (Vec::new(), (0, 0), 0);
    for round in 0..24 {
        let batch: Vec<_> = (0..80).map(|at| random.record(records.len() + at)).collect();
        ingest(&db.store, &batch).await.unwrap();
        records.extend(batch);
        if random.is_one_in(2) {
            rollups::fold(&db.store).await.unwrap();
        }
        let (deleted, days) = drop_before(&db.store, random.moment()).await;
        gone = (gone.0 + deleted, gone.1 + days);
        widened += check_covered(&db, &records, &mut random, 12, &format!("after round {round}")).await;
    }
    fold_all(&db.store).await;
    drop_before(&db.store, time("2026-02-15T12:34:56Z")).await;
    widened += check_covered(&db, &records, &mut random, 100, "at the end").await;
    for by in GROUPINGS {
        let answer = statistics::read(&db.store, &all(by)).await.unwrap();
        brute_force::check(&records, &all(by), "at the end", &answer);
    }
    let is_postgres = db.store.backend() == Backend::Postgres;
    assert!(gone.0 > 20 && (gone.1 > 3) == is_postgres && widened > 20, "{gone:?}, {widened} widened");
}

pub(crate) async fn figures_hold_while_records_are_dropped(db: Fixture) {
    let mut random = Random::new(41);
    let begin = time("2026-01-01T00:00:00Z");
    let days = 24;
    let records: Vec<_> = (0..days * 40)
        .map(|number| {
            let minutes = i64::try_from(number).unwrap() * 36 + 17;
            UsageRecord { created_at: begin + TimeDelta::minutes(minutes), ..random.record(number) }
        })
        .collect();
    ingest(&db.store, &records).await.unwrap();
    fold_all(&db.store).await;
    let dropping = tokio::spawn({
        let store = db.store.clone();
        async move {
            for day in 1..=i64::try_from(days).unwrap() {
                drop_before(&store, begin + TimeDelta::days(day) - TimeDelta::hours(6)).await;
            }
        }
    });
    let (mut answered, mut disturbed) = (0, 0);
    while !dropping.is_finished() || answered < 20 {
        let by = *random.pick(&[Grouping::Total, Grouping::Day, Grouping::Model, Grouping::Master]);
        // Both ends cut an hour, so that its records are read.
        let since = begin + TimeDelta::minutes(20 + 60 * i64::try_from(random.below(24 * days)).unwrap());
        let until = since + TimeDelta::hours(i64::try_from(random.below(200)).unwrap());
        let question = Question { since: Some(since), until: Some(until), ..all(by) };
        match statistics::read(&db.store, &question).await {
            Ok(answer) => {
                let covered = Question { since: answer.since, until: answer.until, ..question };
                brute_force::check(&records, &covered, "while records are dropped", &answer);
                answered += 1;
            }
            // Rather than what is not so.
            Err(StoreError::Unavailable(_)) => disturbed += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    dropping.await.unwrap();
    assert!(disturbed == 0 || db.store.backend() == Backend::Postgres, "steps disturb nobody: {disturbed}");
}

pub(crate) async fn a_question_that_takes_too_long_is_ended(db: Fixture) {
    if db.store.backend() == Backend::Sqlite {
        assert!(statistics::read(&db.store, &all(Grouping::Total)).await.is_ok());
        return;
    }
    let options = ConnectOptions { question_timeout: Duration::from_millis(50), ..ConnectOptions::default() };
    let store = Store::connect(db.database.url(), options).await.unwrap();
    assert!(statistics::read(&store, &all(Grouping::Total)).await.is_ok());
    let mut other = sqlx::PgConnection::connect(db.database.url()).await.unwrap();
    sqlx::Executor::execute(&mut other, "BEGIN; LOCK TABLE rollups IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let ended = statistics::read(&store, &all(Grouping::Total)).await.unwrap_err();
    assert!(ended.took_too_long(), "{ended:?}");
    sqlx::Executor::execute(&mut other, "COMMIT").await.unwrap();
    assert!(statistics::read(&store, &all(Grouping::Total)).await.is_ok());
}

pub(crate) async fn a_damaged_note_of_what_is_dropped_is_told(db: Fixture) {
    db.commit(async |tx| settings::put(tx, rollups::LOGS_DROPPED_BEFORE, "yesterday").await).await;
    let refused = statistics::read(&db.store, &all(Grouping::Total)).await.unwrap_err();
    assert!(refused.to_string().contains("settings.value of row `logs_dropped_before`"), "{refused}");
}

pub(crate) async fn hours_and_old_months_go(db: Fixture) {
    let mut random = Random::new(3);
    let records: Vec<_> = (0..800).map(|number| random.record(number)).collect();
    ingest(&db.store, &records).await.unwrap();
    fold_all(&db.store).await;
    // In small steps, as retention does it.
    for (aged, before) in [(Aged::Hours, time("2026-01-15T18:00:00Z")), (Aged::All, time("2026-01-20T00:00:00Z"))] {
        while db.commit(async |tx| rollups::delete_before(tx, aged, before, 50).await).await == 50 {}
    }
    let kept_since = time("2026-01-01T00:00:00Z");
    for by in GROUPINGS {
        let answer = statistics::read(&db.store, &all(by)).await.unwrap();
        let since = if by == Grouping::Hour { time("2026-01-15T00:00:00Z") } else { kept_since };
        assert_eq!(answer.since, Some(since), "{by:?}");
        brute_force::check(&records, &Question { since: answer.since, ..all(by) }, "old months are gone", &answer);
    }
    let day = Question { since: Some(time("2026-01-14T22:00:00Z")), ..all(Grouping::Total) };
    let answer = statistics::read(&db.store, &day).await.unwrap();
    assert_eq!(answer.since, day.since, "the records still stand");
    brute_force::check(&records, &day, "hours are gone", &answer);
}

pub(crate) async fn a_fold_that_is_cut_off_counts_nothing_twice(db: Fixture) {
    let mut random = Random::new(5);
    let records: Vec<_> = (0..400).map(|number| random.record(number)).collect();
    for batch in records.chunks(40) {
        ingest(&db.store, batch).await.unwrap();
        for polls in 0..12 {
            cut_off(polls + random.below(30), rollups::fold(&db.store)).await;
        }
    }
    fold_all(&db.store).await;
    for by in GROUPINGS {
        let answer = statistics::read(&db.store, &all(by)).await.unwrap();
        brute_force::check(&records, &all(by), "after folds that were cut off", &answer);
    }
}

/// Drops a future that is not done after so many polls, as when its process ends there.
async fn cut_off<T>(polls: usize, future: impl Future<Output = T>) {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        future.as_mut().poll(context).map(|_| ())
    })
    .await;
}

pub(crate) async fn a_batch_that_is_too_large_is_taken_in_parts(db: Fixture) {
    let (count, most) = match db.store.backend() {
        Backend::Sqlite => (5_000, 2_000),
        Backend::Postgres => (45_000, 20_000),
    };
    // Half of them arrive in one microsecond.
    let begin = time("2026-01-01T00:00:00Z");
    let later = |number: usize| TimeDelta::microseconds(i64::try_from(number.saturating_sub(count / 2)).unwrap());
    let records: Vec<_> = (0..count).map(|number| record(number, begin + later(number))).collect();
    ingest(&db.store, &records).await.unwrap();
    let mut steps = 0;
    loop {
        let folded = rollups::fold(&db.store).await.unwrap();
        steps += 1;
        assert!(folded.records <= std::cmp::max(most, count / 2 + 1) as u64, "{folded:?}");
        let answer = statistics::read(&db.store, &all(Grouping::Total)).await.unwrap();
        assert_eq!(answer.items[0].figures.requests, count as u64);
        if !folded.has_more {
            break;
        }
    }
    assert!(steps > 2, "{steps} steps");
}

pub(crate) async fn figures_never_waver_while_records_are_folded(db: Fixture) {
    let mut random = Random::new(11);
    let mut fixed: Vec<_> = (0..600).map(|number| random.record(number)).collect();
    for record in &mut fixed {
        (record.model, record.namespace, record.attempts) = ("fixed".to_owned(), "default".to_owned(), 1);
    }
    for batch in fixed.chunks(20) {
        ingest(&db.store, batch).await.unwrap();
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let folding = (0..2).map(|_| {
        let (store, is_over) = (db.store.clone(), is_over.clone());
        tokio::spawn(async move {
            let mut records = 0;
            while !is_over.load(Ordering::Relaxed) {
                records += rollups::fold(&store).await.unwrap().records;
            }
            records
        })
    });
    let folding: Vec<_> = folding.collect();
    let others: Vec<_> = (1_000..1_800).map(|number| random.record(number)).collect();
    let ingesting = tokio::spawn({
        let (store, others) = (db.store.clone(), others.clone());
        async move {
            for batch in others.chunks(15) {
                ingest(&store, batch).await.unwrap();
            }
        }
    });
    let mut asked = 0;
    while !ingesting.is_finished() || asked < 40 {
        let by = *random.pick(&[Grouping::Total, Grouping::Day, Grouping::Model, Grouping::Master]);
        let filter = StatisticsFilter { model: Some("fixed".to_owned()), ..StatisticsFilter::default() };
        let question = Question { filter, since: Some(random.moment()), ..all(by) };
        let answer = statistics::read(&db.store, &question).await.unwrap();
        brute_force::check(&fixed, &question, "while others fold", &answer);
        asked += 1;
    }
    ingesting.await.unwrap();
    is_over.store(true, Ordering::Relaxed);
    let mut folded = 0;
    for folder in folding {
        folded += folder.await.unwrap();
    }
    folded += fold_all(&db.store).await;
    assert_eq!(folded, 1_400, "each record was added once");
    let records: Vec<_> = fixed.into_iter().chain(others).collect();
    for by in GROUPINGS {
        let answer = statistics::read(&db.store, &all(by)).await.unwrap();
        brute_force::check(&records, &all(by), "after folds at once", &answer);
    }
}

pub(crate) async fn days_of_masters_are_told(db: Fixture) {
    let noon = time("2026-01-01T12:00:00Z");
    let mut records: Vec<_> = (0..6).map(|number| record(number, noon)).collect();
    (records[0].master_id, records[1].master_id) = (9, 9);
    records[2].tokens.input_tokens = None;
    records[3].created_at = time("2026-01-01T23:59:59.999999Z");
    records[4].created_at = time("2026-01-02T00:00:00Z");
    ingest(&db.store, &records[..3]).await.unwrap();
    fold_all(&db.store).await;
    ingest(&db.store, &records[3..]).await.unwrap();
    let day = statistics::master_days(&db.store, noon).await.unwrap();
    let of = |master_id, requests, tokens| MasterDay { master_id, requests, tokens };
    assert_eq!(day, [of(1, 3, 20), of(9, 2, 20)]);
    assert_eq!(statistics::master_days(&db.store, time("2026-01-03T00:00:00Z")).await.unwrap(), []);
}

pub(crate) async fn nothing_adds_up_to_nothing(db: Fixture) {
    let none = statistics::read(&db.store, &all(Grouping::Total)).await.unwrap();
    assert_eq!((none.items.as_slice(), none.is_truncated), (&[][..], false));
    let folded = rollups::fold(&db.store).await.unwrap();
    assert_eq!((folded.records, folded.has_more), (0, false));
    assert_eq!(Figures::default().successes(), 0);
}
