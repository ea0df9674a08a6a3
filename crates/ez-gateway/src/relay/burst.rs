//! Bursts: what has arrived together goes out together.

use bytes::{Bytes, BytesMut};

/// Pieces on their way out together; a single one is not copied.
#[derive(Default)]
pub(super) struct Burst {
    first: Bytes,
    rest: BytesMut,
}

impl Burst {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.first.len().max(self.rest.len())
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        if self.first.is_empty() {
            self.first = piece;
            return;
        }
        if self.rest.is_empty() {
            self.rest.extend_from_slice(&self.first);
        }
        self.rest.extend_from_slice(&piece);
    }

    pub(super) fn take(&mut self) -> Bytes {
        if self.rest.is_empty() {
            return std::mem::take(&mut self.first);
        }
        self.first.clear();
        self.rest.split().freeze()
    }
}
