//! Who waits for whom, in paused time.

use std::sync::Arc;

use ez_contract::secret::SecretKey;
use ez_state::SharedState;
use ez_store::{ConnectOptions, Store};
use ez_testkit::clock::FakeClock;
use ez_testkit::database::TestDatabase;

use super::*;
use crate::{ControlConfig, ControlParts};

#[tokio::test]
async fn questions_about_records_wait_for_each_other_and_others_for_none() {
    let database = TestDatabase::sqlite();
    let store = Store::connect(database.url(), ConnectOptions::default()).await.unwrap();
    store.migrate().await.unwrap();
    let parts = ControlParts {
        store,
        state: SharedState::in_process(),
        clock: Arc::new(FakeClock::now()),
        secret_key: Arc::new(SecretKey::from_bytes(&[7; 32]).unwrap()),
        config: ControlConfig::default(),
    };
    let control = Control::prepare(parts).await.unwrap().0;
    let since = Some(control.now() - TimeDelta::hours(1));
    let asked = |by| Asked { by, filter: StatisticsFilter::default(), since, until: None, limit: None };
    let ask = async |by| statistics(&control, Tenant::Any, asked(by)).await.map(drop);

    let first = control.questions().acquire().await.unwrap();
    ask(Grouping::Minute).await.unwrap();
    let _second = control.questions().acquire().await.unwrap();
    ask(Grouping::Hour).await.unwrap();
    tokio::time::pause();
    let busy = ask(Grouping::Minute).await.unwrap_err();
    assert!(busy.to_string().contains("ask again in 5 seconds"), "{busy}");
    assert!(matches!(busy, ControlError::Busy { retry_after: COME_AGAIN, .. }), "{busy:?}");
    tokio::time::resume();
    drop(first);
    ask(Grouping::Minute).await.unwrap();
}
