//! Calls through the gateway: the bytes that both sides get, and the one usage record that each call leaves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

mod attempts;
mod bodies;
mod bounds;
mod capabilities;
mod chat;
mod cold_start;
mod durable;
mod fences;
mod gone;
mod health;
mod hygiene;
mod limits;
mod link;
mod live;
mod models;
mod observability;
mod odd_answers;
mod protocols;
mod shared_limits;
mod stored;
mod support;
mod translated;
mod transport;
mod truth;
mod upstreams;
