//! Prices in answers, and their schema in requests.

use ez_control::catalogue::Prices;
use rust_decimal::Decimal;
use serde::Serialize;
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The schema of a price: the rules take an [`Amount`](crate::number::Amount).
pub(crate) struct Price;

/// US dollars per million tokens, exact decimals; `null` is not known.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelPrices)]
pub(crate) struct PricesResponse {
    /// Of input that no cache had to do with.
    #[schema(example = "2.5")]
    input: Option<String>,
    /// Of output.
    #[schema(example = "10")]
    output: Option<String>,
    /// Of input read from a cache.
    #[schema(example = "1.25")]
    cache_read: Option<String>,
    /// Of input written to a cache.
    cache_write: Option<String>,
}

impl PartialSchema for Price {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Number]))
            .description(Some("US dollars per million tokens, 0 to 1000000, of at most 18 decimal places."))
            .pattern(Some(r"^[0-9]+(\.[0-9]+)?$"))
            .max_length(Some(40))
            .minimum(Some(0))
            .maximum(Some(1_000_000))
            .examples([serde_json::json!("2.50")])
            .into()
    }
}

impl ToSchema for Price {}

impl From<Prices> for PricesResponse {
    fn from(prices: Prices) -> Self {
        let text = |price: Option<Decimal>| price.map(|price| price.to_string());
        Self {
            input: text(prices.input),
            output: text(prices.output),
            cache_read: text(prices.cache_read),
            cache_write: text(prices.cache_write),
        }
    }
}
