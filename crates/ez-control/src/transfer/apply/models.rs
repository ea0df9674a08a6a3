//! Models, found by name.

use std::collections::HashMap;

use ez_store::models::{self as stored, Model};
use rust_decimal::Decimal;

use super::super::ConflictPolicy;
use super::super::plan::PlannedModel;
use super::super::summary::Counts;
use crate::catalogue::ModelFacts;
use crate::models::{ChangeFacts, ChangeModel, ChangePrices, CreateModel};
use crate::{ControlError, Write, models};

/// Writes models.
pub(super) async fn apply(
    write: &Write,
    planned: Vec<PlannedModel>,
    conflict: ConflictPolicy,
    counts: &mut Counts,
) -> Result<(), ControlError> {
    if planned.is_empty() {
        return Ok(());
    }
    let standing = stored::list_all(write.tx()).await?;
    let standing: HashMap<String, Model> = standing.into_iter().map(|model| (model.name.clone(), model)).collect();
    for PlannedModel { name, facts } in planned {
        match standing.get(&name) {
            None => {
                models::create(write, CreateModel { name, facts: all_of(facts) }).await?;
                counts.created += 1;
            }
            Some(before) if conflict == ConflictPolicy::Skip || ModelFacts::from(before) == facts => {
                counts.skipped += 1;
            }
            Some(before) => {
                models::update(write, before.id, ChangeModel { name: None, facts: all_of(facts) }).await?;
                counts.updated += 1;
            }
        }
    }
    Ok(())
}

/// Every field, so that nothing is taken from a catalogue or stays.
fn all_of(facts: ModelFacts) -> ChangeFacts {
    let price = |price: Option<Decimal>| Some(price.map(|price| price.to_string()));
    ChangeFacts {
        kind: Some(facts.kind.as_str().to_owned()),
        context_window: Some(facts.context_window),
        max_output_tokens: Some(facts.max_output_tokens),
        prices: ChangePrices {
            input: price(facts.prices.input),
            output: price(facts.prices.output),
            cache_read: price(facts.prices.cache_read),
            cache_write: price(facts.prices.cache_write),
        },
        supports_vision: Some(facts.supports.vision),
        supports_functions: Some(facts.supports.functions),
        supports_tool_choice: Some(facts.supports.tool_choice),
        supports_fim: Some(facts.supports.fim),
        supports_stream: Some(facts.supports.stream),
        capabilities: Some(facts.capabilities.into()),
    }
}
