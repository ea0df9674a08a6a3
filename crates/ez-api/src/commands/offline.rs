//! A control plane for commands that work on the database beside a server or without one: no shared state, no sign-in.

use std::sync::Arc;

use anyhow::Context;
use ez_contract::secret::SecretKey;
use ez_control::{Control, ControlConfig, ControlParts};
use ez_state::SharedState;
use ez_store::Store;
use rand::RngCore;
use secrecy::SecretString;

use crate::clock::SystemClock;
use crate::config::Settings;
use crate::secret_key;
use crate::serve::{make_data_dir, open_store};

/// Opens and migrates the database as `serve` does, with the same secret key.
pub(super) async fn open_control(mut settings: Settings) -> anyhow::Result<Control> {
    make_data_dir(&settings.data_dir)?;
    let secret_key = match settings.secret_key.take() {
        Some(key) => key,
        None => secret_key::load_or_create(&settings.data_dir)?,
    };
    let store = open_store(&settings).await?;
    store.migrate().await.context("the database cannot be migrated")?;
    control_over(store, SharedState::in_process(), secret_key, settings.gateway.node_id).await
}

/// A control plane that keeps nothing of its own: whoever could sign in with its secrets does not exist.
pub(super) async fn control_over(
    store: Store,
    state: SharedState,
    secret_key: SecretKey,
    node_id: String,
) -> anyhow::Result<Control> {
    let config = ControlConfig {
        node_id,
        admin_token: Some(throw_away()),
        jwt_secret: Some(throw_away()),
        ..ControlConfig::default()
    };
    let parts = ControlParts { store, state, clock: Arc::new(SystemClock), secret_key: Arc::new(secret_key), config };
    let (control, _) = Control::prepare(parts).await.context("the control plane cannot be prepared")?;
    Ok(control)
}

fn throw_away() -> SecretString {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    SecretString::from(hex::encode(bytes))
}
