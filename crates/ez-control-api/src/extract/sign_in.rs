//! Who asks: the extractors that let a request through to the routes of admins, masters and gateways.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRef, FromRequestParts};
use ez_control::sign_in::{self, Principal};
use ez_control::{Actor, Control, Origin, Tenant};
use ez_store::masters::Master;
use ez_telemetry::RequestId;
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::wishes::Wishes;
use crate::problem::{ApiError, ProblemKind};
use crate::writing::Writing;

/// A request to sign in.
#[derive(Debug)]
pub(crate) struct AnyoneCtx {
    pub(crate) control: Control,
    pub(crate) origin: Origin,
}

/// A request of an admin.
#[derive(Debug)]
pub(crate) struct AdminCtx {
    pub(crate) control: Control,
    origin: Origin,
    wishes: Wishes,
}

/// A request of a master. All it reaches is its own: every look-up takes its [`MasterCtx::tenant`].
#[derive(Debug)]
pub(crate) struct MasterCtx {
    pub(crate) control: Control,
    pub(crate) master: Master,
    origin: Origin,
    wishes: Wishes,
}

/// A request of a gateway.
#[derive(Debug)]
pub(crate) struct InternalCtx {
    pub(crate) control: Control,
    pub(crate) origin: Origin,
}

impl AdminCtx {
    /// Begins the unit of work that a change is made in.
    pub(crate) async fn write(&self) -> Result<Writing, ApiError> {
        Writing::begin(&self.control, self.actor(), &self.wishes).await
    }

    /// Who is behind what this request does.
    pub(crate) fn actor(&self) -> Actor {
        Actor::admin(self.origin.clone())
    }

    /// Whether nothing is to be changed, for routes that do their work in no [`Writing`].
    pub(crate) fn is_dry_run(&self) -> bool {
        self.wishes.dry_run
    }
}

impl MasterCtx {
    /// The bounds of what this request may see.
    pub(crate) fn tenant(&self) -> Tenant {
        Tenant::Only(self.master.id)
    }

    /// Begins the unit of work that a change is made in.
    pub(crate) async fn write(&self) -> Result<Writing, ApiError> {
        let actor = Actor::master(self.master.id, self.origin.clone());
        Writing::begin(&self.control, actor, &self.wishes).await
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AnyoneCtx
where
    Control: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // Refuses what these routes do not take.
        Wishes::of(parts)?;
        Ok(Self { control: Control::from_ref(state), origin: origin(parts) })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AdminCtx
where
    Control: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let (control, origin) = (Control::from_ref(state), origin(parts));
        match sign_in::authenticate(&control, bearer(parts)?, &origin).await? {
            Principal::Admin => Ok(Self { control, origin, wishes: Wishes::of(parts)? }),
            Principal::Master(_) => {
                Err(ApiError::new(ProblemKind::Forbidden, "this route is for admins: a master's routes are under /v1"))
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for MasterCtx
where
    Control: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let (control, origin) = (Control::from_ref(state), origin(parts));
        match sign_in::authenticate(&control, bearer(parts)?, &origin).await? {
            Principal::Master(master) => Ok(Self { control, master: *master, origin, wishes: Wishes::of(parts)? }),
            Principal::Admin => Err(ApiError::new(
                ProblemKind::Forbidden,
                "this route is for masters: an admin's routes are under /admin",
            )),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for InternalCtx
where
    Control: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let (control, origin) = (Control::from_ref(state), origin(parts));
        sign_in::authenticate_internal(&control, bearer(parts)?, &origin).await?;
        // Refuses what these routes do not take.
        Wishes::of(parts)?;
        Ok(Self { control, origin })
    }
}

/// The bearer token of a request. Errors: unauthenticated where it has none.
pub(crate) fn bearer(parts: &Parts) -> Result<&str, ApiError> {
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => Ok(token.trim()),
        _ => Err(ApiError::new(ProblemKind::Unauthenticated, "sign in with the header `Authorization: Bearer …`")),
    }
}

/// Where a request comes from, for audit and for limits on failed sign-ins.
pub(crate) fn origin(parts: &Parts) -> Origin {
    let request_id = parts.extensions.get::<RequestId>().map_or_else(String::new, RequestId::to_string);
    Origin { request_id, client_ip: client_ip(parts) }
}

/// The peer's address, where the listener tells.
fn client_ip(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip().to_canonical())
}
