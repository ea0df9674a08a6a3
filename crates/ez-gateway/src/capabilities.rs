//! What upstream models take where the catalogue says other than translation's own table: made once from a published model,
//! and looked up by calls.

use std::collections::HashMap;

use ez_contract::Protocol;
use ez_contract::capability::{CapabilityFault, CapabilityFields, CapabilityOverrides};
use ez_contract::snapshot::ModelSnapshot;
use ez_protocol::translate::capability::Capabilities;

/// What the catalogue says of the upstream models of one public model.
#[derive(Debug, Default)]
pub(crate) struct SaidCapabilities {
    /// By the upstream's name, for each protocol that it may be asked in.
    by_upstream: HashMap<String, Vec<(Protocol, Capabilities)>>,
}

impl SaidCapabilities {
    /// What is said of a published model. What this gateway does not understand, of a control plane that is newer, does not
    /// count, and the log tells of it.
    pub(crate) fn of(model: &ModelSnapshot) -> Self {
        let said = model.capabilities.iter().filter_map(|(upstream, fields)| {
            let own = understood(&model.name, upstream, fields)?;
            Some((upstream.clone(), own))
        });
        Self { by_upstream: said.collect() }
    }

    /// What an upstream's model takes that is asked in this protocol: as the catalogue says, else as the table has it.
    pub(crate) fn find(&self, protocol: Protocol, upstream: &str) -> &Capabilities {
        let said = self.by_upstream.get(upstream).into_iter().flatten();
        let said = said.filter(|(of, _)| *of == protocol).map(|(_, capabilities)| capabilities).next();
        said.unwrap_or_else(|| Capabilities::of(protocol, upstream))
    }
}

/// What is said of one upstream model, for each protocol; `None` where nothing of it is understood.
fn understood(model: &str, upstream: &str, fields: &CapabilityFields) -> Option<Vec<(Protocol, Capabilities)>> {
    let (overrides, faults) = CapabilityOverrides::understood(fields);
    for CapabilityFault { pointer, message } in &faults {
        tracing::warn!(
            model,
            upstream_model = upstream,
            field = pointer,
            reason = message,
            "what the catalogue says of a model is not understood and does not count; is this gateway older than the control plane?"
        );
    }
    if overrides.is_empty() {
        return None;
    }
    let of = |protocol: &Protocol| match Capabilities::overridden(*protocol, upstream, &overrides) {
        Ok(capabilities) => Some((*protocol, capabilities)),
        Err(e) => {
            tracing::error!(error = %e, model, upstream_model = upstream, "what the catalogue says of a model does not count");
            None
        }
    };
    Some(Protocol::ALL.iter().filter_map(of).collect())
}

#[cfg(test)]
mod tests {
    use ez_protocol::translate::capability::{ReasoningStyle, Sampling, TokenCap};
    use serde_json::{Value, json};

    use super::*;

    fn said(capabilities: Value) -> SaidCapabilities {
        let golden = include_str!("../../ez-contract/goldens/model.json");
        let capabilities = serde_json::from_value(capabilities).unwrap();
        SaidCapabilities::of(&ModelSnapshot { capabilities, ..serde_json::from_str(golden).unwrap() })
    }

    #[test]
    fn what_is_said_of_an_upstream_model_counts_for_it_alone() {
        let said = said(json!({
            "gpt-5.4": {"rejects": ["seed"], "reasoning": {"style": "none"}},
            "house-llm": {"token_cap": "max_completion_tokens"},
        }));
        for protocol in Protocol::ALL {
            let own = said.find(*protocol, "gpt-5.4");
            assert_eq!(
                (&own.rejects[..], &own.reasoning),
                (&[Sampling::Seed][..], &ReasoningStyle::None),
                "{protocol}"
            );
        }
        let table = Capabilities::of(Protocol::OpenaiChat, "gpt-5.4");
        let own = said.find(Protocol::OpenaiChat, "gpt-5.4");
        assert_eq!((own.token_cap, own.instructions), (table.token_cap, table.instructions), "the rest is the table's");
        assert_ne!(own.rejects, table.rejects);
        let house = said.find(Protocol::OpenaiChat, "house-llm");
        assert_eq!(house.token_cap, TokenCap::MaxCompletionTokens);
        assert_eq!(house.reasoning, Capabilities::of(Protocol::OpenaiChat, "house-llm").reasoning);
        let other = said.find(Protocol::Gemini, "gemini-2.5-pro");
        assert_eq!(other, Capabilities::of(Protocol::Gemini, "gemini-2.5-pro"));
    }

    #[test]
    fn what_is_not_understood_leaves_the_table_and_the_rest_as_they_are() {
        let said = said(json!({
            "gpt-5.4": {"rejects": ["heat"], "telepathy": true, "reasoning": {"style": "dream"}, "compatible": true},
            "o3": {"telepathy": true},
        }));
        let table = Capabilities::of(Protocol::OpenaiChat, "gpt-5.4");
        let expected = Capabilities { compatible: true, ..table.clone() };
        assert_eq!(said.find(Protocol::OpenaiChat, "gpt-5.4"), &expected);
        assert_ne!(&expected, table);
        assert!(!said.by_upstream.contains_key("o3"));
    }
}
