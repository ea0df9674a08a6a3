//! The control plane over HTTP: one route table, DTOs, extractors, problem+json, OpenAPI for public, master, admin and
//! internal APIs.
//!
//! A request passes the edge, an extractor that tells who asks, one that turns its body into a DTO, and a handler that
//! calls a rule of `ez-control`; an error of any of them becomes a problem.

mod capabilities;
mod conventions;
mod edge;
mod event_stream;
mod examples;
mod extract;
mod listing;
mod number;
mod openapi;
mod patch;
mod price;
mod problem;
mod router;
mod routes;
mod secret_text;
mod state;
mod timestamp;
mod words;
mod writing;

pub use event_stream::EventStreams;
pub use openapi::openapi_json;
pub use router::{public_router, router};
pub use state::{ApiState, BuildInfo, ProcessInfo, Readiness, ServedSnapshot};
