//! `doctor`: looks at everything that an installation stands on and says what was found and what to do. It changes
//! nothing, makes no paid call, and shows no secret.

mod database;
mod host;
mod report;
mod shared_state;
mod upstreams;

use ez_control::{Control, stored_secrets};
use ez_state::SharedState;

pub(crate) use self::report::Health;
use self::report::Report;
use super::offline::control_over;
use super::print;
use crate::config::{ResolvedSettings, Role, Settings};
use crate::secret_key;

/// Checks the installation that these settings describe, and tells.
pub(crate) fn doctor(resolved: ResolvedSettings, role: Role, as_json: bool) -> anyhow::Result<Health> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(examine(resolved, role));
    print(&if as_json { report.json() } else { report.text() })?;
    Ok(report.health())
}

async fn examine(resolved: ResolvedSettings, role: Role) -> Report {
    let mut report = Report::default();
    for warning in &resolved.warnings {
        report.warn("configuration", warning, "mend or remove it");
    }
    let settings = match Settings::from_resolved(resolved, role) {
        Ok(settings) => settings,
        Err(faults) => {
            for fault in faults {
                report.fail("configuration", fault, "see docs/configuration.md");
            }
            return report;
        }
    };
    report.ok("configuration", "every setting is valid");
    host::examine_data_dir(&settings, &mut report);
    host::examine_listeners(&settings, role, &mut report);
    let state = shared_state::examine(&settings, &mut report).await;
    if role.has_control() {
        examine_records(settings, state, &mut report).await;
    } else if let Some(control_url) = &settings.control_url {
        upstreams::examine_control_plane(control_url, &settings.gateway.upstream.tls, &mut report).await;
    }
    report
}

/// What only a process with the control plane reaches.
async fn examine_records(mut settings: Settings, state: SharedState, report: &mut Report) {
    let key = match settings.secret_key.take() {
        Some(key) => Ok(Some(key)),
        None => secret_key::load(&settings.data_dir),
    };
    let Some(store) = database::examine(&settings, report).await else { return };
    let key = match key {
        Ok(Some(key)) => key,
        Ok(None) => {
            return report.warn("secret key", "there is none yet", "`ez-api serve` makes one at its first start");
        }
        Err(error) => {
            return report.fail("secret key", format!("{error:#}"), "put the right key back from your backup");
        }
    };
    let shares_state = settings.redis_url.is_some();
    match control_over(store, state, key, settings.gateway.node_id.clone()).await {
        Ok(control) => {
            examine_secrets(&control, report).await;
            shared_state::examine_publication(&control, shares_state, report).await;
            upstreams::examine(&control, &settings.gateway.upstream.tls, report).await;
        }
        Err(error) => report.fail("control plane", format!("{error:#}"), "see the message"),
    }
}

async fn examine_secrets(control: &Control, report: &mut Report) {
    const CHECK: &str = "secret key";
    match stored_secrets::check_all(control).await {
        Ok(found) if found.unreadable > 0 => {
            let told =
                format!("{} of {} stored secrets cannot be opened", found.unreadable, found.unreadable + found.opened);
            let advice = "use the EZ_SECRET_KEY (or secret.key) that they were stored with; else write these API keys' secrets anew";
            report.fail(CHECK, told, advice);
        }
        Ok(found) => report.ok(CHECK, format!("opens all {} stored secrets", found.opened)),
        Err(error) => report.fail(CHECK, format!("the stored secrets cannot be read: {error}"), "see the database"),
    }
}
