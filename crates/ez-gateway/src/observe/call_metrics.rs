//! Metrics of calls: handles by label, registered when they are first used and kept, as a look-up in the registry would
//! allocate its labels for each call.

use std::sync::OnceLock;

use ez_contract::usage::EndedBy;
use ez_contract::{Operation, Protocol, ProviderType, UsageRecord};
use ez_telemetry::metrics::{
    GATEWAY_ATTEMPTS, GATEWAY_CALL_SECONDS, GATEWAY_CALLS, GATEWAY_FIRST_BYTE_SECONDS, GATEWAY_IN_FLIGHT,
    GATEWAY_OUTPUT_TOKEN_SECONDS, GATEWAY_REQUESTS, GATEWAY_TOKENS, SPANS_DROPPED,
};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::{operation_word, seconds};

/// `1xx` to `5xx`, and what is none of these.
const STATUS_CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// What attempts come to, in the order of [`AttemptEnd`].
const ATTEMPT_OUTCOMES: [&str; 3] = ["delivered", "refused", "failed"];
/// Operations, and what is none.
const OPERATIONS: usize = 8;

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptEnd {
    /// Its answer is the client's.
    Delivered,
    /// No other credential would have done better.
    Refused,
    /// Another credential may do better.
    Failed,
}

pub(super) struct CallMetrics {
    in_flight: Gauge,
    /// By provider type and what they came to.
    attempts: Table<Counter>,
    spans_dropped: Counter,
    /// By protocol and status class.
    answered: Table<Counter>,
    /// By protocol and operation.
    ended: Table<EndedHandles>,
}

/// Handles for the calls of one protocol and operation.
struct EndedHandles {
    labels: [(&'static str, &'static str); 2],
    /// By status class and who ended them.
    requests: Table<Counter>,
    duration: Histogram,
    first_byte: Histogram,
    per_output_token: Histogram,
    input_tokens: Counter,
    output_tokens: Counter,
    cache_read_tokens: Counter,
    cache_write_tokens: Counter,
    reasoning_tokens: Counter,
}

impl CallMetrics {
    pub(super) fn new() -> Self {
        Self {
            in_flight: gauge!(GATEWAY_IN_FLIGHT),
            attempts: Table::new(ProviderType::ALL.len() * ATTEMPT_OUTCOMES.len()),
            spans_dropped: counter!(SPANS_DROPPED),
            answered: Table::new(Protocol::ALL.len() * STATUS_CLASSES.len()),
            ended: Table::new(Protocol::ALL.len() * OPERATIONS),
        }
    }

    pub(super) fn in_flight(&self) -> &Gauge {
        &self.in_flight
    }

    pub(super) fn span_dropped(&self) {
        self.spans_dropped.increment(1);
    }

    pub(super) fn attempted(&self, provider_type: ProviderType, ended: AttemptEnd) {
        let attempts = self.attempts.get(
            provider_type as usize * ATTEMPT_OUTCOMES.len() + ended as usize,
            || counter!(GATEWAY_ATTEMPTS, "provider_type" => provider_type.as_str(), "outcome" => ATTEMPT_OUTCOMES[ended as usize]),
        );
        attempts.increment(1);
    }

    pub(super) fn answered(&self, protocol: Protocol, status: u16) {
        let class = class_of(status);
        let answered = self.answered.get(
            protocol as usize * STATUS_CLASSES.len() + class,
            || counter!(GATEWAY_CALLS, "protocol" => protocol.as_str(), "status" => STATUS_CLASSES[class]),
        );
        answered.increment(1);
    }

    pub(super) fn ended(&self, record: &UsageRecord, operation: Option<Operation>) {
        let index = record.protocol as usize * OPERATIONS + operation.map_or(0, |operation| operation as usize + 1);
        let handles = self.ended.get(index, || EndedHandles::register(record.protocol, operation));
        handles.note(record);
    }
}

impl EndedHandles {
    fn register(protocol: Protocol, operation: Option<Operation>) -> Self {
        let labels = [("protocol", protocol.as_str()), ("operation", operation_word(operation))];
        let tokens = |direction: &'static str| counter!(GATEWAY_TOKENS, "protocol" => labels[0].1, "operation" => labels[1].1, "direction" => direction);
        Self {
            labels,
            requests: Table::new(STATUS_CLASSES.len() * EndedBy::ALL.len()),
            duration: histogram!(GATEWAY_CALL_SECONDS, &labels),
            first_byte: histogram!(GATEWAY_FIRST_BYTE_SECONDS, &labels),
            per_output_token: histogram!(GATEWAY_OUTPUT_TOKEN_SECONDS, &labels),
            input_tokens: tokens("input"),
            output_tokens: tokens("output"),
            cache_read_tokens: tokens("cache_read"),
            cache_write_tokens: tokens("cache_write"),
            reasoning_tokens: tokens("reasoning"),
        }
    }

    fn note(&self, record: &UsageRecord) {
        let (class, ended_by) = (class_of(record.status), record.ended_by);
        let requests = self.requests.get(class * EndedBy::ALL.len() + ended_by as usize, || {
            let [(_, protocol), (_, operation)] = self.labels;
            counter!(
                GATEWAY_REQUESTS, "protocol" => protocol, "operation" => operation,
                "status" => STATUS_CLASSES[class], "ended_by" => ended_by.as_str()
            )
        });
        requests.increment(1);
        let tokens = &record.tokens;
        for (counter, count) in [
            (&self.input_tokens, tokens.input_tokens),
            (&self.output_tokens, tokens.output_tokens),
            (&self.cache_read_tokens, tokens.cache_read_tokens),
            (&self.cache_write_tokens, tokens.cache_write_tokens),
            (&self.reasoning_tokens, tokens.reasoning_tokens),
        ] {
            if let Some(count) = count.filter(|count| *count > 0) {
                counter.increment(count);
            }
        }
        // Times of refusals would hide those of answers.
        if record.attempts == 0 {
            return;
        }
        self.duration.record(seconds(record.latency_ms));
        let Some(first_byte_ms) = record.first_byte_ms else { return };
        self.first_byte.record(seconds(first_byte_ms));
        if let Some(further_tokens) =
            tokens.output_tokens.filter(|_| record.stream).and_then(|count| count.checked_sub(1))
            && further_tokens > 0
        {
            let streaming = seconds(record.latency_ms.saturating_sub(first_byte_ms));
            self.per_output_token.record(streaming / further_tokens as f64);
        }
    }
}

fn class_of(status: u16) -> usize {
    match status / 100 {
        class @ 1..=5 => usize::from(class),
        _ => 0,
    }
}

/// Handles by a small number.
struct Table<T>(Box<[OnceLock<T>]>);

impl<T> Table<T> {
    fn new(length: usize) -> Self {
        Self((0..length).map(|_| OnceLock::new()).collect())
    }

    /// The handle of this number, made where it is asked for the first time.
    fn get(&self, number: usize, make: impl FnOnce() -> T) -> &T {
        self.0[number].get_or_init(make)
    }
}
