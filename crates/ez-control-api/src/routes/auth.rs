//! `/auth/login`: a token for a JWT.

use ez_control::sign_in;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::extract::{AnyoneCtx, Json};
use crate::problem::ApiError;
use crate::secret_text::SecretText;

/// What to sign in with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginRequest {
    /// The admin token or a master key.
    #[schema(value_type = String, format = Password, write_only)]
    token: SecretText,
}

/// A session.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
pub(crate) struct LoginResponse {
    /// A JWT to send as bearer token.
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// Seconds until it ends.
    expires_in: u64,
    /// `admin` or `master`.
    role: &'static str,
}

/// Sign in.
///
/// Failed attempts are limited per address. A master's JWT ends early when the master's epoch is raised.
#[utoipa::path(post, path = "/auth/login", tag = "auth", operation_id = "login", request_body = LoginRequest,
    responses((status = 200, description = "Signed in.", body = LoginResponse)))]
pub(crate) async fn login(ctx: AnyoneCtx, Json(request): Json<LoginRequest>) -> Result<Json<LoginResponse>, ApiError> {
    let grant = sign_in::login(&ctx.control, request.token.0.expose_secret(), &ctx.origin).await?;
    Ok(Json(LoginResponse {
        access_token: grant.access_token.expose_secret().to_owned(),
        token_type: "Bearer",
        expires_in: grant.expires_in.as_secs(),
        role: grant.role.as_str(),
    }))
}
