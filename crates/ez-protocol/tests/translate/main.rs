//! Translation of the whole corpus: every request and answer of every protocol to and from every other, as reviewed
//! snapshots, cut at every byte, and as properties that hold for whatever comes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

mod accepted;
mod catalogue;
mod clients;
mod corpus;
mod cuts;
mod goldens;
mod matrix;
mod properties;
mod sdk_types;
