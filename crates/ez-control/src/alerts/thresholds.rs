//! Alert thresholds: from where on the detector's rules fire. They live in the database and take effect with the next run.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ez_store::{Executor, RecordKind, StoreError, settings};
use serde_json::{Value as Json, json};

use crate::error::Faults;
use crate::limits::MAX_COUNT;
use crate::recorded::Recorded;
use crate::write::NO_RECORD;
use crate::{Control, ControlError, Write};

/// The setting that holds those that were ever set, as a JSON object.
const SETTING: &str = "alert_thresholds";

/// What they are called together.
const WHAT: &str = "the set of alert thresholds";

/// Highest percentage.
const WHOLE: u64 = 100;

/// Defines the thresholds: each with its default and its highest value.
macro_rules! thresholds {
    ($($(#[$doc:meta])* $name:ident: $default:literal up to $max:ident,)+) => {
        /// From where on rules fire: at the value itself, and beyond. 0 switches a check off; of a minimum it means that there is none.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Thresholds {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl Default for Thresholds {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Thresholds {
            /// Every threshold by its name.
            pub fn entries(&self) -> BTreeMap<String, u64> {
                [$((stringify!($name).to_owned(), self.$name),)+].into()
            }

            /// Where a threshold is kept, and its highest value.
            fn place_of(&mut self, name: &str) -> Option<(&mut u64, u64)> {
                match name {
                    $(stringify!($name) => Some((&mut self.$name, $max)),)+
                    _ => None,
                }
            }
        }
    };
}

thresholds! {
    /// Calls a second, of all masters.
    global_qps: 100 up to MAX_COUNT,
    /// Calls a minute of a master.
    master_rpm: 600 up to MAX_COUNT,
    /// Tokens a minute of a master, input and output.
    master_tpm: 1_000_000 up to MAX_COUNT,
    /// Calls of a master since midnight, UTC.
    master_rpd: 100_000 up to MAX_COUNT,
    /// Tokens of a master since midnight, UTC.
    master_tpd: 100_000_000 up to MAX_COUNT,
    /// Calls in the minute below which `master_rpm` is not looked at.
    min_rpm_requests: 10 up to MAX_COUNT,
    /// Tokens in the minute below which `master_tpm` is not looked at.
    min_tpm_tokens: 10_000 up to MAX_COUNT,
    /// Calls of a master in a minute that limits refused.
    rate_limited_requests: 1 up to MAX_COUNT,
    /// Part of a child key's calls that failed within five minutes, percent.
    error_spike_percent: 10 up to WHOLE,
    /// From which part on that is critical, percent.
    error_spike_critical_percent: 50 up to WHOLE,
    /// Calls of a child key below which its failures are not looked at.
    error_spike_min_requests: 20 up to MAX_COUNT,
    /// Part of an API key's calls that failed within five minutes, percent.
    provider_down_percent: 50 up to WHOLE,
    /// From which part on that is critical, percent.
    provider_down_critical_percent: 90 up to WHOLE,
    /// Calls of an API key below which its failures are not looked at.
    provider_down_min_requests: 10 up to MAX_COUNT,
    /// Part of a child key's quota that is used, percent.
    quota_percent: 90 up to WHOLE,
}

impl Recorded for Thresholds {
    const KIND: RecordKind = RecordKind::Alert;

    fn id(&self) -> i64 {
        NO_RECORD
    }

    /// Nobody asks: what they are is all that tells two states apart.
    fn updated_at(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }

    fn audited(&self) -> Json {
        json!({ "thresholds": self.entries() })
    }
}

/// Every threshold. Errors: `Unavailable`.
pub async fn get(control: &Control) -> Result<Thresholds, ControlError> {
    Ok(standing(control.store()).await?)
}

/// Sets the thresholds that are named and returns all of them. Where they were damaged the others are the defaults then. Errors: `Invalid` for a threshold that does not exist and for
/// a value that it does not take, `Stale`.
pub async fn update(write: &Write, changes: &BTreeMap<String, Json>) -> Result<Thresholds, ControlError> {
    let mut faults = Faults::default();
    let mut valid: BTreeMap<String, u64> = BTreeMap::new();
    for (name, value) in changes {
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        match (Thresholds::default().place_of(name), value.as_u64()) {
            (None, _) => faults.add(pointer, format!("is no threshold; there are: {}", names())),
            (Some((_, max)), Some(value)) if value <= max => drop(valid.insert(name.clone(), value)),
            (Some((_, max)), _) => faults.add(pointer, format!("must be a whole number from 0 to {max}")),
        }
    }
    faults.into_result()?;

    // The row is there before it is locked.
    settings::put_if_absent(write.tx(), SETTING, "{}").await?;
    let mut kept = match kept(settings::get_for_update(write.tx(), SETTING).await?.as_deref()) {
        // Rules go by the defaults meanwhile.
        Err(StoreError::Corrupt { .. }) => BTreeMap::new(),
        read => read?,
    };
    let before = all(&kept);
    write.require_fresh(WHAT, &before)?;
    kept.extend(valid);
    let after = all(&kept);
    settings::put(write.tx(), SETTING, &json!(kept).to_string()).await?;
    write.record_unpublished("update", Some(&before), &after).await?;
    Ok(after)
}

/// Every threshold. Errors: `Corrupt` where the setting was damaged.
pub(super) async fn standing(db: &impl Executor) -> Result<Thresholds, StoreError> {
    Ok(all(&kept(settings::get(db, SETTING).await?.as_deref())?))
}

fn all(kept: &BTreeMap<String, u64>) -> Thresholds {
    let mut all = Thresholds::default();
    for (name, value) in kept {
        // One that another version knew is nobody's.
        if let Some((place, max)) = all.place_of(name) {
            *place = max.min(*value);
        }
    }
    all
}

fn kept(setting: Option<&str>) -> Result<BTreeMap<String, u64>, StoreError> {
    serde_json::from_str(setting.unwrap_or("{}")).map_err(|error| StoreError::Corrupt {
        table: "settings",
        column: "value".to_owned(),
        id: SETTING.to_owned(),
        reason: error.to_string(),
    })
}

fn names() -> String {
    Thresholds::default().entries().into_keys().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_threshold_is_documented_with_its_default() {
        let page = include_str!("../../../../docs/alerts.md");
        for (name, default) in Thresholds::default().entries() {
            assert!(page.contains(&format!("| `{name}` | {default} |")), "{name} {default}");
        }
    }

    #[test]
    fn what_another_version_kept_is_let_be() {
        let kept = [("master_rpm", 7), ("of_the_future", 1), ("quota_percent", 1_000)];
        let all = all(&kept.map(|(name, value)| (name.to_owned(), value)).into());
        let expected = Thresholds { master_rpm: 7, quota_percent: WHOLE, ..Thresholds::default() };
        assert_eq!(all, expected);
    }
}
