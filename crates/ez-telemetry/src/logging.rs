//! Process logs: structured, levelled, one line an event, to standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people, with colours on a terminal.
    Console,
    /// One JSON object a line.
    Json,
}

/// A level or format that does not exist.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter text has a fault.
    #[error("`{filter}` is not a log level: use error, warn, info, debug, trace, or target=level pairs ({reason})")]
    InvalidFilter {
        /// What was given.
        filter: String,
        /// Why it was refused.
        reason: String,
    },
    /// Logging was set up before.
    #[error("logging is already set up")]
    AlreadySet,
}

/// Checks a level or filter (`info`, `ez_gateway=debug,info`) without installing it.
pub fn parse_filter(filter: &str) -> Result<EnvFilter, LoggingError> {
    let invalid = |reason: String| LoggingError::InvalidFilter { filter: filter.to_owned(), reason };
    // A bare word that is no level would be taken as a target's name and silence everything else.
    let is_bare_word = !filter.contains(['=', ',']);
    if is_bare_word && filter.parse::<tracing::Level>().is_err() && filter != "off" {
        return Err(invalid("unknown level".to_owned()));
    }
    EnvFilter::try_new(filter).map_err(|e| invalid(e.to_string()))
}

/// Installs the process-wide log writer. Every line carries the fields of the spans around it: inside the control
/// plane a request's `request_id`. The gateway opens no spans; its lines about a call name the id themselves.
pub fn init(filter: &str, format: LogFormat) -> Result<(), LoggingError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parse_filter(filter)?)
        .with_span_events(FmtSpan::NONE)
        .with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Console => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|_| LoggingError::AlreadySet)
}

#[cfg(test)]
mod tests {
    use super::parse_filter;

    #[test]
    fn levels_and_target_pairs_are_accepted_and_typos_named() {
        for good in ["info", "off", "ez_gateway=debug,info"] {
            assert!(parse_filter(good).is_ok(), "{good}");
        }
        let refused = parse_filter("inof").unwrap_err().to_string();
        assert!(refused.contains("`inof` is not a log level"), "{refused}");
    }
}
