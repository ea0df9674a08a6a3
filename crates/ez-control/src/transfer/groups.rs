//! Provider groups of ez-api's own export, with their API keys.

use std::collections::HashSet;

use ez_contract::status::{ApiKeyStatus, RecordStatus};
use ez_contract::{Protocol, ProviderType};
use ez_store::provider_groups::NewProviderGroup;
use serde_json::Value as Json;
use uuid::Uuid;

use super::document::Reading;
use super::entry::Entry;
use super::findings::Findings;
use super::given::Given;
use super::plan::{PlannedApiKey, PlannedGroup};
use super::secrets::check_secret;
use crate::{base_url, checks};

const DEFAULT_GROUP: &str = "default";

/// API keys of one provider group.
const MAX_API_KEYS: usize = 10_000;

/// Characters of the reason of a ban.
const MAX_REASON_CHARS: usize = 2000;

/// The document's `provider_groups`.
pub(super) fn read(reading: &Reading<'_>, findings: &mut Findings) -> Vec<PlannedGroup> {
    let entries = reading.entries("provider_groups", findings);
    let mut uuids = HashSet::new();
    entries.iter().filter_map(|entry| group(reading, entry, &mut uuids, findings)).collect()
}

fn group(
    reading: &Reading<'_>,
    entry: &Entry<'_>,
    uuids: &mut HashSet<Uuid>,
    findings: &mut Findings,
) -> Option<PlannedGroup> {
    let name = entry.required_label("name", findings);
    let kind = entry.required_label("type", findings);
    let provider_type: Option<ProviderType> = kind.and_then(|kind| entry.parsed("type", &kind, findings));
    let route_group = entry.label("route_group", findings).unwrap_or_else(|| DEFAULT_GROUP.to_owned());
    let status = entry.status("suspended", findings).unwrap_or(RecordStatus::Active);
    let protocols = protocols(entry, findings);
    let models = entry.labels("models", findings).unwrap_or_default();
    let base_url = base_url_of(entry, provider_type, status, findings);
    let location = entry.label("google_location", findings);
    let google_project = entry.label("google_project", findings).unwrap_or_default();
    let api_version = entry.label("api_version", findings);
    let api_keys = api_keys(entry, uuids, findings);
    let provider_type = provider_type?;
    Some(PlannedGroup {
        path: entry.path().to_owned(),
        given: Given::of(entry),
        record: NewProviderGroup {
            name: name?,
            provider_type,
            protocols,
            route_group: route_group.clone(),
            base_url,
            google_project,
            google_location: location.unwrap_or_else(|| provider_type.default_google_location().to_owned()),
            api_version,
            models,
            status,
            total_requests: 0,
            success_requests: 0,
            failure_requests: 0,
            last_used_at: None,
            created_at: reading.now,
        },
        api_keys,
        route_groups: vec![route_group],
        weight: 1,
        priority: 0,
    })
}

fn protocols(entry: &Entry<'_>, findings: &mut Findings) -> Vec<Protocol> {
    let mut protocols = Vec::new();
    for item in entry.items("protocols", findings).unwrap_or_default() {
        match item.text.parse::<Protocol>() {
            Ok(protocol) => protocols.push(protocol),
            Err(error) => findings.fault(item.path, error),
        }
    }
    checks::deduplicated(protocols)
}

/// The base URL; a suspended group may be without one that its type needs, as an import may have left it.
fn base_url_of(
    entry: &Entry<'_>,
    provider_type: Option<ProviderType>,
    status: RecordStatus,
    findings: &mut Findings,
) -> String {
    let given = entry.label("base_url", findings);
    match given.map(|given| base_url::parse(&given)) {
        Some(Ok(base_url)) => return base_url,
        Some(Err(error)) => findings.fault(entry.at("base_url"), error),
        None if status == RecordStatus::Suspended => {}
        None => {
            if let Some(provider_type) = provider_type.filter(|provider_type| provider_type.requires_base_url()) {
                let message = format!("is required for `{provider_type}`, such as https://llm.example.com/v1");
                findings.fault(entry.at("base_url"), message);
            }
        }
    }
    String::new()
}

fn api_keys(group: &Entry<'_>, uuids: &mut HashSet<Uuid>, findings: &mut Findings) -> Vec<PlannedApiKey> {
    let Some(value) = group.value("api_keys") else { return Vec::new() };
    let Some(values) = value.as_array().filter(|values| values.len() <= MAX_API_KEYS) else {
        findings.fault(group.at("api_keys"), format!("must be a list of at most {MAX_API_KEYS} API keys"));
        return Vec::new();
    };
    let read = |(place, value): (usize, &Json)| {
        let entry = Entry::new(value, format!("{}.api_keys[{place}]", group.path()), findings)?;
        Some(api_key(&entry, uuids, findings))
    };
    values.iter().enumerate().filter_map(read).collect()
}

fn api_key(entry: &Entry<'_>, uuids: &mut HashSet<Uuid>, findings: &mut Findings) -> PlannedApiKey {
    let uuid: Option<Uuid> = entry.word("uuid", findings);
    if uuid.is_some_and(|uuid| !uuids.insert(uuid)) {
        findings.fault(entry.at("uuid"), "is the uuid of another API key of the document; leave it out for a new one");
    }
    let mut secret = |field: &str| {
        let secret = entry.secret(field, findings);
        if let Some(secret) = &secret {
            check_secret(secret, &entry.at(field), findings);
        }
        secret
    };
    let [api_key, access_token, refresh_token] = ["api_key", "access_token", "refresh_token"].map(&mut secret);
    let ban_reason = entry
        .raw_text("ban_reason", findings)
        .map(|reason| reason.chars().filter(|character| !character.is_control()).take(MAX_REASON_CHARS).collect());
    let max_concurrency = entry.number("max_concurrency", findings);
    if max_concurrency == Some(0) {
        findings.fault(entry.at("max_concurrency"), "must be 1 or more; leave it out for no limit");
    }
    PlannedApiKey {
        path: entry.path().to_owned(),
        given: Given::of(entry),
        uuid,
        name: entry.label("name", findings).unwrap_or_default(),
        api_key,
        access_token,
        refresh_token,
        expires_at: entry.time("expires_at", findings),
        account_id: entry.label("account_id", findings),
        project_id: entry.label("project_id", findings),
        weight: entry.number("weight", findings).unwrap_or(1),
        max_concurrency,
        status: entry.status("manual_disabled", findings).unwrap_or(ApiKeyStatus::Active),
        auto_ban: entry.flag("auto_ban", findings).unwrap_or(true),
        ban_reason,
        ban_until: entry.time("ban_until", findings),
    }
}
