//! `/admin/models`: what administrators know of models; it wins over the catalogue.

use chrono::{DateTime, Utc};
use ez_contract::capability::{CapabilityFields, CapabilityOverrides};
use ez_contract::models::ModelKind;
use ez_control::catalogue::ModelFacts;
use ez_control::models::{self, ChangeFacts, ChangeModel, ChangePrices, CreateModel};
use ez_store::models::{Model, ModelFilter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::capabilities::ModelCapabilities;
use crate::extract::{AdminCtx, Json, NoBody, Path, Query};
use crate::listing::{PageResponse, list_query};
use crate::number::Amount;
use crate::patch::{Patch, present};
use crate::price::{Price, PricesResponse};
use crate::problem::ApiError;
use crate::words;
use crate::writing::{Answer, Created, Deleted, Record};

list_query! {
    /// Which models to list.
    ModelListQuery {
        /// Only those of this kind.
        #[param(value_type = Option<words::ModelKind>)]
        kind: ModelKind,
    }
}

/// A new model. What is absent is what the catalogue knows of the model of this name, else not known.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateModelRequest {
    /// Unique: the id that upstreams know it by, or a public name.
    #[schema(example = "gpt-4o")]
    name: String,
    /// `chat`, `embedding` or `rerank`. Empty means `chat`, another word `other`.
    #[schema(example = "chat")]
    kind: Option<String>,
    /// Tokens of input and output together; 0 is not known.
    #[schema(maximum = 100_000_000, example = 128_000)]
    context_window: Option<u64>,
    /// Tokens of output; 0 is not known.
    #[schema(maximum = 100_000_000, example = 16_384)]
    max_output_tokens: Option<u64>,
    /// What it costs.
    #[serde(default)]
    #[schema(required = false)]
    prices: ModelPricesRequest,
    /// Accepts images.
    supports_vision: Option<bool>,
    /// Accepts tool definitions.
    supports_functions: Option<bool>,
    /// Accepts a forced tool choice.
    supports_tool_choice: Option<bool>,
    /// Fills in the middle.
    supports_fim: Option<bool>,
    /// Streams.
    supports_stream: Option<bool>,
    /// What it takes, where the gateway's own table does not fit.
    #[schema(value_type = Option<ModelCapabilities>)]
    capabilities: Option<CapabilityFields>,
}

/// What to change about a model. Absent fields stay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateModelRequest {
    /// Unique.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = String, required = false)]
    name: Option<String>,
    /// `chat`, `embedding` or `rerank`. Empty means `chat`, another word `other`.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = String, required = false)]
    kind: Option<String>,
    /// Tokens of input and output together; 0 is not known.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = u64, required = false, maximum = 100_000_000)]
    context_window: Option<u64>,
    /// Tokens of output; 0 is not known.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = u64, required = false, maximum = 100_000_000)]
    max_output_tokens: Option<u64>,
    /// What it costs. Prices that are absent stay.
    #[serde(default)]
    #[schema(required = false)]
    prices: ModelPricesRequest,
    /// Accepts images.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = bool, required = false)]
    supports_vision: Option<bool>,
    /// Accepts tool definitions.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = bool, required = false)]
    supports_functions: Option<bool>,
    /// Accepts a forced tool choice.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = bool, required = false)]
    supports_tool_choice: Option<bool>,
    /// Fills in the middle.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = bool, required = false)]
    supports_fim: Option<bool>,
    /// Streams.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = bool, required = false)]
    supports_stream: Option<bool>,
    /// What it takes, where the gateway's own table does not fit. Replaces all that was said; `{}` says nothing.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = ModelCapabilities, required = false)]
    capabilities: Option<CapabilityFields>,
}

/// US dollars per million tokens, exact decimals; `null` makes a price not known.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object of prices")]
pub(crate) struct ModelPricesRequest {
    /// Of input that no cache had to do with.
    #[serde(default)]
    #[schema(value_type = Option<Price>)]
    input: Patch<Amount>,
    /// Of output.
    #[serde(default)]
    #[schema(value_type = Option<Price>)]
    output: Patch<Amount>,
    /// Of input read from a cache.
    #[serde(default)]
    #[schema(value_type = Option<Price>)]
    cache_read: Patch<Amount>,
    /// Of input written to a cache.
    #[serde(default)]
    #[schema(value_type = Option<Price>)]
    cache_write: Patch<Amount>,
}

/// What an administrator knows of a model.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Model)]
pub(crate) struct ModelResponse {
    /// Given by ez-api.
    id: i64,
    /// Unique: the id that upstreams know it by, or a public name.
    name: String,
    /// What it is for.
    #[schema(value_type = words::ModelKind)]
    kind: ModelKind,
    /// Tokens of input and output together; 0 is not known.
    context_window: u64,
    /// Tokens of output; 0 is not known.
    max_output_tokens: u64,
    /// What it costs.
    prices: PricesResponse,
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
    /// What it takes, where the gateway's own table does not fit; empty where nothing is said.
    #[schema(value_type = ModelCapabilities)]
    capabilities: CapabilityOverrides,
    /// When it was created.
    created_at: DateTime<Utc>,
    /// When it last changed.
    updated_at: DateTime<Utc>,
}

/// List models that administrators entered.
///
/// What the catalogue knows besides is at `/admin/models/catalogue/models`.
#[utoipa::path(get, path = "/admin/models", tag = "models", operation_id = "list_models",
    params(ModelListQuery), security(("admin" = [])),
    responses((status = 200, description = "A page of models.", body = PageResponse<ModelResponse>)))]
pub(crate) async fn list(
    ctx: AdminCtx,
    Query(query): Query<ModelListQuery>,
) -> Result<Json<PageResponse<ModelResponse>>, ApiError> {
    let listing = query.listing()?;
    let filter = ModelFilter { search: query.search(), kind: query.kind };
    let found = models::list(&ctx.control, &filter, listing.sort, listing.rows()).await?;
    Ok(Json(listing.answer(found)))
}

/// Enter a model.
///
/// It wins over the catalogue for upstream models of this name, and else for public models of this name.
#[utoipa::path(post, path = "/admin/models", tag = "models", operation_id = "create_model",
    request_body = CreateModelRequest, security(("admin" = [])),
    responses((status = 201, description = "Created.", body = ModelResponse,
        headers(("Location" = String, description = "Path of the record.")))))]
pub(crate) async fn create(
    ctx: AdminCtx,
    Json(request): Json<CreateModelRequest>,
) -> Result<Created<ModelResponse>, ApiError> {
    let write = ctx.write().await?;
    if let Some(first) = write.replayed() {
        return Ok(first);
    }
    let model = models::create(&write, request.into()).await?;
    write.create("/admin/models", Record::of(model)).await
}

/// Get a model.
#[utoipa::path(get, path = "/admin/models/{id}", tag = "models", operation_id = "get_model",
    params(("id" = i64, Path, description = "Id of the model.")), security(("admin" = [])),
    responses((status = 200, description = "The model.", body = ModelResponse)))]
pub(crate) async fn get(ctx: AdminCtx, Path(id): Path<i64>) -> Result<Record<ModelResponse>, ApiError> {
    let model = models::get(&ctx.control, id).await?;
    Ok(Record::of(model))
}

/// Change a model.
///
/// Recompiles every public model that asks for it.
#[utoipa::path(put, path = "/admin/models/{id}", tag = "models", operation_id = "update_model",
    params(("id" = i64, Path, description = "Id of the model.")), request_body = UpdateModelRequest,
    security(("admin" = [])), responses((status = 200, description = "Changed.", body = ModelResponse)))]
pub(crate) async fn update(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    Json(request): Json<UpdateModelRequest>,
) -> Result<Record<ModelResponse>, ApiError> {
    let write = ctx.write().await?;
    let model = models::update(&write, id, request.into()).await?;
    write.finish(Record::of(model)).await
}

/// Delete a model.
///
/// What the catalogue knows of it counts again.
#[utoipa::path(delete, path = "/admin/models/{id}", tag = "models", operation_id = "delete_model",
    params(("id" = i64, Path, description = "Id of the model.")), security(("admin" = [])),
    responses((status = 204, description = "Deleted.")))]
pub(crate) async fn delete(ctx: AdminCtx, Path(id): Path<i64>, NoBody: NoBody) -> Result<Deleted, ApiError> {
    let write = ctx.write().await?;
    models::delete(&write, id).await?;
    write.delete().await
}

impl Answer for ModelResponse {}

impl From<CreateModelRequest> for CreateModel {
    fn from(request: CreateModelRequest) -> Self {
        let facts = ChangeFacts {
            kind: request.kind,
            context_window: request.context_window,
            max_output_tokens: request.max_output_tokens,
            prices: request.prices.into(),
            supports_vision: request.supports_vision,
            supports_functions: request.supports_functions,
            supports_tool_choice: request.supports_tool_choice,
            supports_fim: request.supports_fim,
            supports_stream: request.supports_stream,
            capabilities: request.capabilities,
        };
        Self { name: request.name, facts }
    }
}

impl From<UpdateModelRequest> for ChangeModel {
    fn from(request: UpdateModelRequest) -> Self {
        let facts = ChangeFacts {
            kind: request.kind,
            context_window: request.context_window,
            max_output_tokens: request.max_output_tokens,
            prices: request.prices.into(),
            supports_vision: request.supports_vision,
            supports_functions: request.supports_functions,
            supports_tool_choice: request.supports_tool_choice,
            supports_fim: request.supports_fim,
            supports_stream: request.supports_stream,
            capabilities: request.capabilities,
        };
        Self { name: request.name, facts }
    }
}

impl From<ModelPricesRequest> for ChangePrices {
    fn from(prices: ModelPricesRequest) -> Self {
        let text = |price: Patch<Amount>| price.map(|Amount(text)| text).into();
        Self {
            input: text(prices.input),
            output: text(prices.output),
            cache_read: text(prices.cache_read),
            cache_write: text(prices.cache_write),
        }
    }
}

impl From<Model> for ModelResponse {
    fn from(model: Model) -> Self {
        let facts = ModelFacts::from(&model);
        Self {
            id: model.id,
            name: model.name,
            kind: facts.kind,
            context_window: facts.context_window,
            max_output_tokens: facts.max_output_tokens,
            prices: facts.prices.into(),
            supports_vision: facts.supports.vision,
            supports_functions: facts.supports.functions,
            supports_tool_choice: facts.supports.tool_choice,
            supports_fim: facts.supports.fim,
            supports_stream: facts.supports.stream,
            capabilities: facts.capabilities,
            created_at: model.created_at,
            updated_at: model.updated_at,
        }
    }
}
