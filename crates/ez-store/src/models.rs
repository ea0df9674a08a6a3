//! Models: what administrators know of them; it wins over the catalogue.

use ez_contract::capability::CapabilityOverrides;
use ez_contract::models::ModelKind;
use rust_decimal::Decimal;
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter};

use crate::listing::any_contains;
use crate::record::record;
use crate::stored::Stored;
use crate::{Executor, Page, Paged, Sort, StoreError};

record! {
    table "models" named Name;
    /// What one model can do and what it costs. Prices are US dollars per million tokens; none is not known.
    Model / NewModel {
        /// Unique: the id that upstreams know it by, or a public name.
        name: String,
        /// What it is for.
        kind: ModelKind,
        /// Tokens of input and output together; 0 is not known.
        context_window: u64,
        /// Tokens of output; 0 is not known.
        max_output_tokens: u64,
        /// Of input that no cache had to do with.
        input_price: Option<Decimal>,
        /// Of output.
        output_price: Option<Decimal>,
        /// Of input read from a cache.
        cache_read_price: Option<Decimal>,
        /// Of input written to a cache.
        cache_write_price: Option<Decimal>,
        /// Accepts images.
        supports_vision: bool,
        /// Accepts tool definitions.
        supports_functions: bool,
        /// Accepts a forced tool choice.
        supports_tool_choice: bool,
        /// Fills in the middle.
        supports_fim: bool,
        /// Streams.
        supports_stream: bool,
        /// What it takes, where the gateway's own table does not fit.
        capabilities: CapabilityOverrides,
    }
    counters {}
}

/// Which models to list.
#[derive(Debug, Clone, Default)]
pub struct ModelFilter {
    /// Part of the name, in any case.
    pub search: Option<String>,
    /// Only those of this kind.
    pub kind: Option<ModelKind>,
}

/// A page of the models that match.
pub async fn list(
    db: &impl Executor,
    filter: &ModelFilter,
    sort: Sort,
    page: Page,
) -> Result<Paged<Model>, StoreError> {
    let condition = Condition::all()
        .add_option(filter.search.as_deref().map(|term| any_contains(db.dialect(), &[entity::Column::Name], term)))
        .add_option(filter.kind.map(|kind| entity::Column::Kind.eq(kind.store())));
    page_of(db, condition, sort, page).await
}

/// The model of this name.
pub async fn get_by_name(db: &impl Executor, name: &str) -> Result<Option<Model>, StoreError> {
    one(db, entity::Entity::find().filter(entity::Column::Name.eq(name))).await
}
