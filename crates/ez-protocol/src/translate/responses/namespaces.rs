//! Tools in namespaces (`type: namespace`): one flat name for each, and back. No other protocol has namespaces.

use std::collections::HashMap;

use super::super::target::AnswerContext;
use crate::json::{Escaped, Value};
use crate::scan;

/// The type of an item of the input that adds tools. What they are is kept under this name for the answer, which repeats
/// them nowhere.
pub(super) const ADDITIONAL_TOOLS: &str = "additional_tools";

/// The flat name of a tool: the namespace in front. Clients that flatten by themselves end theirs with `__`
/// (`mcp__files__`), which is kept as it is.
pub(super) fn flat_name<'a>(namespace: Option<&Escaped<'a>>, name: Escaped<'a>) -> Escaped<'a> {
    let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) else { return name };
    let mut flat = namespace.clone();
    if !namespace.as_str().ends_with("__") {
        flat.push(&Escaped::of("__"));
    }
    flat.push(&name);
    flat
}

/// The namespace and the name behind a flat name.
#[derive(Debug)]
pub(super) struct Spaced {
    pub(super) namespace: Escaped<'static>,
    pub(super) name: Escaped<'static>,
}

/// The tools of a request that stand in namespaces, by their flat names.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    by_flat: HashMap<String, Spaced>,
}

impl Namespaces {
    /// Those of the request that an answer is for.
    pub(super) fn of(context: &AnswerContext) -> Self {
        let mut namespaces = Self::default();
        for (_, tools) in context.echo.iter().filter(|(key, _)| matches!(*key, "tools" | ADDITIONAL_TOOLS)) {
            namespaces.add(tools);
        }
        namespaces
    }

    /// Adds those of `tools`, a JSON array.
    fn add(&mut self, tools: &str) {
        // Nearly no request has one.
        if !tools.contains("\"namespace\"") {
            return;
        }
        for place in scan::elements(tools.as_bytes(), usize::MAX).unwrap_or_default() {
            let Some(tool) = Value::parse_object(&tools[place]).filter(|tool| is_namespace(*tool)) else { continue };
            let namespace = tool.get("name").and_then(Value::string);
            for inner in tool.get("tools").and_then(Value::elements).unwrap_or_default() {
                let Some(name) = inner.get("name").and_then(Value::string) else { continue };
                let Some(namespace) = namespace.as_ref().filter(|namespace| !namespace.is_empty()) else { continue };
                let flat = flat_name(Some(namespace), name.clone()).text().into_owned();
                self.by_flat
                    .insert(flat, Spaced { namespace: namespace.clone().into_owned(), name: name.into_owned() });
            }
        }
    }

    /// What stands behind a flat name; `None` where it is a name of its own.
    pub(super) fn get(&self, flat: &Escaped<'_>) -> Option<&Spaced> {
        if self.by_flat.is_empty() {
            return None;
        }
        self.by_flat.get(flat.text().as_ref())
    }
}

fn is_namespace(tool: Value<'_>) -> bool {
    tool.get("type").is_some_and(|kind| kind.is("namespace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_names_come_back() {
        let tools = r#"[{"type":"function","name":"plain"},{"type":"namespace","name":"crm","tools":[{"type":"function",
            "name":"find"}]},{"type":"namespace","name":"mcp__fs__","tools":[{"name":"read"},7]},7]"#;
        let mut namespaces = Namespaces::default();
        namespaces.add(tools);
        for (space, name, flat) in [("crm", "find", "crm__find"), ("mcp__fs__", "read", "mcp__fs__read")] {
            let (space, name) = (Escaped::of(space), Escaped::of(name));
            assert_eq!(flat_name(Some(&space), name.clone()).as_str(), flat);
            let spaced = namespaces.get(&Escaped::of(flat)).unwrap();
            assert_eq!((&spaced.namespace, &spaced.name), (&space, &name));
        }
        assert!(namespaces.get(&Escaped::of("plain")).is_none());
        assert_eq!(flat_name(None, Escaped::of("plain")).as_str(), "plain");
        let mut none = Namespaces::default();
        none.add("\"namespace\"");
        assert!(none.by_flat.is_empty());
    }
}
