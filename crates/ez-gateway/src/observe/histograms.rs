//! The GenAI metrics of calls, counted since the process started, for a collector. A call of a kind that was met before
//! allocates nothing, and waits for nobody but calls of the same kind, for additions.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use ez_contract::usage::UsageSource;
use ez_contract::{Operation, UsageRecord};

use super::gen_ai::{self, ErrorType, Instrument};
use super::seconds;

/// Series at most, as OpenTelemetry's SDKs have them by default; what comes beyond goes to one series per instrument.
const MAX_SERIES: usize = 2_000;
/// Kinds of calls at most: each has a series of each instrument, and one more as tokens go in and come out.
const MAX_KINDS: usize = MAX_SERIES / (Instrument::ALL.len() + 1);
/// Maps that kinds are spread over.
const SHARDS: usize = 16;

/// Counts calls by operation, provider and model.
#[derive(Debug)]
pub(crate) struct GenAiMetrics {
    hasher: RandomState,
    /// By the hash of what tells kinds apart, so that no key is made to look one up.
    shards: [RwLock<HashMap<u64, Vec<Arc<Counted>>>>; SHARDS],
    kinds: AtomicUsize,
    /// What has no place of its own.
    others: Counted,
}

/// What tells one kind of calls from another, as a call has it at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kind<'r> {
    operation: &'static str,
    provider: &'static str,
    request_model: &'r str,
    response_model: Option<&'r str>,
    error_type: Option<ErrorType>,
}

/// Calls of one kind.
#[derive(Debug)]
struct Counted {
    /// None for those of any kind.
    of: Option<Attributes>,
    histograms: Mutex<Histograms>,
}

#[derive(Debug, Default)]
struct Histograms {
    duration: Histogram,
    first_token: Histogram,
    per_output_token: Histogram,
    input_tokens: Histogram,
    output_tokens: Histogram,
}

/// What tells one series from another. They are told in order, so that what is sent is always in the same one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Series {
    pub(super) instrument: Instrument,
    /// None for what has no place of its own.
    pub(super) of: Option<Attributes>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Attributes {
    pub(super) operation: &'static str,
    pub(super) provider: &'static str,
    pub(super) request_model: String,
    pub(super) response_model: Option<String>,
    pub(super) error_type: Option<ErrorType>,
    pub(super) token_type: Option<&'static str>,
}

/// Values since the start.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Histogram {
    pub(super) count: u64,
    pub(super) sum: f64,
    /// One more than there are bounds.
    pub(super) buckets: Vec<u64>,
}

impl Default for GenAiMetrics {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| RwLock::default()),
            kinds: AtomicUsize::new(0),
            others: Counted { of: None, histograms: Mutex::default() },
        }
    }
}

impl GenAiMetrics {
    /// Counts a call that has ended. One that reached no upstream is none of a model: its name may be anything.
    pub(super) fn note(&self, record: &UsageRecord, operation: Option<Operation>) {
        if record.attempts == 0 {
            return;
        }
        let kind = Kind {
            operation: gen_ai::operation_name(record, operation),
            provider: gen_ai::provider_name(record.provider_type),
            request_model: &record.model,
            response_model: record.upstream_model.as_deref(),
            error_type: gen_ai::error_type(record),
        };
        self.count(kind, |histograms| {
            histograms.duration.add(Instrument::RequestDuration, seconds(record.latency_ms));
            if kind.error_type.is_none() {
                histograms.note_use(record);
            }
        });
        if kind.error_type.is_some() {
            // Only durations are told apart by what went wrong.
            self.count(Kind { error_type: None, ..kind }, |histograms| histograms.note_use(record));
        }
    }

    /// All series as they stand, in order.
    pub(super) fn snapshot(&self) -> Vec<(Series, Histogram)> {
        let mut told = self.others.series();
        for shard in &self.shards {
            let counted = shard.read().unwrap_or_else(PoisonError::into_inner);
            counted.values().flatten().for_each(|counted| told.extend(counted.series()));
        }
        told.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        told
    }

    fn count(&self, kind: Kind<'_>, add: impl FnOnce(&mut Histograms)) {
        let hash = self.hasher.hash_one(kind);
        let shard = &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or_default()];
        let find = |counted: &HashMap<u64, Vec<Arc<Counted>>>| {
            counted.get(&hash)?.iter().find(|counted| counted.is_of(kind)).cloned()
        };
        // A map is whole whoever panicked beside it.
        let known = find(&shard.read().unwrap_or_else(PoisonError::into_inner));
        if let Some(known) = known {
            return add(&mut known.histograms());
        }
        if self.kinds.load(Ordering::Relaxed) >= MAX_KINDS {
            return add(&mut self.others.histograms());
        }
        let mut counted = shard.write().unwrap_or_else(PoisonError::into_inner);
        let known = find(&counted).or_else(|| {
            // Counted first, so that there are never more, whoever comes at the same time.
            (self.kinds.fetch_add(1, Ordering::Relaxed) < MAX_KINDS).then(|| {
                let new = Arc::new(Counted { of: Some(kind.attributes()), histograms: Mutex::default() });
                counted.entry(hash).or_default().push(new.clone());
                new
            })
        });
        drop(counted);
        add(&mut known.as_deref().unwrap_or(&self.others).histograms());
    }
}

impl Kind<'_> {
    fn attributes(self) -> Attributes {
        Attributes {
            operation: self.operation,
            provider: self.provider,
            request_model: self.request_model.to_owned(),
            response_model: self.response_model.map(str::to_owned),
            error_type: self.error_type,
            token_type: None,
        }
    }
}

impl Counted {
    fn is_of(&self, kind: Kind<'_>) -> bool {
        self.of.as_ref().is_some_and(|of| {
            let own = Kind {
                operation: of.operation,
                provider: of.provider,
                request_model: &of.request_model,
                response_model: of.response_model.as_deref(),
                error_type: of.error_type,
            };
            own == kind
        })
    }

    fn histograms(&self) -> MutexGuard<'_, Histograms> {
        // Counts are whole whoever panicked beside them.
        self.histograms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that have counted anything.
    fn series(&self) -> Vec<(Series, Histogram)> {
        let (of, histograms) = (&self.of, self.histograms());
        let series = |instrument, token_type: Option<&'static str>| {
            let of = of.as_ref().map(|of| Attributes { token_type, ..of.clone() });
            Series { instrument, of }
        };
        let mut told = vec![
            (series(Instrument::RequestDuration, None), histograms.duration.clone()),
            (series(Instrument::TimeToFirstToken, None), histograms.first_token.clone()),
            (series(Instrument::TimePerOutputToken, None), histograms.per_output_token.clone()),
        ];
        let (input, output) = (histograms.input_tokens.clone(), histograms.output_tokens.clone());
        match of {
            Some(_) => {
                told.push((series(Instrument::TokenUsage, Some("input")), input));
                told.push((series(Instrument::TokenUsage, Some("output")), output));
            }
            // Nothing tells them apart.
            None => told.push((series(Instrument::TokenUsage, None), input.with(&output))),
        }
        told.retain(|(_, histogram)| histogram.count > 0);
        told
    }
}

impl Histograms {
    /// Counts what a call used, and the times of a stream that came to its end.
    fn note_use(&mut self, record: &UsageRecord) {
        let tokens = &record.tokens;
        // What was estimated here must not pass for a count.
        if record.usage_source == UsageSource::Exact {
            for (histogram, count) in
                [(&mut self.input_tokens, tokens.input_tokens), (&mut self.output_tokens, tokens.output_tokens)]
            {
                if let Some(count) = count {
                    histogram.add(Instrument::TokenUsage, count as f64);
                }
            }
        }
        let Some(first_byte_ms) = record.first_byte_ms.filter(|_| record.stream && !record.is_failure()) else {
            return;
        };
        if let Some(further) = tokens.output_tokens.and_then(|count| count.checked_sub(1)).filter(|count| *count > 0) {
            let rest = seconds(record.latency_ms.saturating_sub(first_byte_ms));
            self.per_output_token.add(Instrument::TimePerOutputToken, rest / further as f64);
        }
        self.first_token.add(Instrument::TimeToFirstToken, seconds(first_byte_ms));
    }
}

impl Histogram {
    fn add(&mut self, instrument: Instrument, value: f64) {
        let bounds = instrument.bounds();
        // Once, with the first value.
        self.buckets.resize(bounds.len() + 1, 0);
        self.buckets[bounds.partition_point(|bound| *bound < value)] += 1;
        self.count += 1;
        self.sum += value;
    }

    /// Both together, of one instrument.
    fn with(mut self, other: &Self) -> Self {
        self.count += other.count;
        self.sum += other.sum;
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(bucket, more)| *bucket += more);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> UsageRecord {
        let golden = include_str!("../../../ez-contract/goldens/usage_record.json");
        let record: UsageRecord = serde_json::from_str(golden).unwrap();
        UsageRecord { stream: true, latency_ms: 1_100, first_byte_ms: Some(100), ..record }
    }

    fn of(metrics: &GenAiMetrics, instrument: Instrument) -> Vec<(Series, Histogram)> {
        let all = metrics.snapshot().into_iter();
        all.filter(|(series, _)| series.instrument == instrument).collect()
    }

    #[test]
    fn a_value_on_a_bound_is_in_the_bucket_below_it() {
        for instrument in Instrument::ALL {
            let (mut histogram, bounds) = (Histogram::default(), instrument.bounds());
            for value in [0.0, bounds[0], bounds[1], f64::MAX] {
                histogram.add(instrument, value);
            }
            assert_eq!(histogram.buckets.len(), bounds.len() + 1);
            assert_eq!((histogram.buckets[0], histogram.buckets[1], histogram.buckets.last()), (2, 1, Some(&1)));
            assert!(bounds.is_sorted_by(|one, other| one < other));
        }
    }

    #[test]
    fn only_what_an_upstream_said_and_did_is_counted() {
        let metrics = GenAiMetrics::default();
        metrics.note(&UsageRecord { attempts: 0, model: "made up".to_owned(), ..record() }, None);
        assert!(metrics.snapshot().is_empty());

        let estimated = UsageRecord { usage_source: UsageSource::Estimated, ..record() };
        metrics.note(&UsageRecord { status: 500, ..estimated }, Some(Operation::Chat));
        let durations = of(&metrics, Instrument::RequestDuration);
        assert_eq!(durations.len(), 1);
        assert_eq!(durations[0].0.of.as_ref().unwrap().error_type, Some(ErrorType::Status(500)));
        assert_eq!(metrics.snapshot().len(), 1, "no tokens, and no times of what failed");

        let mut exact = UsageRecord { usage_source: UsageSource::Exact, ..record() };
        (exact.tokens.input_tokens, exact.tokens.output_tokens) = (Some(7), Some(11));
        metrics.note(&exact, Some(Operation::Chat));
        let tokens: Vec<f64> = of(&metrics, Instrument::TokenUsage).iter().map(|(_, tokens)| tokens.sum).collect();
        assert_eq!(tokens, [7.0, 11.0]);
        assert_eq!(of(&metrics, Instrument::TimeToFirstToken)[0].1.sum, 0.1);
        assert_eq!(of(&metrics, Instrument::TimePerOutputToken)[0].1.sum, 0.1, "one second for ten further tokens");
    }

    #[test]
    fn series_are_bounded() {
        let metrics = GenAiMetrics::default();
        let calls = MAX_SERIES as u64 + 50;
        for number in 0..calls {
            metrics.note(&UsageRecord { model: format!("m{number}"), ..record() }, Some(Operation::Chat));
        }
        let all = metrics.snapshot();
        assert!(all.len() <= MAX_SERIES + Instrument::ALL.len(), "{}", all.len());
        let keys: Vec<&Series> = all.iter().map(|(series, _)| series).collect();
        assert!(keys.is_sorted_by(|one, other| one < other), "in order, each once");
        let durations = of(&metrics, Instrument::RequestDuration);
        let counted: u64 = durations.iter().map(|(_, histogram)| histogram.count).sum();
        assert_eq!(counted, calls, "nothing is lost, only told apart no more");
        assert_eq!(durations.iter().filter(|(series, _)| series.of.is_none()).count(), 1);
    }

    #[test]
    fn what_many_threads_count_is_all_there_and_each_kind_once() {
        let metrics = GenAiMetrics::default();
        std::thread::scope(|scope| {
            for thread in 0..4_u16 {
                let metrics = &metrics;
                scope.spawn(move || {
                    for call in 0..1_000_u16 {
                        let status = if (call + thread) % 5 == 0 { 503 } else { 200 };
                        let record = UsageRecord { model: format!("m{}", call % 7), status, ..record() };
                        metrics.note(&record, Some(Operation::Chat));
                    }
                });
            }
        });
        let durations = of(&metrics, Instrument::RequestDuration);
        assert_eq!(durations.len(), 14, "each model, well and failed");
        assert_eq!(durations.iter().map(|(_, histogram)| histogram.count).sum::<u64>(), 4_000);
        let tokens = of(&metrics, Instrument::TokenUsage);
        assert_eq!(tokens.len(), 14, "each model, in and out, whatever became of the calls");
        assert_eq!(tokens.iter().map(|(_, histogram)| histogram.count).sum::<u64>(), 8_000);
    }
}
