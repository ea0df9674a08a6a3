//! Trace contexts (W3C): the client's is taken in, and the upstream's is that of the call's own span.

use ez_contract::{Operation, UsageRecord};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use rand::Rng;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The span of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(super) trace_id: u128,
    pub(super) span_id: u64,
    /// The client's span.
    pub(super) parent_id: Option<u64>,
    is_sampled: bool,
    /// Host and port of the last attempt's upstream.
    pub(super) server: Option<(String, u16)>,
}

/// A span that can be sent.
#[derive(Debug)]
pub(crate) struct EndedSpan {
    pub(super) trace: Trace,
    pub(super) operation: Option<Operation>,
    pub(super) record: UsageRecord,
}

impl Trace {
    /// A span below the client's, or at the root of a new trace, and its context in place of the client's.
    pub(super) fn begin(headers: &mut HeaderMap) -> Self {
        let mut random = rand::rng();
        let parent = headers.get(&TRACEPARENT).and_then(|value| parse(value.to_str().ok()?));
        let span_id = random.random_range(1..=u64::MAX);
        let (trace_id, parent_id, is_sampled) = match parent {
            Some((trace_id, parent_id, is_sampled)) => (trace_id, Some(parent_id), is_sampled),
            None => {
                // State belongs to a trace, and this is another.
                headers.remove(&TRACESTATE);
                (random.random_range(1..=u128::MAX), None, true)
            }
        };
        let trace = Self { trace_id, span_id, parent_id, is_sampled, server: None };
        if let Ok(value) = HeaderValue::from_str(&trace.context()) {
            headers.insert(TRACEPARENT, value);
        }
        trace
    }

    pub(super) fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// Notes whom the call went to.
    pub(crate) fn note_server(&mut self, host: &str, port: u16) {
        self.server = Some((host.to_owned(), port));
    }

    fn context(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.is_sampled))
    }
}

/// Trace, span and whether it is sampled. Of versions to come the first four parts are as they are now.
fn parse(text: &str) -> Option<(u128, u64, bool)> {
    let mut parts = text.trim().split('-');
    let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let has_form = is_hex(version, 2) && is_hex(trace_id, 32) && is_hex(span_id, 16) && is_hex(flags, 2);
    if !has_form || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let trace_id = u128::from_str_radix(trace_id, 16).ok().filter(|id| *id != 0)?;
    let span_id = u64::from_str_radix(span_id, 16).ok().filter(|id| *id != 0)?;
    Some((trace_id, span_id, u8::from_str_radix(flags, 16).ok()? & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn begin(parent: Option<&'static str>) -> (Trace, HeaderMap) {
        let mut headers = HeaderMap::new();
        headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        headers.extend(parent.map(|parent| (TRACEPARENT, HeaderValue::from_static(parent))));
        (Trace::begin(&mut headers), headers)
    }

    #[test]
    fn a_span_hangs_below_the_clients_and_the_upstream_hears_of_it() {
        let (trace, headers) = begin(Some(PARENT));
        assert_eq!(trace.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((trace.parent_id, trace.is_sampled), (Some(0xb7ad_6b71_6920_3331), true));
        let told = headers[&TRACEPARENT].to_str().unwrap();
        assert_eq!(parse(told), Some((trace.trace_id, trace.span_id, true)));
        assert!(headers.contains_key(&TRACESTATE));
        let (unsampled, _) = begin(Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"));
        assert!(!unsampled.is_sampled());
    }

    #[test]
    fn without_a_valid_context_a_new_trace_begins() {
        let invalid = [
            None,
            Some(""),
            Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"),
            Some("00-00000000000000000000000000000000-b7ad6b7169203331-01"),
            Some("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"),
            Some("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            Some("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"),
            Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"),
        ];
        for context in invalid {
            let (trace, headers) = begin(context);
            assert_eq!((trace.parent_id, trace.is_sampled()), (None, true), "{context:?}");
            assert!(!headers.contains_key(&TRACESTATE));
            assert!(parse(headers[&TRACEPARENT].to_str().unwrap()).is_some());
        }
    }
}
