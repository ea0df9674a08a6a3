//! What tests, the demo and benches stand on: simulated upstream, test databases and state, the real binary in a sandbox, load generator. Never part of the product.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "test support: a broken fixture should stop the test where it stands"
)]

pub mod clock;
pub mod database;
pub mod google;
pub mod http_client;
pub mod load;
pub mod postgres_server;
pub mod redis_server;
pub mod sandbox;
pub mod upstream;
pub mod webhook_receiver;
