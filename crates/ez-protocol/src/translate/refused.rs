//! Requests that cannot be translated: what is wrong, where, and what to do.

/// A request that the target cannot express, or that is wrong in the client's own protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The request's field at fault, by the client's name (`messages[2].content[0].type`).
    pub param: String,
    /// Stable machine-readable reason.
    pub code: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

impl Refused {
    /// A field of the wrong type or an unknown value. `expected` goes on after "must be".
    pub fn wrong_type(param: impl Into<String>, expected: &str) -> Self {
        let param = param.into();
        Self { message: format!("`{param}` must be {expected}"), param, code: "invalid_type" }
    }

    /// A required field that is absent.
    pub fn missing(param: impl Into<String>) -> Self {
        let param = param.into();
        Self { message: format!("`{param}` is missing"), param, code: "missing_required_parameter" }
    }

    /// Something that is right in the client's protocol and that the upstream's has no words for. `reason` goes on after
    /// the name: "is not …: do …".
    pub fn inexpressible(param: impl Into<String>, reason: &str) -> Self {
        let param = param.into();
        Self { message: format!("`{param}` {reason}"), param, code: "untranslatable_parameter" }
    }

    /// A conversation that no vendor takes.
    pub fn invalid(param: impl Into<String>, message: String) -> Self {
        Self { message, param: param.into(), code: "invalid_request" }
    }
}
