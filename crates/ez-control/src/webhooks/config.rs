//! The webhook's configuration: one record, kept as a setting, its secret sealed.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::alerts::AlertSeverity;
use ez_contract::secret::{SecretError, SecretPlace};
use ez_store::{Executor, RecordKind, StoreError, settings, webhook_deliveries};
use http::Uri;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use url::Url;
use uuid::Uuid;

use super::secret::{SigningKey, generate};
use crate::error::{Faults, chain};
use crate::outbound::{self, Reach};
use crate::recorded::{Recorded, masked};
use crate::write::NO_RECORD;
use crate::{Control, ControlConfig, ControlError, Write};

/// The setting that holds it, as a JSON object.
const SETTING: &str = "log_webhook";

/// What it is called.
const WHAT: &str = "the log webhook";

/// Where its sealed secret belongs.
const PLACE: SecretPlace<'static> = SecretPlace { table: "settings", uuid: Uuid::nil(), field: SETTING };

/// Why what waited is not sent any more.
pub(super) const SWITCHED_OFF: &str = "the webhook was switched off";

/// Bytes of a URL.
const MAX_URL_BYTES: usize = 2_000;

/// How long a write waits for what the URL's name resolves to.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Log records in a window.
const THRESHOLDS: (u64, u64) = (1, 100_000);
/// Seconds.
const WINDOWS: (u64, u64) = (1, 3_600);
/// Seconds.
const COOLDOWNS: (u64, u64) = (0, 86_400);
/// HTTP statuses.
const STATUSES: (u64, u64) = (400, 599);

/// What the webhook is told, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Webhook {
    /// Whether anything is sent.
    pub enabled: bool,
    /// Where its receiver is.
    pub url: Option<String>,
    /// What events are signed with, sealed. There is one wherever there is a URL.
    pub secret: Option<String>,
    /// Log records of failures within the window that it is told of.
    pub threshold: u64,
    /// How far back log records count, seconds.
    pub window: u64,
    /// How long it is told nothing more of log records after it was, seconds.
    pub cooldown: u64,
    /// Log records with this status or a higher one count, and those with an error message.
    pub status_code_threshold: u16,
    /// It is told of alerts of at least this severity; of none where absent.
    pub alert_severity: Option<AlertSeverity>,
}

/// What to change. Absent fields stay.
#[derive(Debug, Default)]
pub struct ChangeWebhook {
    /// Whether anything is sent.
    pub enabled: Option<bool>,
    /// Where its receiver is; none takes it away.
    pub url: Option<Option<String>>,
    /// What events are signed with; none makes a new one.
    pub secret: Option<Option<SecretString>>,
    /// Log records of failures within the window, 1 to 100,000.
    pub threshold: Option<u64>,
    /// Seconds, 1 to 3,600.
    pub window: Option<u64>,
    /// Seconds, 0 to 86,400.
    pub cooldown: Option<u64>,
    /// HTTP status, 400 to 599.
    pub status_code_threshold: Option<u64>,
    /// The least severity; none tells it of no alert.
    pub alert_severity: Option<Option<AlertSeverity>>,
}

/// A change whose fields are each as they may be.
#[derive(Debug)]
pub struct CheckedChange(ChangeWebhook);

/// The webhook after a change.
#[derive(Debug)]
pub struct ChangedWebhook {
    /// As it stands.
    pub webhook: Webhook,
    /// The secret, where the change made it: to be shown this once.
    pub new_secret: Option<SecretString>,
}

/// Off, and without a receiver.
impl Default for Webhook {
    fn default() -> Self {
        Self {
            enabled: false,
            url: None,
            secret: None,
            threshold: 10,
            window: 60,
            cooldown: 300,
            status_code_threshold: 500,
            alert_severity: None,
        }
    }
}

impl Recorded for Webhook {
    const KIND: RecordKind = RecordKind::Webhook;

    fn id(&self) -> i64 {
        NO_RECORD
    }

    /// Nobody asks: what it is is all that tells two states apart.
    fn updated_at(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }

    fn audited(&self) -> Json {
        json!({
            "enabled": self.enabled, "url": self.url, "secret": masked(self.secret.as_deref()),
            "threshold": self.threshold, "window": self.window, "cooldown": self.cooldown,
            "status_code_threshold": self.status_code_threshold, "alert_severity": self.alert_severity,
        })
    }
}

impl Webhook {
    /// Where events go, where they go anywhere.
    pub(super) fn receiver(&self) -> Option<&str> {
        self.url.as_deref().filter(|_| self.enabled)
    }
}

/// The webhook. Errors: `Unavailable`.
pub async fn get(control: &Control) -> Result<Webhook, ControlError> {
    Ok(of_setting(settings::get(control.store(), SETTING).await?.as_deref())?)
}

/// Looks for faults of a change, and asks what its URL resolves to: to be done before a unit of work begins, as that takes
/// its time. Errors: `Invalid`, with every fault.
pub async fn check(control: &Control, change: ChangeWebhook) -> Result<CheckedChange, ControlError> {
    let mut faults = Faults::default();
    let numbers = [
        ("/threshold", change.threshold, THRESHOLDS),
        ("/window", change.window, WINDOWS),
        ("/cooldown", change.cooldown, COOLDOWNS),
        ("/status_code_threshold", change.status_code_threshold, STATUSES),
    ];
    for (pointer, number, (least, most)) in numbers {
        if number.is_some_and(|number| !(least..=most).contains(&number)) {
            faults.add(pointer, format!("must be a whole number from {least} to {most}"));
        }
    }
    if let Some(Some(secret)) = &change.secret
        && SigningKey::parse(secret).is_none()
    {
        faults.add("/secret", "must be `whsec_` and base64 of 24 to 64 bytes; null makes a new one");
    }
    let mut url = change.url;
    if let Some(Some(text)) = &mut url {
        match checked_url(control.config(), text).await {
            Ok(checked) => *text = checked,
            Err(fault) => faults.add("/url", fault),
        }
    }
    faults.into_result()?;
    Ok(CheckedChange(ChangeWebhook { url, ..change }))
}

/// Changes the webhook. One that is switched off is sent nothing of what still waits; one that cannot be read any more is set
/// anew, from the defaults. Errors: `Invalid` for one that is switched on without a URL, `Stale`.
pub async fn update(write: &Write, change: CheckedChange) -> Result<ChangedWebhook, ControlError> {
    // The row is there before it is locked.
    settings::put_if_absent(write.tx(), SETTING, "{}").await?;
    let before = match of_setting(settings::get_for_update(write.tx(), SETTING).await?.as_deref()) {
        Err(StoreError::Corrupt { .. }) => Webhook::default(),
        read => read?,
    };
    write.require_fresh(WHAT, &before)?;
    let CheckedChange(change) = change;
    let mut after = Webhook {
        enabled: change.enabled.unwrap_or(before.enabled),
        url: change.url.unwrap_or_else(|| before.url.clone()),
        threshold: change.threshold.unwrap_or(before.threshold),
        window: change.window.unwrap_or(before.window),
        cooldown: change.cooldown.unwrap_or(before.cooldown),
        status_code_threshold: change
            .status_code_threshold
            .and_then(|status| status.try_into().ok())
            .unwrap_or(before.status_code_threshold),
        alert_severity: change.alert_severity.unwrap_or(before.alert_severity),
        secret: before.secret.clone(),
    };
    if after.enabled && after.url.is_none() {
        return Err(ControlError::invalid("/url", "is required while `enabled` is true"));
    }
    let makes_one = match &change.secret {
        Some(given) => given.is_none(),
        None => after.secret.is_none() && after.url.is_some(),
    };
    let new_secret = makes_one.then(generate);
    if let Some(secret) = new_secret.as_ref().or(change.secret.flatten().as_ref()) {
        let sealed = write.control().secret_key().seal(secret.expose_secret(), PLACE, rand::random())?;
        after.secret = Some(sealed);
    }
    let kept = serde_json::to_string(&after).map_err(ControlError::internal)?;
    settings::put(write.tx(), SETTING, &kept).await?;
    if before.enabled && !after.enabled {
        webhook_deliveries::give_up_pending(write.tx(), SWITCHED_OFF).await?;
    }
    write.record_unpublished("update", Some(&before), &after).await?;
    Ok(ChangedWebhook { webhook: after, new_secret })
}

/// How far the webhook may reach.
pub(super) fn reach(config: &ControlConfig) -> Reach {
    if config.webhook_allow_private { Reach::Operator } else { Reach::Public }
}

/// The webhook where its setting can be read, also as a transaction sees it. One that was damaged by hand is told of and
/// then none: it must not stop what the webhook would only be told of. Errors: `Unavailable`.
pub(super) async fn readable(db: &impl Executor) -> Result<Option<Webhook>, StoreError> {
    match of_setting(settings::get(db, SETTING).await?.as_deref()) {
        Ok(webhook) => Ok(Some(webhook)),
        Err(error @ StoreError::Corrupt { .. }) => {
            tracing::error!(error = %chain(&error), "the log webhook cannot be read and is taken for off; set it again");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Opens the webhook's secret; none where there is none.
pub(crate) fn open_secret(control: &Control, webhook: &Webhook) -> Option<Result<SecretString, SecretError>> {
    let sealed = webhook.secret.as_deref()?;
    Some(control.secret_key().open(sealed, PLACE).map(SecretString::from))
}

fn of_setting(setting: Option<&str>) -> Result<Webhook, StoreError> {
    serde_json::from_str(setting.unwrap_or("{}")).map_err(|error| StoreError::Corrupt {
        table: "settings",
        column: "value".to_owned(),
        id: SETTING.to_owned(),
        reason: error.to_string(),
    })
}

/// A URL as it is kept, or what is wrong with it.
async fn checked_url(config: &ControlConfig, text: &str) -> Result<String, String> {
    let reach = reach(config);
    let url = reach.parse(text).map_err(|forbidden| forbidden.to_string())?;
    if url.as_str().len() > MAX_URL_BYTES {
        return Err(format!("must have at most {MAX_URL_BYTES} bytes"));
    }
    if Uri::try_from(url.as_str()).is_err() {
        return Err("must hold no characters that HTTP does not take; write them percent-encoded".to_owned());
    }
    outbound::check(&url, reach, &config.resolver, RESOLVE_TIMEOUT).await.map_err(|forbidden| forbidden.to_string())?;
    Ok(Url::into(url))
}
