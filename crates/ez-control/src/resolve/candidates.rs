//! Candidates, explained one by one: what they would be sent to, their share of the calls, and why they would be skipped.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use ez_contract::routing::can_serve;
use ez_contract::selector::{SelectorType, select};
use ez_contract::snapshot::{BindingSnapshot, Candidate, CandidateError};
use ez_contract::status::{ApiKeyStatus, RecordStatus};
use ez_store::api_keys::ApiKey;
use ez_store::bindings::Binding;

use crate::Control;
use crate::api_keys::open;
use crate::snapshot::Supply;

/// API keys of a candidate that are told of; those that can be used come first.
const MAX_API_KEYS: usize = 100;

/// A candidate of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainedCandidate {
    /// The binding that it stands for.
    pub binding_id: i64,
    /// The provider group that it leads to.
    pub group_id: i64,
    /// That group's name.
    pub group_name: String,
    /// Higher is tried first.
    pub priority: i32,
    /// Share of the calls within its priority.
    pub weight: u32,
    /// The part of the calls that try it first among those of its priority, in percent; 0 where it would be skipped.
    pub share_percent: f64,
    /// How the upstream model is picked.
    pub selector_type: SelectorType,
    /// The value it is picked by.
    pub selector_value: String,
    /// The upstream model, where one is picked.
    pub upstream_model: Option<String>,
    /// Why it cannot serve, as it is published.
    pub error: Option<CandidateError>,
    /// Every reason to skip it; none where it can serve.
    pub skipped_because: Vec<String>,
    /// How many API keys its provider group has.
    pub api_keys_total: usize,
    /// The first hundred of them, those that can be used first.
    pub api_keys: Vec<ExplainedApiKey>,
}

/// An API key of a candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainedApiKey {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its state.
    pub status: ApiKeyStatus,
    /// Share of the candidate's calls, relative to its siblings.
    pub weight: u32,
    /// The part of the candidate's calls that try it first, in percent; 0 where it would be skipped.
    pub share_percent: f64,
    /// What it would be asked for; none where the candidate picks no model or leaves it out.
    pub upstream_model: Option<String>,
    /// Why it would be skipped; none where it can be used.
    pub skipped_because: Option<String>,
}

impl ExplainedCandidate {
    /// Whether a gateway would try it.
    pub(crate) fn can_serve(&self) -> bool {
        self.skipped_because.is_empty()
    }
}

/// Explains the candidates of a compiled model, in the order in which a gateway would try them.
pub(crate) fn explain(
    control: &Control,
    snapshot: &BindingSnapshot,
    bindings: &[Binding],
    supplies: &BTreeMap<i64, Supply>,
) -> Vec<ExplainedCandidate> {
    let mut explained: Vec<ExplainedCandidate> = snapshot
        .candidates
        .iter()
        .filter_map(|candidate| {
            // A model is bound to a group once.
            let binding = bindings.iter().find(|binding| binding.group_id == candidate.group_id)?;
            let supply = supplies.get(&candidate.group_id)?;
            Some(one(control, snapshot.status, candidate, binding, supply))
        })
        .collect();
    let mut totals: BTreeMap<i32, u64> = BTreeMap::new();
    for candidate in explained.iter().filter(|candidate| candidate.can_serve()) {
        *totals.entry(candidate.priority).or_default() += u64::from(candidate.weight);
    }
    for candidate in explained.iter_mut().filter(|candidate| candidate.can_serve()) {
        candidate.share_percent = percent(candidate.weight, totals.get(&candidate.priority).copied());
    }
    explained.sort_by_key(|candidate| {
        (Reverse(candidate.priority), !candidate.can_serve(), Reverse(candidate.weight), candidate.group_id)
    });
    explained
}

fn one(
    control: &Control,
    namespace: RecordStatus,
    candidate: &Candidate,
    binding: &Binding,
    supply: &Supply,
) -> ExplainedCandidate {
    let picked = select(candidate.selector_type, &candidate.selector_value, &supply.group.models);
    let mut api_keys: Vec<ExplainedApiKey> =
        supply.api_keys.iter().map(|api_key| explain_api_key(control, candidate, api_key)).collect();
    let total = api_keys.iter().filter(|key| key.skipped_because.is_none()).map(|key| u64::from(key.weight)).sum();
    for key in api_keys.iter_mut().filter(|key| key.skipped_because.is_none()) {
        key.share_percent = percent(key.weight, Some(total));
    }
    api_keys.sort_by_key(|key| (key.skipped_because.is_some(), Reverse(key.weight), key.id));

    let is_suspended = |status| status != RecordStatus::Active;
    let mut skipped_because = Vec::new();
    let mut skip = |is_so: bool, reason: String| {
        if is_so {
            skipped_because.push(reason);
        }
    };
    skip(is_suspended(namespace), format!("the namespace `{}` is suspended", binding.namespace));
    skip(is_suspended(binding.status), "the binding is suspended".to_owned());
    skip(is_suspended(supply.group.status), format!("the provider group `{}` is suspended", supply.group.name));
    skip(binding.weight == 0, "the binding's weight is 0".to_owned());
    if let Err(error) = &picked {
        skip(true, format!("{}: {error}", CandidateError::ConfigError));
    } else {
        let is_unusable = can_serve(candidate) && total == 0;
        let has_none = candidate.error == Some(CandidateError::NoProvider) && !is_suspended(supply.group.status);
        let reason = "the provider group has no API key that can be used";
        skip(has_none || is_unusable, format!("{}: {reason}", CandidateError::NoProvider));
    }
    ExplainedCandidate {
        binding_id: binding.id,
        group_id: candidate.group_id,
        group_name: supply.group.name.clone(),
        priority: candidate.priority,
        weight: candidate.weight,
        share_percent: 0.0,
        selector_type: candidate.selector_type,
        selector_value: candidate.selector_value.clone(),
        upstream_model: picked.ok().map(str::to_owned),
        error: candidate.error,
        skipped_because,
        api_keys_total: api_keys.len(),
        api_keys: api_keys.into_iter().take(MAX_API_KEYS).collect(),
    }
}

fn explain_api_key(control: &Control, candidate: &Candidate, api_key: &ApiKey) -> ExplainedApiKey {
    let upstream_model = candidate.upstreams.get(&api_key.id).cloned();
    let skipped_because = if api_key.status != ApiKeyStatus::Active {
        Some(not_active(api_key))
    } else if api_key.weight == 0 {
        Some("its weight is 0".to_owned())
    } else if open(control, api_key).is_none() {
        Some("its secret cannot be opened with this EZ_SECRET_KEY; write it again".to_owned())
    } else if upstream_model.is_none() {
        Some("the candidate is skipped".to_owned())
    } else {
        None
    };
    ExplainedApiKey {
        id: api_key.id,
        name: api_key.name.clone(),
        status: api_key.status,
        weight: api_key.weight,
        share_percent: 0.0,
        upstream_model,
        skipped_because,
    }
}

fn not_active(api_key: &ApiKey) -> String {
    let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    match (api_key.status, api_key.ban_until, &api_key.ban_reason) {
        (ApiKeyStatus::AutoDisabled, Some(until), Some(reason)) => format!("banned until {}: {reason}", time(until)),
        (ApiKeyStatus::AutoDisabled, None, Some(reason)) => format!("banned: {reason}"),
        (status, ..) => format!("its status is {status}"),
    }
}

/// A part of a whole in percent, to two places.
fn percent(part: u32, whole: Option<u64>) -> f64 {
    let whole = whole.filter(|whole| *whole > 0);
    whole.map_or(0.0, |whole| (f64::from(part) * 10_000.0 / whole as f64).round() / 100.0)
}
