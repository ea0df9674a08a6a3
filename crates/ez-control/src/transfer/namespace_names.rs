//! Namespace names for what other systems call groups: valid ones stay, others are slugged, the same way wherever the
//! document names them, whatever stands in the database.

use std::collections::{BTreeSet, HashMap};

use ez_contract::TokenDigest;
use ez_contract::model_ref::is_namespace_name;
use serde_json::Value as Json;

use super::findings::Findings;

/// Characters of a namespace name.
const MAX_NAME: usize = 64;

/// Hex digits that tell names apart whose slugs are the same: enough for the few thousand names of a document.
const MARK_LENGTH: usize = 8;

/// From a name in the document to the namespace's name.
#[derive(Debug, Default)]
pub(super) struct NamespaceNames(HashMap<String, String>);

impl NamespaceNames {
    /// Settles the names of everything that the document's `data` names as a namespace.
    pub(super) fn of(data: &Json) -> Self {
        Self::settle(named(data))
    }

    fn settle(names: BTreeSet<String>) -> Self {
        let mut users: HashMap<String, usize> = HashMap::new();
        for name in &names {
            *users.entry(slug(name)).or_default() += 1;
        }
        let settled = names.into_iter().map(|name| {
            if is_namespace_name(&name) {
                return (name.clone(), name);
            }
            let short = slug(&name);
            let is_alone = users.get(&short) == Some(&1);
            let settled = if is_alone && !short.is_empty() { short } else { marked(&short, &name) };
            (name, settled)
        });
        Self(settled.collect())
    }

    /// The namespace that `name` at `path` stands for, with a warning where it is another.
    pub(super) fn resolve(&self, name: &str, path: &str, findings: &mut Findings) -> String {
        let settled = self.0.get(name).cloned().unwrap_or_else(|| marked(&slug(name), name));
        if settled != name {
            findings.warn(path, format!("`{name}` is no namespace name; `{settled}` stands for it everywhere"));
        }
        settled
    }
}

/// Every namespace that a document names. What is no text is left to those who read the entries.
fn named(data: &Json) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let entries = |list: &str| data.get(list).and_then(Json::as_array).into_iter().flatten();
    let mut add = |value: Option<&Json>| {
        names.extend(value.and_then(Json::as_str).map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
    };
    for entry in entries("namespaces") {
        add(entry.get("name"));
    }
    for entry in entries("masters").chain(entries("keys")) {
        add(entry.get("default_namespace"));
        for name in entry.get("namespaces").and_then(Json::as_array).into_iter().flatten() {
            add(Some(name));
        }
    }
    for entry in entries("bindings") {
        add(entry.get("namespace"));
    }
    names
}

/// Lower case; what cannot stand in a name becomes one `-`; empty where nothing is left.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for character in name.to_lowercase().chars() {
        if character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_' {
            slug.push(character);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_start_matches('_').trim_end_matches('-');
    slug.chars().take(MAX_NAME).collect()
}

/// The slug with a mark of the whole name.
fn marked(slug: &str, name: &str) -> String {
    let slug: String = if slug.is_empty() { "ns" } else { slug }.chars().take(MAX_NAME - MARK_LENGTH - 1).collect();
    format!("{slug}-{:.MARK_LENGTH$}", TokenDigest::of(name).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settled(names: &[&str]) -> Vec<String> {
        let all = NamespaceNames::settle(names.iter().map(|name| (*name).to_owned()).collect());
        let mut findings = Findings::default();
        names.iter().map(|name| all.resolve(name, "$", &mut findings)).collect()
    }

    #[test]
    fn valid_names_stay_and_others_are_slugged() {
        assert_eq!(settled(&["default", "VIP Users!", "a.b", "_x"]), ["default", "vip-users", "a-b", "x"]);
        let long = "A".repeat(100);
        assert_eq!(settled(&[&long]), ["a".repeat(64)]);
        for name in settled(&["用户", "--", "ÄÖ", &long]) {
            assert!(is_namespace_name(&name), "{name}");
        }
    }

    #[test]
    fn names_with_the_same_slug_are_told_apart_in_any_order() {
        let (there, back) = (settled(&["vip", "VIP", "Vip"]), settled(&["Vip", "VIP", "vip"]));
        assert_eq!(there[0], "vip");
        assert!(there[1].starts_with("vip-") && there[2].starts_with("vip-") && there[1] != there[2], "{there:?}");
        assert_eq!(there, back.into_iter().rev().collect::<Vec<_>>());
        let foreign = settled(&["用户", "贵宾"]);
        assert!(foreign[0].starts_with("ns-") && foreign[0] != foreign[1], "{foreign:?}");
    }

    #[test]
    fn names_are_found_wherever_a_document_has_them() {
        let data = json!({
            "namespaces": [{"name": "a"}], "masters": [{"namespaces": ["b", "", 5], "default_namespace": "c"}],
            "keys": [{"namespaces": ["d"], "default_namespace": " "}], "bindings": [{"namespace": "e"}, 7],
        });
        assert_eq!(named(&data).into_iter().collect::<Vec<_>>(), ["a", "b", "c", "d", "e"]);
    }
}
