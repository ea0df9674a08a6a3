//! Lent request bodies: what a handler leaves unread of a body that it refused can still be read to its end.
//!
//! Clients write their whole body before they read an answer. A server that refuses and closes makes them see a broken
//! connection instead of the reason, so the rest is read and thrown away, within bounds.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// How much of a body that is too large is read and thrown away: enough for what people send by mistake.
const TOO_LARGE_DISCARD_BYTES: u64 = 256 << 20;
/// How much of any other refused body is: strangers may send these.
const DISCARD_BYTES: u64 = 32 << 20;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(10);

/// A request's body, lent to its handler.
#[derive(Debug)]
pub struct LentBody(Arc<Mutex<Incoming>>);

/// What the lender keeps.
pub(crate) struct Lender(Arc<Mutex<Incoming>>);

/// Lends a body.
pub(crate) fn lend(body: Incoming) -> (LentBody, Lender) {
    let shared = Arc::new(Mutex::new(body));
    (LentBody(shared.clone()), Lender(shared))
}

impl Body for LentBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // Never contended: the lender reads only once the handler has answered.
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

impl Lender {
    /// Whether nothing is left to read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    /// Reads the rest and throws it away. Whether the end was reached: if not, the connection cannot be used again.
    pub(crate) async fn discard(self, refused_with: StatusCode) -> bool {
        let is_too_large = refused_with == StatusCode::PAYLOAD_TOO_LARGE;
        let max_bytes = if is_too_large { TOO_LARGE_DISCARD_BYTES } else { DISCARD_BYTES };
        let mut body = LentBody(self.0);
        let read_to_end = async {
            let mut discarded = 0_u64;
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return false };
                discarded += frame.data_ref().map_or(0, Bytes::len) as u64;
                if discarded > max_bytes {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(DISCARD_TIMEOUT, read_to_end).await.unwrap_or(false)
    }
}
