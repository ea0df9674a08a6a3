//! JSON in and out.

use axum::body::Bytes;
use axum::extract::{FromRequest, OptionalFromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::fault_of;
use super::wishes::BodyDigest;
use crate::problem::{ApiError, ProblemKind};

/// A JSON body. Refusals: 415 where it is not said to be JSON, 413 where it is too large, 400 where it is no JSON (with
/// the position), 422 where a field is unknown, missing or of a wrong type (with its JSON pointer).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        require_json(request.headers())?;
        let body = read(request, state).await?;
        parse(&body).map(Self)
    }
}

/// A JSON body that may be left out.
impl<S: Send + Sync, T: DeserializeOwned> OptionalFromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, ApiError> {
        let headers = request.headers().clone();
        let body = read(request, state).await?;
        if body.trim_ascii().is_empty() {
            return Ok(None);
        }
        require_json(&headers)?;
        parse(&body).map(|value| Some(Self(value)))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The body, up to the limit of the route.
pub(super) async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    let digest = request.extensions().get::<BodyDigest>().cloned();
    let read = Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(ProblemKind::TooLarge, "the body is larger than this route takes: send less at once")
        }
        status => ApiError::new(ProblemKind::Other(status), "the body did not arrive whole: send it again"),
    });
    read.inspect(|body| BodyDigest::note(digest.as_ref(), body))
}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let essence = given.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    let is_json = essence.eq_ignore_ascii_case("application/json")
        || essence.rsplit_once('+').is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json"));
    if is_json {
        return Ok(());
    }
    let found = given.map_or("none was given".to_owned(), |given| format!("`{given}` was given"));
    Err(ApiError::new(
        ProblemKind::UnsupportedMediaType,
        format!("send the body as content-type application/json: {found}"),
    ))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // Left to itself serde takes a list of a record's values in their order, too.
    if body.trim_ascii_start().first() != Some(&b'{') {
        serde_json::from_slice::<IgnoredAny>(body).map_err(|fault| malformed(&fault))?;
        return Err(ApiError::invalid_at("", "the body must be a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut deserializer);
    let value = parsed.map_err(|error| refusal(body, error.path(), error.inner()))?;
    deserializer.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

fn refusal(body: &[u8], path: &serde_path_to_error::Path, error: &serde_json::Error) -> ApiError {
    // A number where a word should be is reported as a fault of syntax, so the category alone does not tell.
    match serde_json::from_slice::<IgnoredAny>(body) {
        Err(fault) => malformed(&fault),
        Ok(IgnoredAny) => match without_position(error).as_str() {
            "expected value" => ApiError::invalid(vec![fault_of(path, "must be a value of another type")]),
            message => ApiError::invalid(vec![fault_of(path, message)]),
        },
    }
}

fn malformed(error: &serde_json::Error) -> ApiError {
    let (line, column) = (error.line(), error.column());
    let reason = without_position(error);
    ApiError::new(
        ProblemKind::MalformedJson,
        format!("the body is not well-formed JSON at line {line} column {column}: {reason}"),
    )
}

/// The message alone: the pointer says where, and a position inside of it would only repeat that.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
}
