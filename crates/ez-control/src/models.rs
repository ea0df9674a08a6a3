//! Models: what administrators know of them; their word wins over the catalogue.

use ez_contract::capability::CapabilityFields;
use ez_contract::models::ModelKind;
use ez_store::models::{self as stored, Model, ModelFilter, NewModel};
use ez_store::{Page, Paged, Sort};
use rust_decimal::Decimal;

use crate::catalogue::{self, MAX_TOKENS, ModelFacts, parse_price};
use crate::error::Faults;
use crate::{Control, ControlError, Write, checks};

const WHAT: &str = "model";

/// A model to create. What is absent is what the catalogue knows of the model of this name, else not known.
#[derive(Debug, Clone, Default)]
pub struct CreateModel {
    /// Unique: the id that upstreams know it by, or a public name.
    pub name: String,
    /// The rest.
    pub facts: ChangeFacts,
}

/// Changes to a model; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct ChangeModel {
    /// Unique.
    pub name: Option<String>,
    /// The rest.
    pub facts: ChangeFacts,
}

/// What a request says of a model beside its name.
#[derive(Debug, Clone, Default)]
pub struct ChangeFacts {
    /// What it is for: empty means `chat`, a word that is not known `other`.
    pub kind: Option<String>,
    /// Tokens of input and output together; 0 is not known.
    pub context_window: Option<u64>,
    /// Tokens of output; 0 is not known.
    pub max_output_tokens: Option<u64>,
    /// What it costs.
    pub prices: ChangePrices,
    /// Accepts images.
    pub supports_vision: Option<bool>,
    /// Accepts tool definitions.
    pub supports_functions: Option<bool>,
    /// Accepts a forced tool choice.
    pub supports_tool_choice: Option<bool>,
    /// Fills in the middle.
    pub supports_fim: Option<bool>,
    /// Streams.
    pub supports_stream: Option<bool>,
    /// What it takes, where the gateway's own table does not fit: all that is to be said of it.
    pub capabilities: Option<CapabilityFields>,
}

/// US dollars per million tokens as decimals in text; `Some(None)` makes a price not known.
#[derive(Debug, Clone, Default)]
pub struct ChangePrices {
    /// Of input that no cache had to do with.
    pub input: Option<Option<String>>,
    /// Of output.
    pub output: Option<Option<String>>,
    /// Of input read from a cache.
    pub cache_read: Option<Option<String>>,
    /// Of input written to a cache.
    pub cache_write: Option<Option<String>>,
}

/// Creates a model. Errors: `Invalid`; `Conflict` for a name that is taken.
pub async fn create(write: &Write, new: CreateModel) -> Result<Model, ControlError> {
    let catalogue = catalogue::standing(write.control(), write.tx()).await?;
    let base = catalogue.get(&new.name).cloned().unwrap_or_default();
    let facts = checked(&new.name, base, new.facts)?;
    let record = NewModel {
        name: new.name,
        kind: facts.kind,
        context_window: facts.context_window,
        max_output_tokens: facts.max_output_tokens,
        input_price: facts.prices.input,
        output_price: facts.prices.output,
        cache_read_price: facts.prices.cache_read,
        cache_write_price: facts.prices.cache_write,
        supports_vision: facts.supports.vision,
        supports_functions: facts.supports.functions,
        supports_tool_choice: facts.supports.tool_choice,
        supports_fim: facts.supports.fim,
        supports_stream: facts.supports.stream,
        capabilities: facts.capabilities,
        created_at: write.now(),
    };
    let model = stored::create(write.tx(), &record).await?;
    write.record("create", None, Some(&model), &[]).await?;
    Ok(model)
}

/// Changes a model. Errors: `NotFound`, `Stale`, `Invalid`; `Conflict` for a name that is taken.
pub async fn update(write: &Write, id: i64, change: ChangeModel) -> Result<Model, ControlError> {
    let before = require_for_update(write, id).await?;
    let name = change.name.unwrap_or_else(|| before.name.clone());
    let facts = checked(&name, ModelFacts::from(&before), change.facts)?;
    let after = Model {
        id,
        name,
        kind: facts.kind,
        context_window: facts.context_window,
        max_output_tokens: facts.max_output_tokens,
        input_price: facts.prices.input,
        output_price: facts.prices.output,
        cache_read_price: facts.prices.cache_read,
        cache_write_price: facts.prices.cache_write,
        supports_vision: facts.supports.vision,
        supports_functions: facts.supports.functions,
        supports_tool_choice: facts.supports.tool_choice,
        supports_fim: facts.supports.fim,
        supports_stream: facts.supports.stream,
        capabilities: facts.capabilities,
        created_at: before.created_at,
        updated_at: write.now(),
    };
    stored::update(write.tx(), &after).await?;
    write.record("update", Some(&before), Some(&after), &[]).await?;
    Ok(after)
}

/// Deletes a model, so that the catalogue counts again. Errors: `NotFound`, `Stale`.
pub async fn delete(write: &Write, id: i64) -> Result<(), ControlError> {
    let model = require_for_update(write, id).await?;
    stored::delete(write.tx(), id).await?;
    write.record("delete", Some(&model), None, &[]).await
}

/// The model with this id. Errors: `NotFound`.
pub async fn get(control: &Control, id: i64) -> Result<Model, ControlError> {
    stored::get(control.store(), id).await?.ok_or_else(|| ControlError::not_found(WHAT, id))
}

/// A page of the models that match.
pub async fn list(
    control: &Control,
    filter: &ModelFilter,
    sort: Sort,
    page: Page,
) -> Result<Paged<Model>, ControlError> {
    Ok(stored::list(control.store(), filter, sort, page).await?)
}

/// The record that the caller wants to change, as it stands until the transaction ends. Errors: `NotFound`, `Stale`.
async fn require_for_update(write: &Write, id: i64) -> Result<Model, ControlError> {
    let record = stored::get_for_update(write.tx(), id).await?.ok_or_else(|| ControlError::not_found(WHAT, id))?;
    write.require_fresh(WHAT, &record)?;
    Ok(record)
}

/// What a request makes of what was known, checked as a whole.
fn checked(name: &str, base: ModelFacts, change: ChangeFacts) -> Result<ModelFacts, ControlError> {
    let mut faults = Faults::default();
    checks::required_text(&mut faults, "/name", name);
    checks::optional_text(&mut faults, "/kind", change.kind.as_deref().unwrap_or_default());
    let mut facts = base;
    facts.kind = change.kind.map_or(facts.kind, |word| ModelKind::of(&word));
    for (pointer, size, wish) in [
        ("/context_window", &mut facts.context_window, change.context_window),
        ("/max_output_tokens", &mut facts.max_output_tokens, change.max_output_tokens),
    ] {
        *size = wish.unwrap_or(*size);
        if *size > MAX_TOKENS {
            faults.add(pointer, format!("must be at most {MAX_TOKENS} tokens"));
        }
    }
    let prices = change.prices;
    set_price(&mut faults, "/prices/input", &mut facts.prices.input, prices.input);
    set_price(&mut faults, "/prices/output", &mut facts.prices.output, prices.output);
    set_price(&mut faults, "/prices/cache_read", &mut facts.prices.cache_read, prices.cache_read);
    set_price(&mut faults, "/prices/cache_write", &mut facts.prices.cache_write, prices.cache_write);
    let supports = &mut facts.supports;
    supports.vision = change.supports_vision.unwrap_or(supports.vision);
    supports.functions = change.supports_functions.unwrap_or(supports.functions);
    supports.tool_choice = change.supports_tool_choice.unwrap_or(supports.tool_choice);
    supports.fim = change.supports_fim.unwrap_or(supports.fim);
    supports.stream = change.supports_stream.unwrap_or(supports.stream);
    if let Some(fields) = change.capabilities {
        facts.capabilities = checks::capabilities(&mut faults, "/capabilities", fields);
    }
    faults.into_result()?;
    Ok(facts)
}

fn set_price(faults: &mut Faults, pointer: &str, price: &mut Option<Decimal>, wish: Option<Option<String>>) {
    match wish {
        None => {}
        Some(None) => *price = None,
        Some(Some(text)) => match parse_price(&text) {
            Ok(parsed) => *price = Some(parsed),
            Err(error) => faults.add(pointer, error),
        },
    }
}
