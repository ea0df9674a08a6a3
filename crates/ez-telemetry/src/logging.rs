//! Process logs: structured, levelled, one line an event, to standard error.

use std::io::{self, IsTerminal, Write};

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
/// plane a request's `request_id`. The gateway opens none of these; its lines about a call name the id themselves.
pub fn init(filter: &str, format: LogFormat) -> Result<(), LoggingError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parse_filter(filter)?)
        .with_span_events(FmtSpan::NONE)
        // It would tell of a line that cannot be written where that line was to go, and panic when that fails too: a log
        // file on a full disk must not end the thread that has something to say about it.
        .log_internal_errors(false);
    let installed = match format {
        LogFormat::Console => builder.with_ansi(io::stderr().is_terminal()).with_writer(io::stderr).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_writer(|| NamesService(io::stderr())).try_init(),
    };
    installed.map_err(|_| LoggingError::AlreadySet)
}

/// Puts the service's name into each JSON line, for log stores that many services share. The formatter hands over one
/// whole line at a time.
struct NamesService<W>(W);

impl<W: Write> Write for NamesService<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match line.strip_prefix(b"{\"") {
            // One write, so that lines of several threads do not mix.
            Some(rest) => self.0.write_all(&[br#"{"service":"ez-api",""#, rest].concat())?,
            None => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_json_line_names_the_service() {
        let mut out = Vec::new();
        NamesService(&mut out).write_all(b"{\"level\":\"INFO\"}\n").unwrap();
        assert_eq!(out, b"{\"service\":\"ez-api\",\"level\":\"INFO\"}\n");
    }

    #[test]
    fn levels_and_target_pairs_are_accepted_and_typos_named() {
        for good in ["info", "off", "ez_gateway=debug,info"] {
            assert!(parse_filter(good).is_ok(), "{good}");
        }
        let refused = parse_filter("inof").unwrap_err().to_string();
        assert!(refused.contains("`inof` is not a log level"), "{refused}");
    }
}
