//! The events of a Responses stream: each with its name, and numbered from 0.

use crate::json::{Escaped, Writer};

/// Numbers events and frames them.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// How many were written.
    pub(super) written: u64,
    /// Of the event under way; kept for its room.
    json: Writer,
}

impl Events {
    /// Writes an event with further members.
    pub(super) fn write(&mut self, out: &mut String, kind: &str, fill: impl FnOnce(&mut Writer)) {
        self.json.clear();
        let number = self.written;
        self.json.object(|json| {
            json.key("type").string(kind);
            json.key("sequence_number").count(number);
            fill(json);
        });
        self.written += 1;
        for piece in ["event: ", kind, "\ndata: ", self.json.as_str(), "\n\n"] {
            out.push_str(piece);
        }
    }

    /// An event about an item that it holds.
    pub(super) fn item(&mut self, out: &mut String, kind: &str, index: usize, item: &str) {
        self.write(out, kind, |json| {
            json.key("output_index").count(index as u64);
            json.key("item").raw(item);
        });
    }

    /// An event about a piece of an item. `place` is the piece's key and its number among its kind.
    pub(super) fn piece(
        &mut self,
        out: &mut String,
        kind: &str,
        item: (&Escaped<'_>, usize),
        place: Option<(&str, usize)>,
        fill: impl FnOnce(&mut Writer),
    ) {
        self.write(out, kind, |json| {
            json.key("item_id").escaped(item.0);
            json.key("output_index").count(item.1 as u64);
            if let Some((key, number)) = place {
                json.key(key).count(number as u64);
            }
            fill(json);
        });
    }
}
