//! Which fields an entry gives. Other systems do not know every field of a record, and an overwrite leaves those alone
//! that the document does not have: a budget that was set here must not end because it is nowhere there.

use super::entry::Entry;

/// Fields that an entry may leave out. Each has a bit of [`Given`].
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum Field {
    ApiVersion,
    AllowIps,
    AccountId,
    DenyIps,
    ExpiresAt,
    GlobalQps,
    GoogleLocation,
    GoogleProject,
    Group,
    MaxChildKeys,
    MaxConcurrency,
    ModelLimits,
    ModelLimitsEnabled,
    MonthlyBudget,
    Name,
    PreviousDigest,
    ProjectId,
    Protocols,
    QuotaLimit,
    QuotaReset,
    Rpd,
    Rpm,
    Scopes,
    Status,
    Tpd,
    Tpm,
}

/// Where a document has each of them: any of these names gives it.
const NAMES: [(Field, &[&str]); 26] = [
    (Field::ApiVersion, &["api_version"]),
    (Field::AllowIps, &["allow_ips"]),
    (Field::AccountId, &["account_id"]),
    (Field::DenyIps, &["deny_ips"]),
    (Field::ExpiresAt, &["expires_at"]),
    (Field::GlobalQps, &["global_qps"]),
    (Field::GoogleLocation, &["google_location"]),
    (Field::GoogleProject, &["google_project"]),
    (Field::Group, &["group"]),
    (Field::MaxChildKeys, &["max_child_keys"]),
    (Field::MaxConcurrency, &["max_concurrency"]),
    (Field::ModelLimits, &["model_limits"]),
    (Field::ModelLimitsEnabled, &["model_limits_enabled"]),
    (Field::MonthlyBudget, &["monthly_budget"]),
    (Field::Name, &["name"]),
    (Field::PreviousDigest, &["previous_digest"]),
    (Field::ProjectId, &["project_id"]),
    (Field::Protocols, &["protocols"]),
    (Field::QuotaLimit, &["quota_limit", "unlimited_quota"]),
    (Field::QuotaReset, &["quota_reset"]),
    (Field::Rpd, &["rpd"]),
    (Field::Rpm, &["rpm"]),
    (Field::Scopes, &["scopes"]),
    (Field::Status, &["status"]),
    (Field::Tpd, &["tpd"]),
    (Field::Tpm, &["tpm"]),
];

/// The fields that an entry gives, be it as null.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given(u32);

impl Given {
    pub(super) fn of(entry: &Entry<'_>) -> Self {
        let given = NAMES.iter().filter(|(_, names)| names.iter().any(|name| entry.has(name)));
        Self(given.fold(0, |bits, (field, _)| bits | bit(*field)))
    }

    /// What the document tells, where it gives the field; else what stands.
    pub(super) fn or<T>(self, field: Field, told: T, standing: T) -> T {
        if self.0 & bit(field) == 0 { standing } else { told }
    }
}

fn bit(field: Field) -> u32 {
    1 << (field as u8)
}
