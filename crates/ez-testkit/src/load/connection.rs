//! One connection of a run: sends a request, measures its answer, sends the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Run, Tally};
use crate::upstream::{STAMP_END, STAMP_START, since_epoch};

/// After so many failed connections in a row the worker gives up: the server is gone.
const CONNECT_FAILURES_MAX: u32 = 20;
/// Pause after a failed connection.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// Digits of a stamp at most; nanoseconds since the epoch have 19.
const STAMP_DIGITS_MAX: usize = 20;
/// Enough for every terminal event worth waiting for.
const TAIL_BYTES: usize = 256;

/// A connection and what it has seen.
pub(super) struct Worker {
    run: Arc<Run>,
    tally: Tally,
    link: Option<Link>,
}

/// An open connection with the task that moves its bytes.
struct Link {
    sender: SendRequest<Full<Bytes>>,
    /// One task, aborted when dropped.
    _driver: JoinSet<()>,
}

/// Finds stamps in a stream, however it is cut, and keeps its last bytes.
#[derive(Default)]
struct StampFinder {
    /// The start of a stamp whose end hasn't come.
    pending: Vec<u8>,
}

impl Worker {
    pub(super) fn new(run: Arc<Run>) -> Self {
        Self { run, tally: Tally::default(), link: None }
    }

    pub(super) async fn work(mut self) -> Tally {
        if self.run.options.rate.is_some() {
            // So that no request that is due waits for its connection; a failure is met again there.
            let _ = self.ensure_link().await;
        }
        let mut failures = 0;
        while failures < CONNECT_FAILURES_MAX {
            let Some(due) = self.run.next_start().await else { break };
            if let Err(error) = self.ensure_link().await {
                failures += 1;
                self.fail(&error);
                tokio::time::sleep(RECONNECT_PAUSE).await;
                continue;
            }
            failures = 0;
            let timeout = self.run.options.request_timeout;
            let outcome = match tokio::time::timeout(timeout, self.exchange(due)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(anyhow::anyhow!("no whole answer within {timeout:?}")),
            };
            match outcome {
                Ok(()) => self.tally.requests += 1,
                Err(error) => {
                    self.link = None;
                    self.fail(&error);
                }
            }
        }
        self.tally
    }

    async fn ensure_link(&mut self) -> anyhow::Result<()> {
        if let Some(link) = &mut self.link
            && link.sender.ready().await.is_ok()
        {
            return Ok(());
        }
        self.link = None;
        let connecting = TcpStream::connect(self.run.address);
        let stream = tokio::time::timeout(self.run.options.request_timeout, connecting).await??;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Errors of the connection reach the request that is on it.
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let _ = connection.await;
        });
        self.link = Some(Link { sender, _driver: driver });
        Ok(())
    }

    /// Sends a request that is due since `due`, and reads its whole answer.
    async fn exchange(&mut self, due: Instant) -> anyhow::Result<()> {
        let (run, tally) = (&self.run, &mut self.tally);
        let link = self.link.as_mut().context("there is no connection")?;
        let target = &run.target;
        let mut request = Request::new(Full::new(target.body.clone().unwrap_or_default()));
        *request.method_mut() = if target.body.is_some() { Method::POST } else { Method::GET };
        *request.uri_mut() = target.path.clone();
        *request.headers_mut() = target.headers.clone();

        let sent_at = if run.options.rate.is_some() { due } else { Instant::now() };
        let response = link.sender.send_request(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        let mut first_byte = None;
        let mut stamps = StampFinder::default();
        let mut tail = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            tally.bytes += data.len() as u64;
            if run.options.stream {
                first_byte.get_or_insert_with(|| sent_at.elapsed());
                let received_at = since_epoch();
                stamps.find(&data, |stamp| {
                    tally.chunks += 1;
                    tally.chunk_delay.push(received_at.saturating_sub(stamp));
                });
            }
            if run.options.expected_tail.is_some() {
                tail.extend_from_slice(&data[data.len().saturating_sub(TAIL_BYTES)..]);
                tail.drain(..tail.len().saturating_sub(TAIL_BYTES));
            }
        }
        let latency = sent_at.elapsed();

        *tally.statuses.entry(status.as_u16()).or_default() += 1;
        if !status.is_success() {
            // An answer like any other to the connection, which goes on.
            tally.errors += 1;
            return Ok(());
        }
        if let Some(expected) = &run.options.expected_tail
            && !tail.trim_ascii_end().ends_with(expected.trim_ascii_end().as_bytes())
        {
            bail!("the answer ended with {:?}", String::from_utf8_lossy(&tail));
        }
        tally.latency.push(latency);
        if let Some(first_byte) = first_byte {
            tally.first_byte.push(first_byte);
        }
        Ok(())
    }

    fn fail(&mut self, error: &anyhow::Error) {
        self.tally.requests += 1;
        self.tally.errors += 1;
        self.tally.first_error.get_or_insert_with(|| format!("{error:#}"));
    }
}

impl StampFinder {
    /// Calls `found` with the time since the epoch of each stamp that ends in `data`.
    fn find(&mut self, data: &[u8], mut found: impl FnMut(Duration)) {
        let joined;
        let mut rest = if self.pending.is_empty() {
            data
        } else {
            joined = [&self.pending, data].concat();
            &joined[..]
        };
        let start = STAMP_START.as_bytes();
        let kept = loop {
            let Some(position) = position_of(rest, start) else {
                // A marker may be cut through.
                break &rest[rest.len().saturating_sub(start.len() - 1)..];
            };
            let after = &rest[position + start.len()..];
            let digits = after.iter().take(STAMP_DIGITS_MAX).take_while(|byte| byte.is_ascii_digit()).count();
            if digits == after.len() {
                break &rest[position..];
            }
            let number = std::str::from_utf8(&after[..digits]).ok().and_then(|digits| digits.parse().ok());
            if let Some(nanos) = number
                && after[digits..].starts_with(STAMP_END.as_bytes())
            {
                found(Duration::from_nanos(nanos));
            }
            rest = &after[digits..];
        };
        self.pending = kept.to_vec();
    }
}

fn position_of(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut offset = 0;
    while let Some(found) = haystack[offset..].iter().position(|byte| *byte == first) {
        if haystack[offset + found..].starts_with(needle) {
            return Some(offset + found);
        }
        offset += found + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&str], expected: &[u64]) {
        let mut finder = StampFinder::default();
        let mut found = Vec::new();
        for piece in pieces {
            finder.find(piece.as_bytes(), |stamp| found.push(stamp.as_nanos() as u64));
        }
        assert_eq!(found, expected, "{pieces:?}");
    }

    #[test]
    fn stamps_are_found_at_every_cut() {
        let text = "data: {\"content\":\"ts=1234567890;tok \"} tts=99;x ts=;  ts=1a ts=7;";
        check(&[text], &[1_234_567_890, 99, 7]);
        for cut in 0..=text.len() {
            check(&[&text[..cut], &text[cut..]], &[1_234_567_890, 99, 7]);
        }
        let bytes: Vec<String> = text.chars().map(String::from).collect();
        check(&bytes.iter().map(String::as_str).collect::<Vec<_>>(), &[1_234_567_890, 99, 7]);
    }
}
