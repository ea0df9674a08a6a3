//! Inspection: the bounded read of a body, and what routing needs of it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ez_protocol::Api;
use ez_protocol::error::FaultKind;
use ez_protocol::inspect::{InspectError, RequestPeek};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use crate::call::CallScope;
use crate::headers;
use crate::refusal::Refusal;

/// A body as it came, and what routing needs of it.
#[derive(Debug)]
pub(crate) struct Inspected {
    pub(crate) body: Bytes,
    pub(crate) api: Api,
    pub(crate) peek: RequestPeek,
}

/// Bound on a client that stops sending in the middle of its body.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads the body of a request, up to the bound of the gateway's configuration.
pub(crate) async fn read<B>(scope: &CallScope<'_>, body: B) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    // What would be read here is not what an upstream would read that decodes it.
    if headers::is_coded(&scope.arrival.headers) {
        return Err(coded_body());
    }
    let max_bytes = scope.gateway.config.max_body_bytes;
    read_bounded(&scope.arrival.headers, body, max_bytes, scope.deadline).await
}

/// Finds in a body what routing needs of it.
pub(crate) fn inspect(scope: &CallScope<'_>, body: Bytes) -> Result<Inspected, Refusal> {
    let peek = RequestPeek::of(scope.form, &body).map_err(|e| malformed(&e))?;
    if let Some(field) = peek.kept_by_vendor.filter(|_| !scope.gateway.config.passes_vendor_objects) {
        return Err(kept_by_vendor(field));
    }
    Ok(Inspected { body, api: scope.form.api, peek })
}

async fn read_bounded<B>(
    headers: &HeaderMap,
    mut body: B,
    max_bytes: usize,
    deadline: Instant,
) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > max_bytes as u64) {
        return Err(too_large(max_bytes));
    }
    let announced_bytes = announced.and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
    let mut collected = Collected { announced_bytes, ..Collected::default() };
    loop {
        let by = (Instant::now() + BODY_IDLE_TIMEOUT).min(deadline);
        let frame = timeout_at(by, body.frame()).await.map_err(|_| body_timeout())?;
        match frame {
            None => return Ok(collected.finish()),
            Some(Err(e)) => return Err(broken_body(&e)),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if collected.len() + data.len() > max_bytes {
                    return Err(too_large(max_bytes));
                }
                collected.push(data);
            }
        }
    }
}

/// Room made at once for a body that comes in pieces, bytes; one that is larger grows as it arrives, whatever it announced.
const MAX_RESERVED_BYTES: usize = 1 << 20;

/// A body in pieces; the common case of a single piece is kept without a copy.
#[derive(Default)]
struct Collected {
    /// What `content-length` says.
    announced_bytes: usize,
    /// Empty once `whole` holds it.
    first: Bytes,
    whole: BytesMut,
}

impl Collected {
    fn len(&self) -> usize {
        self.first.len() + self.whole.len()
    }

    fn push(&mut self, data: Bytes) {
        if self.len() == 0 {
            self.first = data;
            return;
        }
        let first = std::mem::take(&mut self.first);
        if !first.is_empty() {
            self.whole.reserve((first.len() + data.len()).max(self.announced_bytes.min(MAX_RESERVED_BYTES)));
            self.whole.extend_from_slice(&first);
        }
        self.whole.extend_from_slice(&data);
    }

    fn finish(self) -> Bytes {
        if self.whole.is_empty() { self.first } else { self.whole.freeze() }
    }
}

fn too_large(max_bytes: usize) -> Refusal {
    let message = format!("the body is larger than {max_bytes} bytes: send less, or have EZ_MAX_BODY_BYTES raised");
    Refusal::client(StatusCode::PAYLOAD_TOO_LARGE, FaultKind::TooLarge, "request_too_large", message)
}

fn coded_body() -> Refusal {
    let message = "the body is compressed, which this gateway does not read: send it without `content-encoding`";
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Refusal::client(status, FaultKind::InvalidRequest, "unsupported_content_encoding", message)
}

fn body_timeout() -> Refusal {
    let message = "the body did not arrive in time";
    Refusal::client(StatusCode::REQUEST_TIMEOUT, FaultKind::InvalidRequest, "request_timeout", message).closing()
}

fn broken_body(e: &impl std::fmt::Display) -> Refusal {
    let message = format!("the body could not be read: {e}");
    Refusal::client(StatusCode::BAD_REQUEST, FaultKind::InvalidRequest, "incomplete_body", message).closing()
}

/// What a vendor keeps for its account is shared by every key of this gateway.
fn kept_by_vendor(field: &'static str) -> Refusal {
    let message = format!(
        "`{field}` is not served here: it names what the vendor keeps for an account that others share; \
         send the content itself, or have EZ_VENDOR_OBJECTS set to `pass`"
    );
    Refusal::client(StatusCode::BAD_REQUEST, FaultKind::InvalidRequest, "unsupported_parameter", message)
        .with_param(Some(field))
}

/// The refusal of a body that cannot be routed.
pub(crate) fn malformed(e: &InspectError) -> Refusal {
    let code = match e {
        InspectError::Json(_) => "invalid_json",
        InspectError::Form(_) => "invalid_form",
        InspectError::Ambiguous(_) => "ambiguous_parameter",
        InspectError::Missing { .. } => "missing_required_parameter",
        InspectError::WrongType { .. } => "invalid_type",
        InspectError::Unserved { .. } => "unsupported_parameter",
    };
    Refusal::client(StatusCode::BAD_REQUEST, FaultKind::InvalidRequest, code, e.to_string()).with_param(e.field())
}
