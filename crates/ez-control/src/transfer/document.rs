//! The document: its envelope, its version, and the order in which its parts are read.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use ez_contract::status::RecordStatus;
use ez_store::namespaces::NewNamespace;
use serde_json::Value as Json;

use super::entry::Entry;
use super::findings::Findings;
use super::namespace_names::NamespaceNames;
use super::plan::{Plan, PlannedNamespace};
use super::{bindings, flags, groups, models, providers, tenants};
use crate::ControlError;

/// Bytes of a document.
pub const MAX_DOCUMENT_BYTES: usize = 256 << 20;

/// Entries of each list of a document.
const MAX_ENTRIES: usize = 200_000;

/// Characters of a warning that the document carries.
const MAX_WARNING_CHARS: usize = 500;

/// Warnings that the document carries which are told again.
const MAX_WARNINGS: usize = 100;

/// What readers of parts share.
pub(super) struct Reading<'a> {
    data: &'a Json,
    /// A document of another system (version 1.x): some fields mean something else there.
    pub(super) is_foreign: bool,
    pub(super) namespaces: NamespaceNames,
    pub(super) now: DateTime<Utc>,
    /// Masters and provider groups of the database, by name: the document may refer to them.
    pub(super) standing_masters: &'a HashSet<String>,
    pub(super) standing_groups: &'a HashSet<String>,
}

/// Names that stand in the database already.
#[derive(Debug, Default)]
pub(super) struct Standing {
    pub(super) masters: HashSet<String>,
    pub(super) groups: HashSet<String>,
}

/// Reads a whole document. Faults are in `findings`; what has one is left out of the plan. Errors: `Invalid` for what is
/// no document at all.
pub(super) fn read(
    text: &[u8],
    standing: &Standing,
    now: DateTime<Utc>,
    findings: &mut Findings,
) -> Result<Plan, ControlError> {
    let document = parse(text, findings)?;
    let Some(envelope) = Entry::new(&document, "$".to_owned(), findings) else { return Ok(Plan::default()) };
    let major = major_version(&envelope, findings);
    repeat_warnings(&envelope, findings);
    let Some(data) = envelope.value("data") else {
        findings.fault("$.data", "is required: the object with providers, masters, keys and bindings");
        return Ok(Plan::default());
    };
    if Entry::new(data, "$.data".to_owned(), findings).is_none() {
        return Ok(Plan::default());
    }
    let reading = Reading {
        data,
        is_foreign: major == 1,
        namespaces: NamespaceNames::of(data),
        now,
        standing_masters: &standing.masters,
        standing_groups: &standing.groups,
    };
    let mut plan = Plan { groups: providers::read(&reading, findings), ..Plan::default() };
    plan.groups.extend(groups::read(&reading, findings));
    refuse_twins(&plan, findings);
    tenants::read(&reading, &mut plan, findings);
    bindings::read(&reading, &mut plan, findings);
    plan.namespaces = namespaces(&reading, &plan, findings);
    plan.models = models::read(&reading, findings);
    (plan.flags, plan.failed_flags) = flags::read(&reading, findings);
    Ok(plan)
}

fn parse(text: &[u8], findings: &mut Findings) -> Result<Json, ControlError> {
    if text.len() > MAX_DOCUMENT_BYTES {
        findings.fault("$", format!("must have at most {} MiB; split the document", MAX_DOCUMENT_BYTES >> 20));
        findings.refuse_faults()?;
    }
    serde_json::from_slice(text).or_else(|error| {
        // The parser's own words may repeat a part of the document, and that may be a secret.
        let what = if error.is_eof() { "ends too early" } else { "is not valid JSON" };
        findings.fault("$", format!("{what} at line {}, column {}", error.line(), error.column()));
        findings.refuse_faults()?;
        Ok(Json::Null)
    })
}

/// 1 or 2; a fault otherwise.
fn major_version(envelope: &Entry<'_>, findings: &mut Findings) -> u32 {
    let version = envelope.required_label("version", findings).unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    if !version.is_empty() && !matches!(major, 1 | 2) {
        findings.fault("$.version", format!("`{version}` cannot be read; 1.x and 2.x can"));
    }
    major
}

/// What the exporting program had to say, for the operator who may not have seen it.
fn repeat_warnings(envelope: &Entry<'_>, findings: &mut Findings) {
    let Some(warnings) = envelope.value("warnings").and_then(Json::as_array) else { return };
    for (place, warning) in warnings.iter().filter_map(Json::as_str).take(MAX_WARNINGS).enumerate() {
        let shown: String = warning.chars().filter(|c| !c.is_control()).take(MAX_WARNING_CHARS).collect();
        findings.warn(&format!("$.warnings[{place}]"), format!("told by the program that exported: {shown}"));
    }
}

impl<'a> Reading<'a> {
    /// The entries of a list of `data`; what is no object is a fault.
    pub(super) fn entries(&self, list: &str, findings: &mut Findings) -> Vec<Entry<'a>> {
        let path = format!("$.data.{list}");
        let Some(value) = self.data.get(list).filter(|value| !value.is_null()) else { return Vec::new() };
        let Some(values) = value.as_array() else {
            findings.fault(path, "must be a list");
            return Vec::new();
        };
        if values.len() > MAX_ENTRIES {
            findings.fault(path, format!("must have at most {MAX_ENTRIES} entries; split the document"));
            return Vec::new();
        }
        let entries = values.iter().enumerate();
        entries.filter_map(|(place, value)| Entry::new(value, format!("{path}[{place}]"), findings)).collect()
    }

    /// An object of `data`, where the document is ez-api's own; what is no object is a fault.
    pub(super) fn own_object(&self, field: &str, findings: &mut Findings) -> Option<Entry<'a>> {
        let value = self.data.get(field).filter(|value| !value.is_null() && !self.is_foreign)?;
        Entry::new(value, format!("$.data.{field}"), findings)
    }

    /// The namespaces that a field lists, each once; empty texts are dropped.
    pub(super) fn namespaces(&self, entry: &Entry<'_>, field: &str, findings: &mut Findings) -> Vec<String> {
        let items = entry.items(field, findings).unwrap_or_default();
        let names = items.into_iter().map(|item| self.namespaces.resolve(&item.text, &item.path, findings)).collect();
        crate::checks::deduplicated(names)
    }

    /// The namespace that a field names.
    pub(super) fn namespace(&self, entry: &Entry<'_>, field: &str, findings: &mut Findings) -> Option<String> {
        let name = entry.label(field, findings)?;
        Some(self.namespaces.resolve(&name, &entry.at(field), findings))
    }
}

/// Two provider groups of one name in one document are one too many.
fn refuse_twins(plan: &Plan, findings: &mut Findings) {
    let mut places: HashMap<&str, &str> = HashMap::new();
    for group in &plan.groups {
        if let Some(first) = places.insert(&group.record.name, &group.path) {
            let message = format!("the provider group at {first} is named `{}` too; rename one", group.record.name);
            findings.fault(format!("{}.name", group.path), message);
        }
    }
}

/// Namespaces that the document describes, then those that it only names, each once.
fn namespaces(reading: &Reading<'_>, plan: &Plan, findings: &mut Findings) -> Vec<PlannedNamespace> {
    let mut planned = Vec::new();
    let mut places: HashMap<String, String> = HashMap::new();
    for entry in reading.entries("namespaces", findings) {
        let name = reading.namespace(&entry, "name", findings);
        let description = entry.raw_text("description", findings).unwrap_or_default().to_owned();
        check_description(&entry, &description, findings);
        let status = entry.status("suspended", findings).unwrap_or(RecordStatus::Active);
        let Some(name) = name else {
            findings.fault(entry.at("name"), "is required and must not be empty");
            continue;
        };
        if let Some(first) = places.insert(name.clone(), entry.path().to_owned()) {
            findings.fault(entry.at("name"), format!("`{name}` is described at {first} already"));
            continue;
        }
        let record = NewNamespace { name, description, status, created_at: reading.now };
        planned.push(PlannedNamespace { record, is_described: true });
    }
    let masters = plan.masters.iter().flat_map(|master| &master.record.namespaces);
    let keys = plan.keys.iter().flat_map(|key| &key.record.namespaces);
    for name in masters.chain(keys).chain(&plan.bound_namespaces) {
        if !places.contains_key(name) {
            places.insert(name.clone(), String::new());
            let (name, description) = (name.clone(), String::new());
            let record = NewNamespace { name, description, status: RecordStatus::Active, created_at: reading.now };
            planned.push(PlannedNamespace { record, is_described: false });
        }
    }
    planned
}

fn check_description(entry: &Entry<'_>, text: &str, findings: &mut Findings) {
    let mut faults = crate::error::Faults::default();
    crate::checks::description(&mut faults, &entry.at("description"), text);
    if let Err(ControlError::Invalid(faults)) = faults.into_result() {
        for fault in faults {
            findings.fault(fault.pointer, fault.message);
        }
    }
}
