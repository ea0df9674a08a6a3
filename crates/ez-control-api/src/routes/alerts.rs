//! `/admin/alerts`: what somebody should look at.

use chrono::{DateTime, Utc};
use ez_contract::alerts::{AlertSeverity, AlertType};
use ez_control::alerts::{self, AlertMove, AlertStats, CreateAlert};
use ez_store::AlertStatus;
use ez_store::alerts::{Alert, AlertFilter};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::extract::{AdminCtx, Json, NoBody, Path, Query};
use crate::listing::{StretchResponse, decode_alert_cursor, encode_alert_cursor, stretch_limit};
use crate::problem::ApiError;
use crate::timestamp::Timestamp;
use crate::words;
use crate::writing::{Answer, Created, Record};

/// Which alerts to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AlertListQuery {
    /// The `next_cursor` of the stretch before.
    cursor: Option<String>,
    /// Alerts in a stretch.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u64>,
    /// Only those that stand here.
    #[param(value_type = Option<words::AlertStatus>)]
    status: Option<AlertStatus>,
    /// Only those that are as bad as this.
    #[param(value_type = Option<words::AlertSeverity>)]
    severity: Option<AlertSeverity>,
    /// Only those about this.
    #[param(value_type = Option<words::AlertType>)]
    r#type: Option<AlertType>,
    /// Only those about records of this kind, such as `key`.
    related_type: Option<String>,
    /// Only those about the record with this id.
    related_id: Option<i64>,
    /// Only those with this cause.
    fingerprint: Option<String>,
    /// Only those raised at this time or later.
    #[param(value_type = Option<String>, example = "2026-01-31T12:00:00Z")]
    since: Option<Timestamp>,
    /// Only those raised before this time.
    #[param(value_type = Option<String>, example = "2026-01-31T12:00:00Z")]
    until: Option<Timestamp>,
}

/// A new alert.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateAlertRequest {
    /// What it is about.
    #[schema(value_type = words::AlertType)]
    r#type: AlertType,
    /// How bad it is.
    #[schema(value_type = words::AlertSeverity)]
    severity: AlertSeverity,
    /// One line for people.
    title: String,
    /// More for people; empty where absent.
    message: Option<String>,
    /// Kind of what it is about: a word such as `key`, `master` or `gateway`.
    related_type: Option<String>,
    /// Its id, where it has a number.
    related_id: Option<i64>,
    /// Its name.
    related_name: Option<String>,
    /// Figures for programs.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// The identity of its cause. Of one fingerprint one alert is open at most; without one it is nobody's duplicate.
    fingerprint: Option<String>,
}

/// What somebody should look at.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Alert)]
pub(crate) struct AlertResponse {
    /// Given by ez-api.
    id: i64,
    /// What it is about.
    #[schema(value_type = words::AlertType)]
    r#type: AlertType,
    /// How bad it is. It may rise while the alert is open, and never falls.
    #[schema(value_type = words::AlertSeverity)]
    severity: AlertSeverity,
    /// Where it stands.
    #[schema(value_type = words::AlertStatus)]
    status: AlertStatus,
    /// One line for people.
    title: String,
    /// More for people, as of the last sighting.
    message: String,
    /// Kind of what it is about.
    related_type: Option<String>,
    /// Its id, where it has a number.
    related_id: Option<i64>,
    /// Its name when the alert was raised.
    related_name: Option<String>,
    /// Figures for programs, as of the last sighting.
    #[schema(value_type = Object)]
    metadata: Value,
    /// The identity of its cause.
    fingerprint: Option<String>,
    /// Who acknowledged it.
    acked_by: Option<String>,
    /// When.
    acked_at: Option<DateTime<Utc>>,
    /// When it was resolved or dismissed.
    resolved_at: Option<DateTime<Utc>>,
    /// When its cause was last seen.
    last_seen_at: DateTime<Utc>,
    /// How often its cause was seen.
    occurrences: u64,
    /// When it was raised.
    created_at: DateTime<Utc>,
    /// When its severity or its status last changed.
    updated_at: DateTime<Utc>,
}

/// How many alerts there are.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AlertStats)]
pub(crate) struct AlertStatsResponse {
    /// All of them.
    total: u64,
    /// By where they stand.
    by_status: StatusCounts,
    /// By how bad they are.
    by_severity: SeverityCounts,
    /// Those that are active or acknowledged.
    open: OpenAlertsResponse,
}

/// Alerts that nobody has closed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OpenAlerts)]
pub(crate) struct OpenAlertsResponse {
    /// All of them.
    total: u64,
    /// By how bad they are.
    by_severity: SeverityCounts,
}

/// Counts by where alerts stand.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AlertStatusCounts)]
pub(crate) struct StatusCounts {
    /// Nobody has looked at them.
    active: u64,
    /// Somebody has.
    acknowledged: u64,
    /// Their cause is gone.
    resolved: u64,
    /// They were none.
    dismissed: u64,
}

/// Counts by how bad alerts are.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AlertSeverityCounts)]
pub(crate) struct SeverityCounts {
    /// To be known.
    info: u64,
    /// To be looked at.
    warning: u64,
    /// To be looked at now.
    critical: u64,
}

/// List alerts, newest first.
#[utoipa::path(get, path = "/admin/alerts", tag = "alerts", operation_id = "list_alerts", params(AlertListQuery),
    security(("admin" = [])),
    responses((status = 200, description = "A stretch of alerts.", body = StretchResponse<AlertResponse>)))]
pub(crate) async fn list(
    ctx: AdminCtx,
    Query(query): Query<AlertListQuery>,
) -> Result<Json<StretchResponse<AlertResponse>>, ApiError> {
    let limit = stretch_limit(query.limit)?;
    let cursor = query.cursor.as_deref().map(decode_alert_cursor).transpose()?;
    let filter = AlertFilter {
        status: query.status,
        severity: query.severity,
        alert_type: query.r#type,
        related_type: query.related_type,
        related_id: query.related_id,
        fingerprint: query.fingerprint,
        since: query.since.map(Into::into),
        until: query.until.map(Into::into),
    };
    let page = alerts::list(&ctx.control, &filter, cursor.as_ref(), limit).await?;
    Ok(Json(StretchResponse {
        items: page.items.into_iter().map(AlertResponse::from).collect(),
        next_cursor: page.next.as_ref().map(encode_alert_cursor),
    }))
}

/// Create an alert.
///
/// 409 where one of the same fingerprint is open.
#[utoipa::path(post, path = "/admin/alerts", tag = "alerts", operation_id = "create_alert",
    request_body = CreateAlertRequest, security(("admin" = [])),
    responses((status = 201, description = "Created.", body = AlertResponse,
        headers(("Location" = String, description = "Where it is from now on.")))))]
pub(crate) async fn create(
    ctx: AdminCtx,
    Json(request): Json<CreateAlertRequest>,
) -> Result<Created<AlertResponse>, ApiError> {
    let write = ctx.write().await?;
    if let Some(first) = write.replayed() {
        return Ok(first);
    }
    let alert = alerts::create(&write, request.into()).await?;
    write.create("/admin/alerts", Record::of(alert)).await
}

/// Get an alert.
#[utoipa::path(get, path = "/admin/alerts/{id}", tag = "alerts", operation_id = "get_alert",
    params(("id" = i64, Path, description = "Id of the alert.")), security(("admin" = [])),
    responses((status = 200, description = "The alert.", body = AlertResponse)))]
pub(crate) async fn get(ctx: AdminCtx, Path(id): Path<i64>) -> Result<Record<AlertResponse>, ApiError> {
    Ok(Record::of(alerts::get(&ctx.control, id).await?))
}

/// Acknowledge an alert.
///
/// One that is acknowledged already stays as it is. 409 for one that was resolved or dismissed.
#[utoipa::path(post, path = "/admin/alerts/{id}/ack", tag = "alerts", operation_id = "acknowledge_alert",
    params(("id" = i64, Path, description = "Id of the alert.")), security(("admin" = [])),
    responses((status = 200, description = "The alert as it is now.", body = AlertResponse)))]
pub(crate) async fn acknowledge(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    NoBody: NoBody,
) -> Result<Record<AlertResponse>, ApiError> {
    settle(ctx, id, AlertMove::Acknowledge).await
}

/// Resolve an alert.
///
/// Its cause is gone. 409 for one that was resolved or dismissed before.
#[utoipa::path(post, path = "/admin/alerts/{id}/resolve", tag = "alerts", operation_id = "resolve_alert",
    params(("id" = i64, Path, description = "Id of the alert.")), security(("admin" = [])),
    responses((status = 200, description = "The alert as it is now.", body = AlertResponse)))]
pub(crate) async fn resolve(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    NoBody: NoBody,
) -> Result<Record<AlertResponse>, ApiError> {
    settle(ctx, id, AlertMove::Resolve).await
}

/// Dismiss an alert.
///
/// It was none. 409 for one that was resolved or dismissed before.
#[utoipa::path(post, path = "/admin/alerts/{id}/dismiss", tag = "alerts", operation_id = "dismiss_alert",
    params(("id" = i64, Path, description = "Id of the alert.")), security(("admin" = [])),
    responses((status = 200, description = "The alert as it is now.", body = AlertResponse)))]
pub(crate) async fn dismiss(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    NoBody: NoBody,
) -> Result<Record<AlertResponse>, ApiError> {
    settle(ctx, id, AlertMove::Dismiss).await
}

/// Count the alerts.
#[utoipa::path(get, path = "/admin/alerts/stats", tag = "alerts", operation_id = "count_alerts",
    security(("admin" = [])),
    responses((status = 200, description = "How many there are.", body = AlertStatsResponse)))]
pub(crate) async fn stats(ctx: AdminCtx) -> Result<Json<AlertStatsResponse>, ApiError> {
    Ok(Json(alerts::stats(&ctx.control).await?.into()))
}

async fn settle(ctx: AdminCtx, id: i64, step: AlertMove) -> Result<Record<AlertResponse>, ApiError> {
    let write = ctx.write().await?;
    let alert = alerts::settle(&write, id, step).await?;
    write.finish(Record::of(alert)).await
}

impl Answer for AlertResponse {}

impl From<CreateAlertRequest> for CreateAlert {
    fn from(request: CreateAlertRequest) -> Self {
        Self {
            alert_type: request.r#type,
            severity: request.severity,
            title: request.title,
            message: request.message,
            related_type: request.related_type,
            related_id: request.related_id,
            related_name: request.related_name,
            metadata: request.metadata,
            fingerprint: request.fingerprint,
        }
    }
}

impl From<Alert> for AlertResponse {
    fn from(alert: Alert) -> Self {
        Self {
            id: alert.id,
            r#type: alert.alert_type,
            severity: alert.severity,
            status: alert.status,
            title: alert.title,
            message: alert.message,
            related_type: alert.related_type,
            related_id: alert.related_id,
            related_name: alert.related_name,
            metadata: alert.metadata,
            fingerprint: alert.fingerprint,
            acked_by: alert.acked_by,
            acked_at: alert.acked_at,
            resolved_at: alert.resolved_at,
            last_seen_at: alert.last_seen_at,
            occurrences: alert.occurrences,
            created_at: alert.created_at,
            updated_at: alert.updated_at,
        }
    }
}

impl From<AlertStats> for AlertStatsResponse {
    fn from(stats: AlertStats) -> Self {
        let of_status = |status| stats.by_status.get(&status).copied().unwrap_or_default();
        let by_status = StatusCounts {
            active: of_status(AlertStatus::Active),
            acknowledged: of_status(AlertStatus::Acknowledged),
            resolved: of_status(AlertStatus::Resolved),
            dismissed: of_status(AlertStatus::Dismissed),
        };
        let by_severity = |counts: &std::collections::BTreeMap<AlertSeverity, u64>| {
            let of = |severity| counts.get(&severity).copied().unwrap_or_default();
            SeverityCounts {
                info: of(AlertSeverity::Info),
                warning: of(AlertSeverity::Warning),
                critical: of(AlertSeverity::Critical),
            }
        };
        Self {
            total: stats.by_status.values().sum(),
            by_status,
            by_severity: by_severity(&stats.by_severity),
            open: OpenAlertsResponse {
                total: stats.open_by_severity.values().sum(),
                by_severity: by_severity(&stats.open_by_severity),
            },
        }
    }
}
