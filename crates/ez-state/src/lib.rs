//! Shared runtime state behind one closed enum of backends, in-process and Redis: snapshot publication, leases,
//! counters, heartbeats, live figures, notes of jobs. The only crate that knows Redis.
//!
//! Writers go through [`SharedState::publish`]. Readers do one [`SharedState::read_snapshot`], then wait on a
//! [`ConfigWatch`] (and on a tick of their own) and follow with [`SharedState::read_changes`], reading everything again
//! when that says [`SnapshotDelta::TooOld`]. What they get is never half of a publication.

mod error;
mod health;
mod in_process;
mod in_process_limits;
mod in_process_responses;
mod lease;
mod limits;
mod publication;
mod redis_state;
mod server;
mod shared_state;
mod watch;

pub mod fail_point;

pub use error::StateError;
pub use health::{HealthChange, HealthCursor};
pub use in_process::InProcessState;
pub use lease::Lease;
pub use limits::{Lessee, LimitAsk, LimitGrant};
pub use publication::{Base, MAX_NAMED, Publication, Scope, SnapshotDelta, SnapshotImage};
pub use redis_state::RedisState;
pub use server::ServerFacts;
pub use shared_state::SharedState;
pub use watch::ConfigWatch;
