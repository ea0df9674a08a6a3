//! The database: reachable, at this build's schema, writable, with the right time.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use ez_contract::Clock;
use ez_store::{Backend, Store, StoreError};
use secrecy::ExposeSecret;

use super::host::report_skew;
use super::report::Report;
use crate::clock::SystemClock;
use crate::config::Settings;
use crate::serve::open_store;

const CHECK: &str = "database";
const UNREACHABLE: &str = "check that it is up and that EZ_DATABASE_URL names it, with user and password";

/// The opened database, where it can be used.
pub(super) async fn examine(settings: &Settings, report: &mut Report) -> Option<Store> {
    if let Some(file) = sqlite_file(settings).filter(|file| !file.exists()) {
        report.warn(
            CHECK,
            format!("{} is not there yet", file.display()),
            "`ez-api serve` makes it at its first start",
        );
        return None;
    }
    let store = match open_store(settings).await {
        Ok(store) => store,
        Err(error) => {
            report.fail(CHECK, format!("{error:#}"), UNREACHABLE);
            return None;
        }
    };
    let asked_at = SystemClock.now();
    match store.facts().await {
        Ok(facts) => {
            let kind = match store.backend() {
                Backend::Sqlite => "SQLite",
                Backend::Postgres => "PostgreSQL",
            };
            report.ok(CHECK, format!("{kind} {} answers", facts.version));
            if store.backend() == Backend::Postgres {
                report_skew("the database", asked_at, facts.now, SystemClock.now(), report);
            }
        }
        Err(error) => {
            report.fail(CHECK, chain(error), UNREACHABLE);
            return None;
        }
    }
    match store.pending_migrations().await {
        Ok(0) => report.ok(CHECK, "its schema is this build's"),
        Ok(pending) => {
            report.warn(
                CHECK,
                format!("{pending} migrations are not applied"),
                "run `ez-api migrate` or `ez-api serve`",
            );
            return None;
        }
        Err(error) => {
            let advice = "a newer ez-api may have migrated it: use that version; otherwise see the message";
            report.fail(CHECK, format!("its schema cannot be compared: {}", chain(error)), advice);
            return None;
        }
    }
    match store.probe_write().await {
        Ok(()) => report.ok(CHECK, "it takes writes"),
        Err(error) => {
            let advice = "check the rights of its user, its disk, and that it is no read-only replica";
            report.fail(CHECK, format!("it takes no writes: {}", chain(error)), advice);
        }
    }
    Some(store)
}

/// The file of an SQLite database.
fn sqlite_file(settings: &Settings) -> Option<PathBuf> {
    let Some(url) = &settings.database_url else { return Some(settings.data_dir.join("ez-api.db")) };
    let rest = url.expose_secret().strip_prefix("sqlite:")?;
    let path = rest.strip_prefix("//").unwrap_or(rest).split('?').next().unwrap_or_default();
    Some(Path::new(path).to_owned()).filter(|_| !path.is_empty() && path != ":memory:")
}

fn chain(error: StoreError) -> String {
    format!("{:#}", anyhow!(error))
}
