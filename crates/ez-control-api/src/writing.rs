//! How a write begins and ends: with what its caller asks for besides the change, in a unit of work that is committed or,
//! in a dry run, undone.

use std::marker::PhantomData;
use std::ops::Deref;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use ez_control::idempotency::{self, Claim, Standing};
use ez_control::{Actor, Control, HasRecord, RecordTag, Recorded, Write};
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use crate::conventions::{ETAG, IDEMPOTENCY_REPLAYED, X_DRY_RUN};
use crate::extract::{Json, Wishes};
use crate::problem::ApiError;

/// What a write answers with.
pub(crate) trait Answer: Serialize {
    /// Takes out what is shown only once: replays and dry runs go without it.
    fn hide_secret(&mut self) {}
}

/// A write under way. It ends in [`Writing::create`], [`Writing::finish`] or [`Writing::delete`]; dropped, it changed
/// nothing. Rules take it as the [`Write`] that it holds.
#[must_use = "what is not ended is undone"]
pub(crate) struct Writing {
    write: Write,
    first: First,
}

/// Whether a request came before.
enum First {
    /// It has no name to know it by.
    Unnamed,
    /// It has, and did not.
    Claimed(Claim),
    /// It did, and this was the answer.
    Answered(Value),
}

/// An answer about one record: 200, with the record's tag.
pub(crate) struct Record<T> {
    id: Option<i64>,
    tag: Option<String>,
    is_dry_run: bool,
    body: T,
}

/// The answer to a POST that created something: 201, where it is from now on, and the record with its tag.
pub(crate) struct Created<T> {
    body: Vec<u8>,
    location: Option<String>,
    tag: Option<String>,
    is_dry_run: bool,
    is_replayed: bool,
    answer: PhantomData<fn() -> T>,
}

/// The answer to a DELETE: 204.
pub(crate) struct Deleted {
    is_dry_run: bool,
}

impl Writing {
    /// Begins a write. A request that names itself is claimed at once, before any rule looks at it.
    pub(crate) async fn begin(control: &Control, actor: Actor, wishes: &Wishes) -> Result<Self, ApiError> {
        let named = wishes.named_request()?;
        let write = control.write(actor).await?.expecting(wishes.expectation.clone()).dry_run(wishes.dry_run);
        let first = match named {
            None => First::Unnamed,
            Some(request) => match idempotency::claim(&write, &request).await? {
                Standing::New(claim) => First::Claimed(claim),
                Standing::Answered(answer) => First::Answered(answer),
            },
        };
        Ok(Self { write, first })
    }

    /// What the same request was answered with before, where it was. Every creating route asks this first.
    pub(crate) fn replayed<T>(&self) -> Option<Created<T>> {
        let First::Answered(answer) = &self.first else { return None };
        let text = |field: &str| answer[field].as_str().map(str::to_owned);
        let is_dry_run = self.write.is_dry_run();
        Some(Created {
            body: answer["body"].to_string().into_bytes(),
            location: text("location").filter(|_| !is_dry_run),
            tag: text("tag"),
            is_dry_run,
            is_replayed: true,
            answer: PhantomData,
        })
    }

    /// Ends a creation. `collection` is the path that the new record is under.
    pub(crate) async fn create<T: Answer>(self, collection: &str, record: Record<T>) -> Result<Created<T>, ApiError> {
        let Record { id, tag, mut body, .. } = record;
        let location = id.map(|id| format!("{collection}/{id}"));
        let is_dry_run = self.write.is_dry_run();
        if is_dry_run {
            body.hide_secret();
        }
        let bytes = serde_json::to_vec(&body).map_err(unwritable)?;
        match self.first {
            First::Unnamed => {}
            First::Claimed(claim) => {
                body.hide_secret();
                let kept = json!({ "location": location, "tag": tag, "body": body });
                idempotency::keep(&self.write, claim, &kept).await?;
            }
            First::Answered(_) => return Err(unwritable("a creating route does not ask for replays")),
        }
        self.write.commit().await?;
        let location = location.filter(|_| !is_dry_run);
        Ok(Created { body: bytes, location, tag, is_dry_run, is_replayed: false, answer: PhantomData })
    }

    /// Ends a change, or an action that answers with what became of the record.
    pub(crate) async fn finish<T: Answer>(self, record: Record<T>) -> Result<Record<T>, ApiError> {
        let is_dry_run = self.write.is_dry_run();
        let mut record = Record { is_dry_run, ..record };
        if is_dry_run {
            record.body.hide_secret();
        }
        self.write.commit().await?;
        Ok(record)
    }

    /// Ends a deletion.
    pub(crate) async fn delete(self) -> Result<Deleted, ApiError> {
        let is_dry_run = self.write.is_dry_run();
        self.write.commit().await?;
        Ok(Deleted { is_dry_run })
    }
}

impl Deref for Writing {
    type Target = Write;

    fn deref(&self) -> &Write {
        &self.write
    }
}

impl<T> Record<T> {
    /// Of a record, or of a record with the secret that was just made for it.
    pub(crate) fn of<R: HasRecord + Into<T>>(found: R) -> Self {
        let record = found.record();
        let (id, tag) = (record.id(), RecordTag::of(record));
        Self { id: Some(id), ..Self::tagged(&tag, found.into()) }
    }

    /// Of another answer about a record with this tag. Its route documents the header `ETag`.
    pub(crate) fn tagged(tag: &RecordTag, body: T) -> Self {
        Self { tag: Some(quoted(tag)), ..Self::untagged(body) }
    }

    /// Of an answer that is about no single record. Created so, it has no path of its own.
    pub(crate) fn untagged(body: T) -> Self {
        Self { id: None, tag: None, is_dry_run: false, body }
    }

    /// Marks it as the answer to a dry run, where it is one that no [`Writing`] ends.
    pub(crate) fn in_dry_run(self, is_dry_run: bool) -> Self {
        Self { is_dry_run, ..self }
    }
}

impl<T: Serialize> IntoResponse for Record<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.body).into_response();
        put(&mut response, ETAG, self.tag);
        put(&mut response, X_DRY_RUN, self.is_dry_run.then(|| "true".to_owned()));
        response
    }
}

impl<T> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::CREATED, Body::from(self.body)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        put(&mut response, LOCATION.as_str(), self.location);
        put(&mut response, ETAG, self.tag);
        put(&mut response, X_DRY_RUN, self.is_dry_run.then(|| "true".to_owned()));
        put(&mut response, IDEMPOTENCY_REPLAYED, self.is_replayed.then(|| "true".to_owned()));
        response
    }
}

impl IntoResponse for Deleted {
    fn into_response(self) -> Response {
        let mut response = StatusCode::NO_CONTENT.into_response();
        put(&mut response, X_DRY_RUN, self.is_dry_run.then(|| "true".to_owned()));
        response
    }
}

/// A tag as headers have it.
fn quoted(tag: &RecordTag) -> String {
    format!("\"{tag}\"")
}

fn put(response: &mut Response, name: &str, value: Option<String>) {
    let name = HeaderName::try_from(name).ok();
    let value = value.and_then(|value| HeaderValue::try_from(value).ok());
    if let (Some(name), Some(value)) = (name, value) {
        response.headers_mut().insert(name, value);
    }
}

fn unwritable(reason: impl std::fmt::Display) -> ApiError {
    tracing::error!(%reason, "an answer cannot be given");
    ApiError::internal()
}
