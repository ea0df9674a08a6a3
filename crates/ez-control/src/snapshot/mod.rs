//! Snapshot building: what gateways route from, made from records. Pure; reading the records is `current`'s part.

mod current;
mod known;
mod models;

use std::collections::BTreeMap;

use chrono::DateTime;
use ez_contract::TokenDigest;
use ez_contract::selector::select;
use ez_contract::snapshot::{
    BindingSnapshot, Candidate, CandidateError, Limits, MasterSnapshot, ProviderSnapshot, Quota, Spend, TokenSnapshot,
};
use ez_contract::status::{ApiKeyStatus, RecordStatus};
use ez_store::api_keys::ApiKey;
use ez_store::bindings::Binding;
use ez_store::child_keys::ChildKey;
use ez_store::masters::Master;
use ez_store::namespaces::Namespace;
use ez_store::provider_groups::ProviderGroup;

pub(crate) use current::{Image, Reader, Reading, read_image};
pub use models::model_snapshot;

/// A provider group with its API keys: what a binding draws on.
#[derive(Debug, Clone)]
pub struct Supply {
    /// The provider group.
    pub group: ProviderGroup,
    /// Its API keys, in any state.
    pub api_keys: Vec<ApiKey>,
}

/// Compiles the bindings of a public model in a namespace. `supplies` holds the provider groups by id; a binding whose
/// group is not there was deleted with it a moment ago and is left out.
pub fn compile_binding(
    namespace: &Namespace,
    public_model: &str,
    bindings: &[Binding],
    supplies: &BTreeMap<i64, Supply>,
) -> BindingSnapshot {
    let supplied: Vec<(&Binding, &Supply)> =
        bindings.iter().filter_map(|binding| Some((binding, supplies.get(&binding.group_id)?))).collect();
    let mut candidates: Vec<Candidate> =
        supplied.iter().map(|(binding, supply)| candidate(public_model, binding, supply)).collect();
    candidates.sort_by_key(|candidate| (std::cmp::Reverse(candidate.priority), candidate.group_id));
    let parts = supplied.iter().flat_map(|(binding, supply)| {
        let api_keys = supply.api_keys.iter().map(|api_key| api_key.updated_at);
        api_keys.chain([binding.updated_at, supply.group.updated_at])
    });
    BindingSnapshot {
        namespace: namespace.name.clone(),
        public_model: public_model.to_owned(),
        status: namespace.status,
        updated_at: parts.fold(namespace.updated_at, DateTime::max).timestamp(),
        candidates,
    }
}

fn candidate(public_model: &str, binding: &Binding, supply: &Supply) -> Candidate {
    let value = if binding.selector_value.is_empty() { public_model } else { &binding.selector_value };
    let picked = select(binding.selector_type, value, &supply.group.models);
    let upstreams: BTreeMap<i64, String> = match (&picked, supply.group.status) {
        (Ok(model), RecordStatus::Active) => {
            let active = supply.api_keys.iter().filter(|api_key| api_key.status == ApiKeyStatus::Active);
            active.map(|api_key| (api_key.id, (*model).to_owned())).collect()
        }
        _ => BTreeMap::new(),
    };
    let error = match picked {
        Err(_) => Some(CandidateError::ConfigError),
        Ok(_) if upstreams.is_empty() => Some(CandidateError::NoProvider),
        Ok(_) => None,
    };
    Candidate {
        group_id: binding.group_id,
        route_group: supply.group.route_group.clone(),
        weight: binding.weight,
        priority: binding.priority,
        selector_type: binding.selector_type,
        selector_value: value.to_owned(),
        status: both(binding.status, supply.group.status),
        error,
        upstreams,
        on_client_gone: binding.on_client_gone,
    }
}

/// An API key with what its provider group adds.
pub fn provider_snapshot(group: &ProviderGroup, api_key: &ApiKey) -> ProviderSnapshot {
    let status = match (group.status, api_key.status) {
        (RecordStatus::Suspended, ApiKeyStatus::Active) => ApiKeyStatus::Suspended,
        (_, own) => own,
    };
    ProviderSnapshot {
        id: api_key.id,
        name: format!("{}#{}", group.name, api_key.id),
        provider_type: group.provider_type,
        base_url: group.base_url.clone(),
        api_key: api_key.api_key.clone().unwrap_or_default(),
        google_project: group.google_project.clone(),
        google_location: group.google_location.clone(),
        group_id: group.id,
        group: group.route_group.clone(),
        models: group.models.clone(),
        status,
        auto_ban: api_key.auto_ban,
        uuid: Some(api_key.uuid),
        // Absent means 1.
        weight: Some(api_key.weight).filter(|weight| *weight != 1),
        max_concurrency: api_key.max_concurrency,
        protocols: group.protocols.clone(),
        api_version: group.api_version.clone(),
        access_token: api_key.access_token.clone(),
        expires_at: api_key.expires_at.map(|end| end.timestamp()),
        account_id: api_key.account_id.clone(),
        project_id: api_key.project_id.clone(),
        ban_until: api_key.ban_until.map(|end| end.timestamp()),
    }
}

/// A child key as the gateway sees it under one of its digests: under the one before a rotation it ends with the
/// rotation, if not earlier.
pub fn token_snapshot(key: &ChildKey, digest: &TokenDigest) -> TokenSnapshot {
    let overlap_end = key.previous_expires_at.filter(|_| key.previous_digest.as_ref() == Some(digest));
    let expires_at = key.expires_at.into_iter().chain(overlap_end).min();
    TokenSnapshot {
        id: key.id,
        master_id: key.master_id,
        group: key.group.clone(),
        default_namespace: key.default_namespace.clone(),
        namespaces: key.namespaces.clone(),
        scopes: key.scopes.clone(),
        status: key.status,
        issued_at_epoch: key.issued_at_epoch,
        expires_at: expires_at.map(|end| end.timestamp()),
        allow_ips: key.allow_ips.clone(),
        deny_ips: key.deny_ips.clone(),
        model_limits_enabled: key.model_limits_enabled,
        model_limits: key.model_limits.clone(),
        limits: Limits {
            qps: unless_zero(key.global_qps),
            rpm: key.rpm,
            tpm: key.tpm,
            rpd: key.rpd,
            tpd: key.tpd,
            concurrency: key.max_concurrency,
        },
        quota: key.quota_limit.map(|limit| Quota {
            limit,
            used: key.quota_used,
            reset_at: key.quota_reset_at.map(|at| at.timestamp()),
        }),
    }
}

/// The digests that a child key is published under: its own, and during a rotation the one before. That one stays until
/// the record forgets it; until then its end in the snapshot is what stops it, so a snapshot does not depend on the time.
pub fn token_digests(key: &ChildKey) -> Vec<TokenDigest> {
    let previous = key.previous_digest.filter(|_| key.previous_expires_at.is_some());
    [Some(key.token_digest), previous].into_iter().flatten().collect()
}

/// A master as the gateway sees it. What it spent, the later month first, counts where it has a budget.
pub fn master_snapshot(master: &Master, spend: Vec<Spend>) -> MasterSnapshot {
    let mut spend = spend.into_iter().filter(|_| master.monthly_budget.is_some());
    MasterSnapshot {
        id: master.id,
        name: master.name.clone(),
        group: master.group.clone(),
        status: master.status,
        epoch: master.epoch,
        default_namespace: master.default_namespace.clone(),
        namespaces: master.namespaces.clone(),
        limits: Limits {
            qps: unless_zero(master.global_qps),
            rpm: master.rpm,
            tpm: master.tpm,
            rpd: master.rpd,
            tpd: master.tpd,
            concurrency: master.max_concurrency,
        },
        monthly_budget: master.monthly_budget.clone(),
        spend: spend.next(),
        spend_before: spend.next(),
    }
}

fn both(a: RecordStatus, b: RecordStatus) -> RecordStatus {
    if a == RecordStatus::Active { b } else { a }
}

/// A limit of calls per second, where 0 means unlimited.
fn unless_zero(limit: u32) -> Option<u32> {
    Some(limit).filter(|limit| *limit > 0)
}

#[cfg(test)]
mod tests;
