//! Which behaviour a request gets, and the record of the requests that came.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};

use super::Behaviour;
use super::answer::Plan;

/// How many requests are kept; older ones are forgotten.
pub(super) const RECORDED_REQUESTS_MAX: usize = 1_000;

/// A behaviour for some requests. Rules are tried in the order they were added, the first match wins, the upstream's own behaviour is for the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Matches requests with exactly this credential (without `Bearer `); `None` matches all.
    #[serde(default)]
    pub credential: Option<String>,
    /// Matches requests for exactly this model; `None` matches all.
    #[serde(default)]
    pub model: Option<String>,
    /// Matches this many times, then never again; `None` is without limit.
    #[serde(default)]
    pub times: Option<u32>,
    /// What matching requests get. Fields left out in JSON take [`Behaviour::default`], not the upstream's own behaviour.
    pub behaviour: Behaviour,
}

/// One request as the upstream got it.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// HTTP method.
    pub method: Method,
    /// Path, as sent.
    pub path: String,
    /// Query without the question mark; empty if there is none.
    pub query: String,
    /// Headers.
    pub headers: HeaderMap,
    /// The credential without its scheme, wherever it was; `None` if there was none.
    pub credential: Option<String>,
    /// Body bytes.
    pub body: Bytes,
}

/// The behaviour of an upstream and its exceptions.
pub(super) struct Script {
    usual: Arc<Plan>,
    rules: Vec<CountedRule>,
}

/// The last requests.
pub(super) struct Record {
    pub(super) enabled: bool,
    pub(super) requests: VecDeque<RecordedRequest>,
}

struct CountedRule {
    credential: Option<String>,
    model: Option<String>,
    left: Option<u32>,
    plan: Arc<Plan>,
}

impl Rule {
    /// A rule for every request.
    #[must_use]
    pub fn any(behaviour: Behaviour) -> Self {
        Self { credential: None, model: None, times: None, behaviour }
    }

    /// Narrows the rule to one credential.
    #[must_use]
    pub fn credential(self, credential: impl Into<String>) -> Self {
        Self { credential: Some(credential.into()), ..self }
    }

    /// Narrows the rule to one model.
    #[must_use]
    pub fn model(self, model: impl Into<String>) -> Self {
        Self { model: Some(model.into()), ..self }
    }

    /// Limits the rule to its first `times` matches.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }
}

impl RecordedRequest {
    /// The body as JSON; panics if it isn't.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the recorded body isn't JSON")
    }

    /// A header as text; `None` if absent or not text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Script {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        Self { usual: Arc::new(Plan::new(behaviour)), rules: Vec::new() }
    }

    pub(super) fn set(&mut self, behaviour: Behaviour) {
        self.usual = Arc::new(Plan::new(behaviour));
    }

    pub(super) fn add(&mut self, rule: Rule) {
        let Rule { credential, model, times, behaviour } = rule;
        self.rules.push(CountedRule { credential, model, left: times, plan: Arc::new(Plan::new(behaviour)) });
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    /// The plan for a request; uses up one match of a limited rule.
    pub(super) fn choose(&mut self, credential: &str, model: Option<&str>) -> Arc<Plan> {
        let rule = self.rules.iter_mut().find(|rule| rule.matches(credential, model));
        let Some(rule) = rule else { return Arc::clone(&self.usual) };
        if let Some(left) = &mut rule.left {
            *left -= 1;
        }
        Arc::clone(&rule.plan)
    }
}

impl CountedRule {
    fn matches(&self, credential: &str, model: Option<&str>) -> bool {
        self.left != Some(0)
            && self.credential.as_deref().is_none_or(|wanted| wanted == credential)
            && self.model.as_deref().is_none_or(|wanted| Some(wanted) == model)
    }
}

impl Record {
    pub(super) fn push(&mut self, request: RecordedRequest) {
        if self.requests.len() == RECORDED_REQUESTS_MAX {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }
}
