//! Plain answers: the usage that they report, the model that they name, and the error that they are.

use bytes::Bytes;
use ez_contract::Protocol;
use ez_contract::usage::TokenUsage;

use crate::api::Api;
use crate::openai_chat;

/// An error as a vendor tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VendorError {
    /// Human-readable.
    pub message: String,
    /// `type` of the error.
    pub kind: Option<String>,
    /// `code` of the error, as text.
    pub code: Option<String>,
}

/// What the gateway needs of a plain answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlainAnswer {
    /// Token counts, where the answer reports them.
    pub tokens: Option<TokenUsage>,
    /// The answer with its `model` replaced, where that was asked for and it has one.
    pub renamed: Option<Bytes>,
}

/// Reads a plain answer and, where `model` is given, puts that in place of the answer's own. `None` when the body is no
/// answer of this API.
pub fn read_answer(_api: Api, body: &[u8], model: Option<&str>) -> Option<PlainAnswer> {
    openai_chat::read_plain(body, model)
}

/// The error that a body in this protocol is, where it is one. Some vendors send an answer beside it.
pub fn vendor_error(_protocol: Protocol, body: &[u8]) -> Option<VendorError> {
    openai_chat::vendor_error(body)
}
