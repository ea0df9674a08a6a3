//! What the routes work with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRef;
use chrono::{DateTime, Utc};
use ez_contract::Clock;
use ez_control::Control;
use ez_control::scheduler::Scheduler;
use ez_telemetry::metrics::Metrics;
use secrecy::SecretString;

use crate::event_stream::EventStreams;

/// What the routes of a control plane work with.
#[derive(Clone)]
pub struct ApiState {
    /// The rules.
    pub control: Control,
    /// The jobs.
    pub scheduler: Scheduler,
    /// What the public routes tell of this process.
    pub process: ProcessInfo,
    /// Answers that go on for as long as somebody watches.
    pub streams: EventStreams,
}

/// What the public routes tell of this process.
#[derive(Clone)]
pub struct ProcessInfo {
    /// Which build runs.
    pub build: BuildInfo,
    /// Which planes this process runs: `all`, `control` or `gateway`.
    pub role: &'static str,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Tells how long it has been up.
    pub clock: Arc<dyn Clock>,
    /// What it counts.
    pub metrics: Metrics,
    /// Tokens that open `/metrics`, besides signing in as admin where this process is a control plane.
    pub metrics_tokens: Vec<SecretString>,
    /// What it still waits for.
    pub readiness: Readiness,
    /// Tells of the snapshot that its gateway serves from, where it has a gateway and that has one.
    pub served_snapshot: Arc<dyn Fn() -> Option<ServedSnapshot> + Send + Sync>,
}

/// The snapshot that a gateway serves from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedSnapshot {
    /// Its version.
    pub version: u64,
    /// `live`, or `disk` where the shared state was not reached yet.
    pub source: &'static str,
    /// When the shared state last said that nothing newer is published.
    pub confirmed_at: DateTime<Utc>,
}

/// Which build runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildInfo {
    /// Version of the release.
    pub version: &'static str,
    /// Commit that it was built from.
    pub commit: &'static str,
    /// When it was built, RFC 3339.
    pub build_time: &'static str,
    /// Where its source is.
    pub repository: &'static str,
}

/// The parts that must work before this process wants traffic. Clones share what they know.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, String>>>);

/// What the public routes need: the process, and the rules where it has any.
#[derive(Clone)]
pub(crate) struct PublicState {
    pub(crate) process: ProcessInfo,
    pub(crate) control: Option<Control>,
}

impl Readiness {
    /// Ready: nothing is waited for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `part` does not work, and why (lower-case, without secrets: it is shown to anyone).
    pub fn set_waiting(&self, part: &'static str, reason: impl Into<String>) {
        self.parts().insert(part, reason.into());
    }

    /// `part` works.
    pub fn set_ready(&self, part: &'static str) {
        self.parts().remove(part);
    }

    /// The parts that do not work, by name, each with its reason. Ready when empty.
    pub fn list_waiting(&self) -> Vec<(&'static str, String)> {
        self.parts().iter().map(|(part, reason)| (*part, reason.clone())).collect()
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, String>> {
        // The map is never left half-changed, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FromRef<ApiState> for PublicState {
    fn from_ref(state: &ApiState) -> Self {
        Self { process: state.process.clone(), control: Some(state.control.clone()) }
    }
}

impl FromRef<ApiState> for Control {
    fn from_ref(state: &ApiState) -> Self {
        state.control.clone()
    }
}

impl FromRef<ApiState> for EventStreams {
    fn from_ref(state: &ApiState) -> Self {
        state.streams.clone()
    }
}

impl FromRef<ApiState> for Scheduler {
    fn from_ref(state: &ApiState) -> Self {
        state.scheduler.clone()
    }
}
