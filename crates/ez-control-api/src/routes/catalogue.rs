//! `/admin/models/catalogue`: what is known of models without an administrator's word.

use chrono::{DateTime, Utc};
use ez_contract::capability::CapabilityOverrides;
use ez_contract::models::ModelKind;
use ez_control::catalogue::{self, CatalogueModel, CatalogueStatus};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::schema::{AdditionalProperties, Type};
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, Ref, RefOr, Schema};

use crate::capabilities::ModelCapabilities;
use crate::extract::{AdminCtx, Json, NoBody, Query};
use crate::listing::{Listing, PageResponse};
use crate::price::PricesResponse;
use crate::problem::ApiError;
use crate::words;
use crate::writing::{Answer, Deleted, Record};

/// Largest request body of these routes: a catalogue.
pub(crate) const MAX_BODY_BYTES: usize = catalogue::MAX_DOCUMENT_BYTES;

/// Which models of the catalogue to list; they come by name.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct CatalogueListQuery {
    /// Which page, from 1.
    #[param(minimum = 1)]
    page: Option<u64>,
    /// Items on a page.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u64>,
    /// Only models with this in their name, in any case of letters.
    search: Option<String>,
    /// Only those of this kind.
    #[param(value_type = Option<words::ModelKind>)]
    kind: Option<ModelKind>,
}

/// A catalogue in place of the one that counts: the document itself, or where to fetch it. The schema alone: the rules read
/// the text as it came, so that prices stay exact.
pub(crate) struct RenewCatalogueRequest;

/// The catalogue that counts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Catalogue)]
pub(crate) struct CatalogueResponse {
    /// Name of its source.
    #[schema(example = "litellm")]
    source: String,
    /// Its version, in the words of its source.
    version: String,
    /// What its source may be used under, or empty.
    license: String,
    /// SHA-256 of its document, lower-case hex.
    checksum: String,
    /// Where its source was published, or empty.
    upstream_url: String,
    /// What exactly was taken of it, or empty.
    upstream_ref: String,
    /// How many models it has.
    models: usize,
    /// Whether it is the one that comes with the program.
    bundled: bool,
    /// When it took the place of the bundled one.
    renewed_at: Option<DateTime<Utc>>,
}

/// What the catalogue knows of a model.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CatalogueModel)]
pub(crate) struct CatalogueModelResponse {
    /// Its name there.
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
}

/// Tell which catalogue counts.
#[utoipa::path(get, path = "/admin/models/catalogue", tag = "models", operation_id = "catalogue_status",
    security(("admin" = [])), responses((status = 200, description = "The catalogue.", body = CatalogueResponse)))]
pub(crate) async fn status(ctx: AdminCtx) -> Result<Json<CatalogueResponse>, ApiError> {
    let status = catalogue::status(&ctx.control).await?;
    Ok(Json(status.into()))
}

/// Renew the catalogue.
///
/// Takes a document, or the URL of one, which must lead to a public address. It replaces the one that counts for all control
/// planes and survives restarts; models are recompiled.
#[utoipa::path(post, path = "/admin/models/catalogue", tag = "models", operation_id = "renew_catalogue",
    request_body = RenewCatalogueRequest, security(("admin" = [])),
    responses((status = 200, description = "Renewed.", body = CatalogueResponse)))]
pub(crate) async fn renew(
    ctx: AdminCtx,
    Json(document): Json<Box<RawValue>>,
) -> Result<Record<CatalogueResponse>, ApiError> {
    // Before the unit of work: fetching takes its time.
    let renewal = catalogue::prepare(document.get()).await?;
    let write = ctx.write().await?;
    let status = catalogue::renew(&write, renewal).await?;
    write.finish(Record::untagged(status.into())).await
}

/// Go back to the bundled catalogue.
#[utoipa::path(delete, path = "/admin/models/catalogue", tag = "models", operation_id = "reset_catalogue",
    security(("admin" = [])), responses((status = 204, description = "The bundled catalogue counts.")))]
pub(crate) async fn reset(ctx: AdminCtx, NoBody: NoBody) -> Result<Deleted, ApiError> {
    let write = ctx.write().await?;
    catalogue::reset(&write).await?;
    write.delete().await
}

/// List models of the catalogue.
#[utoipa::path(get, path = "/admin/models/catalogue/models", tag = "models", operation_id = "list_catalogue_models",
    params(CatalogueListQuery), security(("admin" = [])),
    responses((status = 200, description = "A page of models, by name.", body = PageResponse<CatalogueModelResponse>)))]
pub(crate) async fn list(
    ctx: AdminCtx,
    Query(query): Query<CatalogueListQuery>,
) -> Result<Json<PageResponse<CatalogueModelResponse>>, ApiError> {
    let listing = Listing::new(query.page, query.limit, None)?;
    let search = query.search.as_deref().filter(|term| !term.is_empty());
    let found = catalogue::list(&ctx.control, search, query.kind, listing.rows()).await?;
    Ok(Json(listing.answer(found)))
}

impl Answer for CatalogueResponse {}

impl From<CatalogueStatus> for CatalogueResponse {
    fn from(status: CatalogueStatus) -> Self {
        let CatalogueStatus { origin, license, checksum, models, renewed_at } = status;
        Self {
            source: origin.source,
            version: origin.version,
            license,
            checksum,
            upstream_url: origin.upstream_url,
            upstream_ref: origin.upstream_ref,
            models,
            bundled: renewed_at.is_none(),
            renewed_at,
        }
    }
}

impl From<CatalogueModel> for CatalogueModelResponse {
    fn from(CatalogueModel { name, facts }: CatalogueModel) -> Self {
        Self {
            name,
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
        }
    }
}

impl utoipa::PartialSchema for RenewCatalogueRequest {
    fn schema() -> RefOr<Schema> {
        let text = |about: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(about));
        let models = ArrayBuilder::new()
            .items(row())
            .min_items(Some(1))
            .max_items(Some(20_000))
            .description(Some("The models themselves, where no `url` says where they are."));
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .description(Some("Either `url` alone, or a catalogue: `source`, `version` and `models` at least."))
            .property("url", text("Where to fetch a catalogue, at a public address."))
            .property("source", text("Name of its source."))
            .property("version", text("Its version, in the words of its source."))
            .property("license", text("What its source may be used under."))
            .property("upstream_url", text("Where its source was published."))
            .property("upstream_ref", text("What exactly was taken of it."))
            .property("models", models)
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .examples([json!({
                "source": "our price list", "version": "2026-11",
                "models": [{"name": "house-llm", "kind": "chat", "context_window": 32_000, "max_output_tokens": 4_000,
                    "input": "0.25", "output": "1.50", "supports": ["functions", "stream"]}],
            })])
            .into()
    }
}

impl ToSchema for RenewCatalogueRequest {}

/// A model in a document.
fn row() -> ObjectBuilder {
    let tokens = |about: &str| {
        let size = ObjectBuilder::new().schema_type(Type::Integer).description(Some(about));
        size.minimum(Some(0)).maximum(Some(100_000_000))
    };
    let capability = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([
        "vision",
        "functions",
        "tool_choice",
        "fim",
        "stream",
    ]));
    let price = || Ref::from_schema_name("Price");
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("name", ObjectBuilder::new().schema_type(Type::String).description(Some("Unique.")))
        .required("name")
        .property(
            "kind",
            ObjectBuilder::new()
                .schema_type(Type::String)
                .description(Some("`chat`, `embedding` or `rerank`. Empty means `chat`, another word `other`.")),
        )
        .property("context_window", tokens("Tokens of input and output together; 0 is not known."))
        .property("max_output_tokens", tokens("Tokens of output; 0 is not known."))
        .property("input", price())
        .property("output", price())
        .property("cache_read", price())
        .property("cache_write", price())
        .property("supports", ArrayBuilder::new().items(capability))
        .property("capabilities", Ref::from_schema_name("ModelCapabilities"))
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
}
