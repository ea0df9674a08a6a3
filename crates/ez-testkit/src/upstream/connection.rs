//! The upstream's side of one TCP connection, with the faults that only the socket can play.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Bytes of `HTTP/1.1 200 OK\r\n`, what a slow vendor sends at once.
const STATUS_LINE_BYTES: usize = 17;

/// What a request handler asks of the connection it came on.
#[derive(Default)]
pub(super) struct SocketFault {
    reset_on_close: AtomicBool,
    slow_headers: Mutex<Option<Duration>>,
    slow_headers_set: AtomicBool,
}

/// A TCP connection that obeys its [`SocketFault`].
pub(super) struct SimConnection {
    stream: TcpStream,
    fault: Arc<SocketFault>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl SocketFault {
    /// Makes the end of the connection a TCP RST.
    pub(super) fn reset_on_close(&self) {
        self.reset_on_close.store(true, Ordering::Release);
    }

    /// Makes the next write stop after the status line for `delay`.
    pub(super) fn slow_headers(&self, delay: Duration) {
        *self.slow_headers.lock().unwrap() = Some(delay);
        self.slow_headers_set.store(true, Ordering::Release);
    }

    fn take_slow_headers(&self) -> Option<Duration> {
        if !self.slow_headers_set.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.slow_headers.lock().unwrap().take()
    }
}

impl SimConnection {
    pub(super) fn new(stream: TcpStream, fault: Arc<SocketFault>) -> Self {
        Self { stream, fault, pause: None }
    }
}

impl Drop for SimConnection {
    fn drop(&mut self) {
        if self.fault.reset_on_close.load(Ordering::Acquire) {
            // A socket that is gone already needs no reset.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for SimConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for SimConnection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        if let Some(delay) = self.fault.take_slow_headers() {
            let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| &slice[..]);
            let start = &first[..first.len().min(STATUS_LINE_BYTES)];
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, start));
            self.pause = Some(Box::pin(tokio::time::sleep(delay)));
            return Poll::Ready(written);
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
