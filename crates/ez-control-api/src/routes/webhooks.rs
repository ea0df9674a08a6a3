//! `/admin/logs/webhook`: who is told of failing calls and of alerts, and what became of it.

use chrono::{DateTime, Utc};
use ez_contract::alerts::AlertSeverity;
use ez_control::RecordTag;
use ez_control::webhooks::{self, ChangeWebhook, ChangedWebhook, TestEvent, Webhook};
use ez_store::DeliveryStatus;
use ez_store::webhook_deliveries::Delivery;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::extract::{AdminCtx, Json, NoBody, Query};
use crate::listing::{StretchResponse, decode_id_cursor, encode_id_cursor, stretch_limit};
use crate::patch::{Patch, present};
use crate::problem::ApiError;
use crate::secret_text::SecretText;
use crate::words;
use crate::writing::{Answer, Record};

/// What is shown of a secret that was shown before.
const MASKED: &str = "whsec_***";

/// Characters of a delivery's payload that are shown.
const SHOWN_CHARS: usize = 4_096;

/// What to change about the webhook. Absent fields stay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateLogWebhookRequest {
    /// Whether anything is sent. Needs a URL.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = bool, required = false)]
    enabled: Option<bool>,
    /// Where the receiver is, http or https, at a public address; `null` takes it away.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    url: Patch<String>,
    /// What events are signed with: `whsec_` and base64 of 24 to 64 bytes. `null` makes a new one. Where there is none, one is
    /// made with the first URL.
    #[serde(default)]
    #[schema(value_type = Option<SecretText>)]
    secret: Patch<SecretText>,
    /// Failed calls within the window that the receiver is told of.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = u64, required = false, minimum = 1, maximum = 100_000)]
    threshold: Option<u64>,
    /// How far back calls count, seconds.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = u64, required = false, minimum = 1, maximum = 3_600)]
    window: Option<u64>,
    /// How long the receiver is told nothing more of failed calls after it was, seconds.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = u64, required = false, minimum = 0, maximum = 86_400)]
    cooldown: Option<u64>,
    /// Calls with this HTTP status or a higher one count as failed, and those with an error message.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = u64, required = false, minimum = 400, maximum = 599)]
    status_code_threshold: Option<u64>,
    /// The receiver is told of alerts of at least this severity; `null` tells it of none.
    #[serde(default)]
    #[schema(value_type = Option<words::AlertSeverity>)]
    alert_severity: Patch<AlertSeverity>,
}

/// The webhook.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LogWebhook)]
pub(crate) struct LogWebhookResponse {
    /// Whether anything is sent.
    enabled: bool,
    /// Where the receiver is.
    url: Option<String>,
    /// What events are signed with: in clear in the answer to the request that it was made by, `whsec_***` ever after, and
    /// `null` where there is none.
    secret: Option<String>,
    /// Failed calls within the window that the receiver is told of.
    threshold: u64,
    /// How far back calls count, seconds.
    window: u64,
    /// How long the receiver is told nothing more of failed calls after it was, seconds.
    cooldown: u64,
    /// Calls with this HTTP status or a higher one count as failed, and those with an error message.
    status_code_threshold: u16,
    /// The receiver is told of alerts of at least this severity; of none where `null`.
    #[schema(value_type = Option<words::AlertSeverity>)]
    alert_severity: Option<AlertSeverity>,
}

/// What became of a test event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookTest)]
pub(crate) struct WebhookTestResponse {
    /// Whether the receiver took it.
    ok: bool,
    /// The HTTP status that the receiver answered with; `null` where it did not answer.
    status: Option<u16>,
    /// From sending to the end of the answer, milliseconds.
    duration_ms: u64,
    /// Why the receiver did not take it.
    error: Option<String>,
    /// The `webhook-id` that it was sent under.
    event_id: String,
    /// The delivery that stands for it in the list.
    delivery_id: i64,
}

/// Which deliveries to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeliveryListQuery {
    /// The `next_cursor` of the stretch before.
    cursor: Option<String>,
    /// Deliveries in a stretch.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u64>,
}

/// An event on its way to the receiver, or arrived.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookDelivery)]
pub(crate) struct DeliveryResponse {
    /// Rises with every delivery.
    id: i64,
    /// The `webhook-id` of all its attempts.
    event_id: String,
    /// Type of the event.
    #[schema(example = "log.errors")]
    r#type: String,
    /// Whether it is still to be sent.
    #[schema(value_type = words::DeliveryStatus)]
    status: DeliveryStatus,
    /// Attempts begun.
    attempts: u32,
    /// When it is tried next; `null` where it is not.
    next_attempt_at: Option<DateTime<Utc>>,
    /// HTTP status of the last attempt, where that was answered.
    last_status: Option<u16>,
    /// Why the last attempt failed.
    last_error: Option<String>,
    /// The body as it is signed and sent, 4,096 characters of it at most.
    payload: String,
    /// Size of the whole body, bytes.
    payload_bytes: u64,
    /// When the event came about.
    created_at: DateTime<Utc>,
    /// When the receiver took it.
    delivered_at: Option<DateTime<Utc>>,
}

/// Get the webhook.
#[utoipa::path(get, path = "/admin/logs/webhook", tag = "logs", operation_id = "get_log_webhook",
    security(("admin" = [])),
    responses((status = 200, description = "The webhook.", body = LogWebhookResponse,
        headers(("ETag" = String, description = "Tag of the webhook, for `If-Match`.")))))]
pub(crate) async fn get(ctx: AdminCtx) -> Result<Record<LogWebhookResponse>, ApiError> {
    let webhook = webhooks::get(&ctx.control).await?;
    Ok(tagged(ChangedWebhook { webhook, new_secret: None }))
}

/// Change the webhook.
///
/// Its receiver is told when calls fail more often than `threshold` in `window` seconds, once in `cooldown` seconds, and of
/// alerts. Events are signed as in the Standard Webhooks specification. A URL that is or resolves to an address that is not
/// public is refused.
#[utoipa::path(put, path = "/admin/logs/webhook", tag = "logs", operation_id = "update_log_webhook",
    request_body = UpdateLogWebhookRequest, security(("admin" = [])),
    responses((status = 200, description = "The webhook.", body = LogWebhookResponse,
        headers(("ETag" = String, description = "Tag of the webhook, for `If-Match`.")))))]
pub(crate) async fn update(
    ctx: AdminCtx,
    Json(request): Json<UpdateLogWebhookRequest>,
) -> Result<Record<LogWebhookResponse>, ApiError> {
    // Before the unit of work: resolving a name takes its time.
    let change = webhooks::check(&ctx.control, request.into()).await?;
    let write = ctx.write().await?;
    let changed = webhooks::update(&write, change).await?;
    write.finish(tagged(changed)).await
}

/// Send a test event.
///
/// Sends it at once and once, also while the webhook is switched off, and tells what the receiver answered. Takes no dry run.
/// 409 where the webhook has no URL.
#[utoipa::path(post, path = "/admin/logs/webhook/test", tag = "logs", operation_id = "test_log_webhook",
    security(("admin" = [])),
    responses((status = 200, description = "What became of it.", body = WebhookTestResponse)))]
pub(crate) async fn test(ctx: AdminCtx, NoBody: NoBody) -> Result<Record<WebhookTestResponse>, ApiError> {
    let test = webhooks::send_test(&ctx.control).await?;
    let write = ctx.write().await?;
    let delivery_id = webhooks::record_test(&write, &test).await?;
    write.finish(Record::untagged(WebhookTestResponse::of(test, delivery_id))).await
}

/// List deliveries, newest first.
///
/// The newest thousand of the last seven days are kept.
#[utoipa::path(get, path = "/admin/logs/webhook/deliveries", tag = "logs", operation_id = "list_webhook_deliveries",
    params(DeliveryListQuery), security(("admin" = [])),
    responses((status = 200, description = "A stretch of deliveries.", body = StretchResponse<DeliveryResponse>)))]
pub(crate) async fn list_deliveries(
    ctx: AdminCtx,
    Query(query): Query<DeliveryListQuery>,
) -> Result<Json<StretchResponse<DeliveryResponse>>, ApiError> {
    let limit = stretch_limit(query.limit)?;
    let before_id = query.cursor.as_deref().map(decode_id_cursor).transpose()?;
    let page = webhooks::list(&ctx.control, before_id, limit).await?;
    Ok(Json(StretchResponse {
        items: page.items.into_iter().map(DeliveryResponse::from).collect(),
        next_cursor: page.next.map(encode_id_cursor),
    }))
}

impl Answer for LogWebhookResponse {
    fn hide_secret(&mut self) {
        self.secret = self.secret.take().map(|_| MASKED.to_owned());
    }
}

impl Answer for WebhookTestResponse {}

fn tagged(changed: ChangedWebhook) -> Record<LogWebhookResponse> {
    let ChangedWebhook { webhook, new_secret } = changed;
    let tag = RecordTag::of(&webhook);
    let Webhook { enabled, url, secret, threshold, window, cooldown, status_code_threshold, alert_severity } = webhook;
    let clear = new_secret.map(|made| made.expose_secret().to_owned());
    let secret = clear.or_else(|| secret.map(|_| MASKED.to_owned()));
    let body =
        LogWebhookResponse { enabled, url, secret, threshold, window, cooldown, status_code_threshold, alert_severity };
    Record::tagged(&tag, body)
}

impl WebhookTestResponse {
    fn of(test: TestEvent, delivery_id: i64) -> Self {
        Self {
            ok: test.ok(),
            status: test.status,
            duration_ms: u64::try_from(test.duration.as_millis()).unwrap_or(u64::MAX),
            event_id: test.event_id().to_owned(),
            error: test.error,
            delivery_id,
        }
    }
}

impl From<UpdateLogWebhookRequest> for ChangeWebhook {
    fn from(request: UpdateLogWebhookRequest) -> Self {
        Self {
            enabled: request.enabled,
            url: request.url.into(),
            secret: request.secret.map(|secret| secret.0).into(),
            threshold: request.threshold,
            window: request.window,
            cooldown: request.cooldown,
            status_code_threshold: request.status_code_threshold,
            alert_severity: request.alert_severity.into(),
        }
    }
}

impl From<Delivery> for DeliveryResponse {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id,
            event_id: delivery.event_id,
            r#type: delivery.kind,
            status: delivery.status,
            attempts: delivery.attempts,
            next_attempt_at: delivery.next_attempt_at,
            last_status: delivery.last_status,
            last_error: delivery.last_error,
            payload: delivery.payload.chars().take(SHOWN_CHARS).collect(),
            payload_bytes: delivery.payload.len() as u64,
            created_at: delivery.created_at,
            delivered_at: delivery.delivered_at,
        }
    }
}
