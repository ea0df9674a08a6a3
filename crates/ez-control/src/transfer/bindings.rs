//! Bindings of a document: ez-api's own to a provider group by name, another system's to all that serve a label.

use std::collections::{HashMap, HashSet};

use ez_contract::selector::{SelectorError, SelectorType, select};
use ez_contract::status::RecordStatus;
use ez_store::bindings::NewBinding;
use ez_store::namespaces::DEFAULT_NAMESPACE;

use super::document::Reading;
use super::entry::Entry;
use super::findings::Findings;
use super::plan::{Plan, PlannedBinding, PlannedGroup};

const DEFAULT_GROUP: &str = "default";

/// Bindings that a document comes to: each of its own may become several.
const MAX_BINDINGS: usize = 500_000;

/// Bindings by namespace, public model and provider group.
#[derive(Default)]
struct Bound(HashMap<(String, String, String), usize>);

/// Reads the document's `bindings` into the plan, which has its provider groups already.
pub(super) fn read(reading: &Reading<'_>, plan: &mut Plan, findings: &mut Findings) {
    let mut bound = Bound::default();
    let groups: HashSet<String> = plan.groups.iter().map(|group| group.record.name.clone()).collect();
    let served = served(&plan.groups);
    let mut bindings = Vec::new();
    let mut unserved = 0;
    for entry in reading.entries("bindings", findings) {
        if bindings.len() > MAX_BINDINGS {
            findings.fault("$.data.bindings", format!("become more than {MAX_BINDINGS}; split the document"));
            break;
        }
        let model = if entry.value("public_model").is_some() { "public_model" } else { "model" };
        let public_model = entry.required_label(model, findings);
        let namespace = reading.namespace(&entry, "namespace", findings);
        let status = entry.status("suspended", findings).unwrap_or(RecordStatus::Active);
        let record = NewBinding {
            namespace: namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
            public_model: public_model.clone().unwrap_or_default(),
            group_id: 0,
            weight: entry.number("weight", findings).unwrap_or(1),
            priority: entry.number("priority", findings).unwrap_or(0),
            selector_type: entry.word("selector_type", findings).unwrap_or(SelectorType::Exact),
            selector_value: entry.label("selector_value", findings).unwrap_or_default(),
            status,
            on_client_gone: entry.word("on_client_gone", findings),
            created_at: reading.now,
        };
        check_selector(&entry, &record, findings);
        plan.bound_namespaces.push(record.namespace.clone());
        if public_model.is_none() {
            continue;
        }
        let path = entry.path().to_owned();
        if entry.value("provider_group").is_some() {
            let Some(group) = entry.required_label("provider_group", findings) else { continue };
            if !groups.contains(&group) && !reading.standing_groups.contains(&group) {
                let message = format!("`{group}` is no provider group of the document and none here");
                findings.fault(entry.at("provider_group"), message);
            } else if !bound.add(&mut bindings, PlannedBinding { path, group, record }) {
                findings.fault(entry.path(), "binds a model to a provider group that it is bound to already");
            }
            continue;
        }
        let route_group = entry.label("route_group", findings).unwrap_or_else(|| DEFAULT_GROUP.to_owned());
        let found = served.get(&(route_group.clone(), record.public_model.clone()));
        for group in found.into_iter().flatten() {
            let (weight, priority) = (group.weight, group.priority);
            let record = NewBinding { weight, priority, ..record.clone() };
            bound.add(&mut bindings, PlannedBinding { path: path.clone(), group: group.name.clone(), record });
        }
        if found.is_none() {
            let model = &record.public_model;
            findings.warn(&path, format!("no provider of the document serves `{model}` to `{route_group}`"));
            unserved += 1;
        }
    }
    plan.bindings = bindings;
    plan.failed_bindings = unserved;
}

/// What a binding takes from the provider group that it reaches.
#[derive(Clone)]
struct Reached {
    name: String,
    weight: u32,
    priority: i32,
}

/// The provider groups by the label and the model that they serve.
fn served(groups: &[PlannedGroup]) -> HashMap<(String, String), Vec<Reached>> {
    let mut served: HashMap<(String, String), Vec<Reached>> = HashMap::new();
    for group in groups {
        let reached = Reached { name: group.record.name.clone(), weight: group.weight, priority: group.priority };
        for label in &group.route_groups {
            for model in &group.record.models {
                served.entry((label.clone(), model.clone())).or_default().push(reached.clone());
            }
        }
    }
    served
}

impl Bound {
    /// Adds a binding unless its key is bound already; two labels may lead to one provider group, and then one that is
    /// active is enough. Whether it was added.
    fn add(&mut self, bindings: &mut Vec<PlannedBinding>, binding: PlannedBinding) -> bool {
        let record = &binding.record;
        let key = (record.namespace.clone(), record.public_model.clone(), binding.group.clone());
        if let Some(first) = self.0.get(&key).and_then(|place| bindings.get_mut(*place)) {
            if record.status == RecordStatus::Active {
                first.record.status = RecordStatus::Active;
            }
            return false;
        }
        self.0.insert(key, bindings.len());
        bindings.push(binding);
        true
    }
}

fn check_selector(entry: &Entry<'_>, record: &NewBinding, findings: &mut Findings) {
    let value = if record.selector_value.is_empty() { &record.public_model } else { &record.selector_value };
    if let Err(error @ SelectorError::InvalidRegex(_)) = select(record.selector_type, value, &[]) {
        findings.fault(entry.at("selector_value"), error);
    }
}
