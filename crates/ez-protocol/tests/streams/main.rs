//! Streamed answers of every API through framer and reader: what is told must not depend on how the bytes arrive.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it fails")]

mod mutated;
mod recorded;
mod truth;
