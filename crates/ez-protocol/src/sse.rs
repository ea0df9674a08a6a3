//! Server-sent events: cuts a byte stream into events without copying or changing them.

use bytes::{Buf, Bytes, BytesMut};

/// Cuts a stream into events. Each event is returned with the exact bytes that arrived, its blank line included, so
/// that what passes through stays byte for byte the same. Handles LF, CRLF and CR, also cut between two chunks.
#[derive(Debug, Default)]
pub struct EventFramer {
    buffer: BytesMut,
    /// Where the line under way starts.
    line_start: usize,
    /// Everything before this was searched for the line's end, so that a long line is not searched again and again.
    searched: usize,
    max_event_bytes: usize,
}

/// An event larger than the framer's bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is larger than {max_event_bytes} bytes")]
pub struct EventTooLarge {
    /// The bound.
    pub max_event_bytes: usize,
}

impl EventFramer {
    /// A framer that refuses events larger than `max_event_bytes`.
    pub fn new(max_event_bytes: usize) -> Self {
        Self { buffer: BytesMut::new(), line_start: 0, searched: 0, max_event_bytes }
    }

    /// Takes in the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole event, if one has arrived.
    pub fn next_event(&mut self) -> Result<Option<Bytes>, EventTooLarge> {
        if let Some(end) = self.find_end() {
            (self.line_start, self.searched) = (0, 0);
            return Ok(Some(self.buffer.split_to(end).freeze()));
        }
        if self.buffer.len() > self.max_event_bytes {
            return Err(EventTooLarge { max_event_bytes: self.max_event_bytes });
        }
        Ok(None)
    }

    /// What is left when the stream has ended: an event without its blank line, which some servers leave out.
    pub fn finish(&mut self) -> Option<Bytes> {
        (self.line_start, self.searched) = (0, 0);
        let rest = self.buffer.split().freeze();
        rest.has_remaining().then_some(rest)
    }

    /// Where the first event ends, its blank line included. A CR at the very end of the buffer is not decided on,
    /// because an LF may follow in the next chunk.
    fn find_end(&mut self) -> Option<usize> {
        let text = &self.buffer[..];
        while let Some(found) = memchr::memchr2(b'\n', b'\r', &text[self.searched..]) {
            let stop = self.searched + found;
            let after = match (text[stop], text.get(stop + 1)) {
                (b'\r', None) => {
                    self.searched = stop;
                    return None;
                }
                (b'\r', Some(b'\n')) => stop + 2,
                _ => stop + 1,
            };
            // An empty line ends an event; empty lines before the first field belong to it and pass with it.
            if stop == self.line_start && self.line_start > 0 {
                return Some(after);
            }
            (self.line_start, self.searched) = (after, after);
        }
        self.searched = text.len();
        None
    }
}

/// The `data` of an event: its data lines joined by LF, without the field name and one leading space. `None` for
/// comments and events without data.
pub fn data(event: &[u8]) -> Option<Data<'_>> {
    // Nearly every event is one data line and a blank one.
    if let Some(line_end) = memchr::memchr2(b'\n', b'\r', event)
        && event[line_end..].iter().all(|byte| matches!(byte, b'\n' | b'\r'))
    {
        let line = &event[..line_end];
        return field(line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line), b"data").map(Data::One);
    }
    let mut found: Option<Data<'_>> = None;
    for line in lines(event) {
        let Some(value) = field(line, b"data") else { continue };
        found = Some(match found {
            None => Data::One(value),
            Some(Data::One(first)) => Data::Joined([first, b"\n", value].concat()),
            Some(Data::Joined(mut joined)) => {
                joined.push(b'\n');
                joined.extend_from_slice(value);
                Data::Joined(joined)
            }
        });
    }
    found
}

/// The `event` field of an event, where it has one.
pub fn event_name(event: &[u8]) -> Option<&[u8]> {
    lines(event).filter_map(|line| field(line, b"event")).last()
}

/// The data of an event; borrowed unless it came in several lines.
#[derive(Debug, PartialEq, Eq)]
pub enum Data<'e> {
    /// One data line, as it stands in the event.
    One(&'e [u8]),
    /// Several data lines, joined by LF.
    Joined(Vec<u8>),
}

impl AsRef<[u8]> for Data<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::One(value) => value,
            Self::Joined(value) => value,
        }
    }
}

fn lines(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    let event = event.strip_prefix(b"\xef\xbb\xbf").unwrap_or(event);
    event.split(|byte| *byte == b'\n' || *byte == b'\r')
}

fn field<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let rest = line.strip_prefix(name)?.strip_prefix(b":")?;
    Some(rest.strip_prefix(b" ").unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<Bytes> {
        let mut framer = EventFramer::new(1 << 20);
        let mut events = Vec::new();
        for chunk in chunks {
            framer.push(chunk);
            while let Some(event) = framer.next_event().unwrap() {
                events.push(event);
            }
        }
        events.extend(framer.finish());
        events
    }

    #[test]
    fn a_stream_cut_at_every_byte_gives_the_same_events_and_bytes() {
        let streams: [&[u8]; 5] = [
            b"data: {\"a\":1}\n\ndata: [DONE]\n\n",
            b"event: x\r\ndata: 1\r\n\r\n: keep-alive\r\n\r\ndata:2\r\n\r\n",
            b"data: 1\rdata: 2\r\rdata: 3\r\r",
            b"\xef\xbb\xbfdata: \xc3\xa9\n\ndata: last",
            b"\n\ndata: 1\n\n\n\ndata: 2\n\n",
        ];
        for stream in streams {
            let whole = cut(&[stream]);
            assert_eq!(whole.concat(), stream);
            for at in 0..=stream.len() {
                let halves = cut(&[&stream[..at], &stream[at..]]);
                assert_eq!(halves.concat(), stream, "cut at {at}");
                let payloads = |events: &[Bytes]| {
                    events.iter().filter_map(|e| Some(data(e)?.as_ref().to_vec())).collect::<Vec<_>>()
                };
                assert_eq!(payloads(&halves), payloads(&whole), "cut at {at}");
            }
        }
    }

    #[test]
    fn data_lines_are_joined_and_one_space_is_dropped() {
        assert_eq!(data(b"data: 1\n\n"), Some(Data::One(b"1")));
        assert_eq!(data(b"data:  1\n\n").unwrap().as_ref(), b" 1");
        assert_eq!(data(b"event: e\ndata: 1\ndata: 2\ndata: 3\n\n").unwrap().as_ref(), b"1\n2\n3");
        assert_eq!(data(b": comment\n\n"), None);
        assert_eq!(data(b"\xef\xbb\xbfdata: 1\n\n").unwrap().as_ref(), b"1");
        assert_eq!(event_name(b"event: error\ndata: 1\n\n"), Some(&b"error"[..]));
    }

    #[test]
    fn a_long_event_in_small_pieces_is_searched_once() {
        let mut framer = EventFramer::new(64 << 20);
        // Searched from its start for every piece, this would take minutes.
        for _ in 0..(16 << 20) / 1_024 {
            framer.push(&[b'a'; 1_024]);
            assert_eq!(framer.next_event(), Ok(None));
        }
        framer.push(b"\n\n");
        assert_eq!(framer.next_event().unwrap().map(|event| event.len()), Some((16 << 20) + 2));
    }

    #[test]
    fn an_event_beyond_the_bound_is_refused() {
        let mut framer = EventFramer::new(8);
        framer.push(b"data: 123456789");
        assert_eq!(framer.next_event(), Err(EventTooLarge { max_event_bytes: 8 }));
    }
}
