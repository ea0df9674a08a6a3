//! Upstreams: what each type offers, where its calls go, how they sign in, and the pooled client that carries them.

mod access_token;
mod connect;
mod offer;
mod query;
mod sign_in;
mod target;
mod tls;
mod transport;

pub use tls::{UpstreamTls, UpstreamTlsError};

pub(crate) use access_token::{TokenClient, TokenError};
pub(crate) use offer::{offers, protocols_of};
pub(crate) use query::asks_for_events;
pub(crate) use target::{UpstreamTarget, UrlError};
pub(crate) use transport::{Transport, UpstreamBody};
