//! What a public model can do: what all candidates that can serve it can do.

use std::collections::BTreeMap;

use ez_contract::capability::{CapabilityFields, CapabilityOverrides};
use ez_contract::model_ref::binding_key;
use ez_contract::models::ModelKind;
use ez_contract::snapshot::{BindingSnapshot, ModelSnapshot};
use ez_contract::status::RecordStatus;

use crate::catalogue::{ModelFacts, Prices, Supports};

/// Compiles what a public model can do; `None` where no candidate can serve it. `known` tells what is known of an upstream
/// model.
///
/// What is not known of one candidate is not known of the whole: no capability, size 0, no price. The kind is that of
/// the first candidate of which it is known. What is said of what an upstream model takes stays its own.
pub fn model_snapshot(binding: &BindingSnapshot, known: impl Fn(&str) -> Option<ModelFacts>) -> Option<ModelSnapshot> {
    let candidates: Vec<(&str, Option<ModelFacts>)> =
        upstreams_that_serve(binding).map(|upstream| (upstream, known(upstream))).collect();
    let kind = candidates.iter().find_map(|(_, facts)| Some(facts.as_ref()?.kind)).unwrap_or(ModelKind::Chat);
    let capabilities = candidates.iter().filter_map(|(upstream, facts)| {
        let said = facts.as_ref().map(|facts| &facts.capabilities).filter(|said| !said.is_empty())?;
        Some(((*upstream).to_owned(), said.fields().clone()))
    });
    let capabilities: BTreeMap<String, CapabilityFields> = capabilities.collect();
    let facts = candidates.into_iter().map(|(_, facts)| facts.unwrap_or_default()).reduce(together)?;
    let prices = facts.prices.named().into_iter();
    let prices: BTreeMap<String, String> =
        prices.filter_map(|(name, price)| Some((name.to_owned(), price?.to_string()))).collect();
    Some(ModelSnapshot {
        name: binding_key(&binding.namespace, &binding.public_model),
        kind: kind.as_str().to_owned(),
        context_window: facts.context_window,
        supports_vision: facts.supports.vision,
        supports_functions: facts.supports.functions,
        supports_tool_choice: facts.supports.tool_choice,
        supports_fim: facts.supports.fim,
        supports_stream: facts.supports.stream,
        max_output_tokens: facts.max_output_tokens,
        prices,
        capabilities,
    })
}

/// The upstream models that a public model stands for now, in the order of its candidates.
fn upstreams_that_serve(binding: &BindingSnapshot) -> impl Iterator<Item = &str> {
    let is_active = binding.status == RecordStatus::Active;
    let candidates = binding
        .candidates
        .iter()
        .filter(move |candidate| is_active && candidate.status == RecordStatus::Active && candidate.error.is_none());
    // All API keys of a candidate call the same model.
    candidates.filter_map(|candidate| candidate.upstreams.values().next()).map(String::as_str)
}

/// What both can do: capabilities of both, the smaller sizes (0, which is not known, is the smallest), the higher prices.
fn together(a: ModelFacts, b: ModelFacts) -> ModelFacts {
    fn dearer<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
        a.zip(b).map(|(a, b)| a.max(b))
    }
    ModelFacts {
        kind: a.kind,
        context_window: a.context_window.min(b.context_window),
        max_output_tokens: a.max_output_tokens.min(b.max_output_tokens),
        prices: Prices {
            input: dearer(a.prices.input, b.prices.input),
            output: dearer(a.prices.output, b.prices.output),
            cache_read: dearer(a.prices.cache_read, b.prices.cache_read),
            cache_write: dearer(a.prices.cache_write, b.prices.cache_write),
        },
        supports: Supports {
            vision: a.supports.vision && b.supports.vision,
            functions: a.supports.functions && b.supports.functions,
            tool_choice: a.supports.tool_choice && b.supports.tool_choice,
            fim: a.supports.fim && b.supports.fim,
            stream: a.supports.stream && b.supports.stream,
        },
        capabilities: CapabilityOverrides::default(),
    }
}
