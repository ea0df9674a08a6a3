//! Logging, metrics, request ids: how every process of ez-api tells what it does.

pub mod logging;
pub mod metrics;
pub mod request_id;

pub use request_id::RequestId;
