//! `migrate`: brings the database to this build's schema.

use anyhow::Context;

use crate::config::Settings;
use crate::serve::open_store;

/// Migrates the configured database.
pub(crate) fn migrate(settings: &Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        std::fs::create_dir_all(&settings.data_dir)?;
        let store = open_store(settings).await?;
        store.migrate().await.context("the database cannot be migrated")?;
        tracing::info!("the database is at this build's schema");
        Ok(store.close().await?)
    })
}
