//! Whether this process's secret key is the one that the database's secrets were sealed with: with another one nothing
//! that is stored could be opened, and what is sealed now could be opened by nobody else.

use ez_contract::secret::{SecretError, SecretPlace};
use ez_store::api_keys::{self, ApiKey};
use ez_store::settings;
use uuid::Uuid;

use crate::control::JWT_SECRET;
use crate::{Control, ControlError, webhooks};

/// API keys that are read at once.
const PAGE: u64 = 500;

/// What came of opening stored secrets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecretsReport {
    /// Secrets that opened.
    pub opened: u64,
    /// Secrets that did not.
    pub unreadable: u64,
}

/// Opens every secret that is stored and counts. Errors: `Unavailable`.
pub async fn check_all(control: &Control) -> Result<SecretsReport, ControlError> {
    let mut report = SecretsReport::default();
    report.count(open_kept_secret(control).await?);
    report.count(open_webhook_secret(control).await?);
    let mut last = 0;
    loop {
        let page = api_keys::list_after(control.store(), last, PAGE).await?;
        let Some(end) = page.last() else { return Ok(report) };
        last = end.id;
        for key in &page {
            open_api_key(control, key).into_iter().for_each(|opened| report.count(Some(opened)));
        }
    }
}

/// Refuses to go on with a secret key that opens nothing of what is stored. Errors: `Internal`, `Unavailable`.
pub(crate) async fn require_key(control: &Control) -> Result<(), ControlError> {
    let kept = open_kept_secret(control).await?;
    let of_webhook = open_webhook_secret(control).await?;
    let first_keys = api_keys::list_after(control.store(), 0, PAGE).await?;
    let opened: Vec<_> = kept
        .into_iter()
        .chain(of_webhook)
        .chain(first_keys.iter().flat_map(|key| open_api_key(control, key)))
        .collect();
    // One damaged row is no sign of another key.
    match opened.iter().find_map(|opened| opened.err()) {
        Some(error) if opened.iter().all(Result::is_err) => Err(error.into()),
        _ => Ok(()),
    }
}

impl SecretsReport {
    fn count(&mut self, opened: Option<Result<(), SecretError>>) {
        match opened {
            Some(Ok(())) => self.opened += 1,
            Some(Err(_)) => self.unreadable += 1,
            None => {}
        }
    }
}

/// The secret that the first start made and kept.
async fn open_kept_secret(control: &Control) -> Result<Option<Result<(), SecretError>>, ControlError> {
    let place = SecretPlace { table: "settings", uuid: Uuid::nil(), field: JWT_SECRET };
    let kept = settings::get(control.store(), JWT_SECRET).await?;
    Ok(kept.map(|envelope| control.secret_key().open(&envelope, place).map(drop)))
}

async fn open_webhook_secret(control: &Control) -> Result<Option<Result<(), SecretError>>, ControlError> {
    let webhook = webhooks::get(control).await?;
    Ok(webhooks::open_secret(control, &webhook).map(|opened| opened.map(drop)))
}

fn open_api_key(control: &Control, key: &ApiKey) -> Vec<Result<(), SecretError>> {
    let fields =
        [("api_key", &key.api_key), ("access_token", &key.access_token), ("refresh_token", &key.refresh_token)];
    let kept = fields.into_iter().filter_map(|(field, envelope)| Some((field, envelope.as_deref()?)));
    kept.map(|(field, envelope)| control.secret_key().open(envelope, SecretPlace::api_key(key.uuid, field)).map(drop))
        .collect()
}
