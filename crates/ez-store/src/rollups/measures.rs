//! Measures: what of a record is added up. Said once, as SQL that both databases read alike, so that a record counts the same
//! in roll-ups and where it is read itself.

/// Records count up to so many tokens, and milliseconds: more is nonsense, and must not make a sum overflow.
pub(crate) const MAX_COUNT: u64 = 10_000_000_000;

/// How many there are.
pub(crate) const COUNT: usize = 17;

/// The columns of the roll-ups that add up.
pub(crate) const NAMES: [&str; COUNT] = [
    "requests",
    "failures",
    "limited",
    "streams",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_dollars",
    "cost_nanos",
    "cost_attos",
    "cost_rest",
    "unpriced",
    "latency_ms",
    "first_bytes",
    "first_byte_ms",
];

/// The model that a record counts for: none where the call was refused because no such model exists, so that whoever makes
/// names up makes no roll-ups of them; and no longer than an index takes.
pub(crate) const MODEL: &str = "CASE WHEN logs.namespace = '' OR (logs.attempts = 0 AND logs.status = 404) THEN '' \
    ELSE substr(logs.model, 1, 256) END";

/// What records add up to, in the order of [`NAMES`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums(pub(crate) [i64; COUNT]);

impl Sums {
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, added) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(added);
        }
    }
}

/// What a record adds to the measure of this name, as SQL.
pub(crate) fn of_record(name: &str) -> String {
    let expression = match name {
        "requests" => "1".to_owned(),
        "failures" => yes("logs.status >= 400 OR logs.ended_by <> 'complete'"),
        "limited" => yes("logs.ended_by = 'limit'"),
        "streams" => yes("logs.stream"),
        // Whole dollars by themselves, so that no sum of billionths overflows either.
        "cost_dollars" => "COALESCE(logs.cost_nanos / 1000000000, 0)".to_owned(),
        "cost_nanos" => "COALESCE(logs.cost_nanos % 1000000000, 0)".to_owned(),
        "cost_attos" | "cost_rest" => format!("COALESCE(logs.{name}, 0)"),
        "unpriced" => yes("logs.cost_nanos IS NULL"),
        "first_bytes" => yes("logs.first_byte_ms IS NOT NULL"),
        count => format!("CASE WHEN logs.{count} > {MAX_COUNT} THEN {MAX_COUNT} ELSE COALESCE(logs.{count}, 0) END"),
    };
    format!("CAST({expression} AS bigint)")
}

fn yes(condition: &str) -> String {
    format!("CASE WHEN {condition} THEN 1 ELSE 0 END")
}
