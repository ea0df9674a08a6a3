//! Providers of another system: channels with one secret each. Those that came from one multi-key channel become one
//! provider group with several API keys.

use std::collections::{HashMap, HashSet};

use ez_contract::ProviderType;
use ez_contract::status::{ApiKeyStatus, RecordStatus};
use ez_store::provider_groups::NewProviderGroup;

use super::document::Reading;
use super::entry::Entry;
use super::findings::Findings;
use super::given::Given;
use super::plan::{PlannedApiKey, PlannedGroup};
use super::secrets::check_secret;
use super::vendors::{vendor, with_version};
use crate::{base_url, checks};

const DEFAULT_GROUP: &str = "default";

/// One channel, read and not yet put together with its siblings.
struct Channel {
    original_name: Option<String>,
    original_id: Option<i64>,
    index: i64,
    group: PlannedGroup,
}

/// The provider groups that the document's `providers` become, in the order of their first channel.
pub(super) fn read(reading: &Reading<'_>, findings: &mut Findings) -> Vec<PlannedGroup> {
    let entries = reading.entries("providers", findings);
    let mut names = Names::of(&entries);
    let channels: Vec<Channel> = entries.iter().filter_map(|entry| channel(reading, entry, findings)).collect();
    let mut groups: Vec<PlannedGroup> = Vec::new();
    // Place in `groups` by original name, type and base URL: channels that differ in these are no siblings.
    let mut places: HashMap<(String, ProviderType, String), usize> = HashMap::new();
    for channel in in_order(channels) {
        let Channel { original_name, original_id, mut group, .. } = channel;
        if let Some(name) = &original_name {
            let key = (name.clone(), group.record.provider_type, group.record.base_url.clone());
            if let Some(place) = places.get(&key).copied() {
                if let Some(sibling) = groups.get_mut(place) {
                    join(sibling, group);
                }
                continue;
            }
            places.insert(key, groups.len());
        }
        group.record.name = names.take(&group.record.name, original_id, &group.path, findings);
        groups.push(group);
    }
    groups
}

/// Channels of one multi-key channel by their index, at the place of the first of them.
fn in_order(channels: Vec<Channel>) -> Vec<Channel> {
    let mut first_places: HashMap<String, usize> = HashMap::new();
    let mut placed: Vec<(usize, i64, Channel)> = Vec::with_capacity(channels.len());
    for (place, channel) in channels.into_iter().enumerate() {
        let place = match &channel.original_name {
            Some(name) => *first_places.entry(name.clone()).or_insert(place),
            None => place,
        };
        placed.push((place, channel.index, channel));
    }
    placed.sort_by_key(|(place, index, _)| (*place, *index));
    placed.into_iter().map(|(_, _, channel)| channel).collect()
}

fn channel(reading: &Reading<'_>, entry: &Entry<'_>, findings: &mut Findings) -> Option<Channel> {
    let name = entry.required_label("name", findings);
    let original_name = entry.label("original_name", findings);
    let original_id = entry.number("original_id", findings);
    let index = entry.number("multi_key_index", findings).unwrap_or(0);
    let kind = entry.required_label("type", findings);
    let models = entry.labels("models", findings).unwrap_or_default();
    let primary = entry.label("primary_group", findings);
    let mut route_groups = entry.labels("all_groups", findings).unwrap_or_default();
    let route_group = primary.or_else(|| route_groups.first().cloned()).unwrap_or_else(|| DEFAULT_GROUP.to_owned());
    if route_groups.is_empty() {
        route_groups.push(route_group.clone());
    }
    let weight = match entry.number("weight", findings) {
        Some(0) => {
            findings.warn(entry.path(), "weight 0 would never be drawn here; it is imported as 1");
            1
        }
        weight => weight.unwrap_or(1),
    };
    let mut group = PlannedGroup {
        path: entry.path().to_owned(),
        given: Given::of(entry),
        record: NewProviderGroup {
            name: String::new(),
            provider_type: ProviderType::Compatible,
            protocols: Vec::new(),
            route_group,
            base_url: String::new(),
            google_project: entry.label("google_project", findings).unwrap_or_default(),
            google_location: entry.label("google_location", findings).unwrap_or_default(),
            api_version: entry.label("api_version", findings),
            models,
            status: RecordStatus::Active,
            total_requests: 0,
            success_requests: 0,
            failure_requests: 0,
            last_used_at: None,
            created_at: reading.now,
        },
        api_keys: Vec::new(),
        route_groups,
        weight,
        priority: entry.number("priority", findings).unwrap_or(0),
    };
    let api_key = api_key(entry, name.clone(), weight, findings);
    settle_upstream(&mut group.record, kind.as_deref().unwrap_or_default(), entry, findings);
    if group.record.provider_type.is_oauth() {
        let kind = group.record.provider_type;
        let text = format!(
            "`{kind}` needs OAuth credentials, which the document does not have: the provider group is suspended"
        );
        findings.warn(entry.path(), text);
        group.record.status = RecordStatus::Suspended;
    }
    group.record.name = original_name.clone().or(name)?;
    group.api_keys.push(api_key?);
    Some(Channel { original_name, original_id, index, group })
}

fn api_key(entry: &Entry<'_>, name: Option<String>, weight: u32, findings: &mut Findings) -> Option<PlannedApiKey> {
    let secret = entry.secret("api_key", findings);
    match &secret {
        Some(secret) => check_secret(secret, &entry.at("api_key"), findings),
        None if entry.value("api_key").is_none_or(|value| value.is_string()) => {
            findings.fault(entry.at("api_key"), "is required and must not be empty; write the upstream's secret");
        }
        None => {}
    }
    let status = entry.status("manual_disabled", findings).unwrap_or(ApiKeyStatus::Active);
    let auto_ban = entry.flag("auto_ban", findings).unwrap_or(true);
    Some(PlannedApiKey {
        path: entry.path().to_owned(),
        given: Given::of(entry),
        uuid: None,
        name: name?,
        api_key: Some(secret?),
        access_token: None,
        refresh_token: None,
        expires_at: None,
        account_id: None,
        project_id: None,
        weight,
        max_concurrency: None,
        status,
        auto_ban,
        ban_reason: None,
        ban_until: None,
    })
}

/// Finds the type and the base URL; without a base URL where one is needed the group is suspended, never lost.
fn settle_upstream(record: &mut NewProviderGroup, kind: &str, entry: &Entry<'_>, findings: &mut Findings) {
    let found = vendor(kind);
    record.provider_type = found.provider_type;
    record.google_location = match record.google_location.as_str() {
        "" => found.provider_type.default_google_location().to_owned(),
        given => given.to_owned(),
    };
    let given = entry.label("base_url", findings);
    match (given, found.base_url) {
        (Some(given), _) => match base_url::parse(&given) {
            Ok(given) => record.base_url = with_version(found.provider_type, &given),
            Err(error) => findings.fault(entry.at("base_url"), error),
        },
        (None, Some(public)) => record.base_url = public.to_owned(),
        (None, None) if found.provider_type.requires_base_url() => {
            let text = format!(
                "`{kind}` has no public base URL that is well known: the provider group is suspended; give it its base URL and activate it"
            );
            findings.warn(entry.path(), text);
            record.status = RecordStatus::Suspended;
            return;
        }
        (None, None) => {}
    }
    if !found.is_known_type {
        let base_url = &record.base_url;
        findings.warn(entry.path(), format!("`{kind}` becomes `compatible` at {base_url}"));
    }
}

/// Adds a sibling's API key and what it adds to the group.
fn join(group: &mut PlannedGroup, sibling: PlannedGroup) {
    let models = [std::mem::take(&mut group.record.models), sibling.record.models].concat();
    group.record.models = checks::deduplicated(models);
    let route_groups = [std::mem::take(&mut group.route_groups), sibling.route_groups].concat();
    group.route_groups = checks::deduplicated(route_groups);
    group.weight = group.weight.max(sibling.weight);
    group.priority = group.priority.max(sibling.priority);
    group.api_keys.extend(sibling.api_keys);
}

/// Names of provider groups: channels of other systems may share one.
struct Names {
    /// Names that channels have in the document: one that is made up must not be another's.
    given: HashSet<String>,
    taken: HashSet<String>,
}

impl Names {
    fn of(entries: &[Entry<'_>]) -> Self {
        let names = ["name", "original_name"];
        let given = entries.iter().flat_map(|entry| {
            names.into_iter().filter_map(|field| Some(entry.value(field)?.as_str()?.trim().to_owned()))
        });
        Self { given: given.collect(), taken: HashSet::new() }
    }

    /// The name itself for the first who asks; for others with the channel's id, else counted.
    fn take(&mut self, name: &str, original_id: Option<i64>, path: &str, findings: &mut Findings) -> String {
        if self.taken.insert(name.to_owned()) {
            return name.to_owned();
        }
        let with_id = original_id.map(|id| format!("{name}-{id}"));
        let counted = (2_u32..).map(|count| format!("{name}-{count}"));
        let mut free = with_id.into_iter().chain(counted).filter(|made| !self.given.contains(made));
        let made = free.find(|made| !self.taken.contains(made)).unwrap_or_else(|| name.to_owned());
        findings.warn(path, format!("another provider is named `{name}` too; this one becomes `{made}`"));
        self.taken.insert(made.clone());
        made
    }
}
