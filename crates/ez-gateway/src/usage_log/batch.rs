//! A batch of usage records on its way to the control plane: the records' own bytes, in the document that carries them.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

const HEAD: &[u8] = br#"{"records":["#;
const TAIL: &[u8] = b"]}";

/// Usage records as they stand in the log. Nothing of them is read or written anew on the way.
#[derive(Clone)]
pub struct UsageBatch {
    document: Bytes,
    places: Vec<Range<usize>>,
}

impl UsageBatch {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The JSON of each record.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        self.places.iter().map(|place| &self.document[place.clone()])
    }

    /// The whole batch as JSON: `{"records":[…]}`.
    pub fn document(&self) -> Bytes {
        self.document.clone()
    }
}

/// Shows no records: they may carry what people ask of a model.
impl fmt::Debug for UsageBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (records, bytes) = (self.places.len(), self.document.len());
        f.debug_struct("UsageBatch").field("records", &records).field("bytes", &bytes).finish()
    }
}

/// Gathers a batch.
pub(super) struct BatchBuilder {
    document: Vec<u8>,
    places: Vec<Range<usize>>,
}

impl BatchBuilder {
    pub(super) fn new() -> Self {
        Self { document: HEAD.to_vec(), places: Vec::new() }
    }

    /// Adds a record's JSON.
    pub(super) fn push(&mut self, record: &[u8]) {
        if !self.places.is_empty() {
            self.document.push(b',');
        }
        let start = self.document.len();
        self.document.extend_from_slice(record);
        self.places.push(start..self.document.len());
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes gathered.
    pub(super) fn bytes(&self) -> usize {
        self.document.len()
    }

    pub(super) fn finish(mut self) -> UsageBatch {
        self.document.extend_from_slice(TAIL);
        UsageBatch { document: self.document.into(), places: self.places }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_stand_in_the_document_as_they_came() {
        for count in 0..3 {
            let records = [r#"{"a": 1}"#, r#"{"b":"ü"}"#];
            let mut builder = BatchBuilder::new();
            records[..count].iter().for_each(|record| builder.push(record.as_bytes()));
            let batch = builder.finish();
            let kept: Vec<&[u8]> = batch.records().collect();
            assert_eq!(kept, records[..count].iter().map(|record| record.as_bytes()).collect::<Vec<_>>());
            let document = format!(r#"{{"records":[{}]}}"#, records[..count].join(","));
            assert_eq!(batch.document(), document);
            assert_eq!((batch.len(), batch.is_empty()), (count, count == 0));
            let shown = format!("{batch:?}");
            assert!(shown.contains(&format!("records: {count}")) && !shown.contains('ü'), "{shown}");
        }
    }
}
