//! The real binary in a sandbox: official SDKs as clients, faults from outside, over every pair of backends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

mod agents;
mod alerts;
mod attempts;
mod bad_input;
mod bodies;
mod crash;
mod credentials;
mod doctor;
mod durable;
mod fail_points;
mod fuzz;
mod gateways;
mod health;
mod ingestion;
mod life;
mod limits;
mod logs;
mod memory;
mod metrics;
mod outage;
mod realtime;
mod rotation;
mod sdk;
mod standstill;
mod traffic;
mod transfer;
mod translated;
mod webhooks;

use ez_testkit::sandbox::{Backends, Sandbox, SandboxOptions};

/// Makes each test once for either pair of backends, and once more with each plane in a process of its own.
macro_rules! on_every_backend {
    ($($test:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(ez_testkit::sandbox::Backends::Embedded).await;
            })+
        }

        mod scaled {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(ez_testkit::sandbox::Backends::Scaled).await;
            })+
        }

        mod apart {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(ez_testkit::sandbox::Backends::Apart).await;
            })+
        }
    };
}
use on_every_backend;

fn options(backends: Backends) -> SandboxOptions {
    SandboxOptions::new(env!("CARGO_BIN_EXE_ez-api"), backends)
}

async fn start(backends: Backends) -> Sandbox {
    Sandbox::start(options(backends)).await.unwrap()
}
