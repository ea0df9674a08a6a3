//! What a translation leaves out: the names for `x-ez-dropped-params`.

/// The parameters that could not be passed on, by the client's names for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    dropped: Vec<String>,
}

/// More names than this say no more, and headers are bounded.
const MAX_NAMES: usize = 32;
/// Longer names are nobody's parameters.
const MAX_NAME_BYTES: usize = 80;

impl Report {
    /// Notes a parameter that is left out. Places in lists are not told apart (`messages.name`). A name that cannot stand in
    /// a header is told as `?` in place of what cannot.
    pub fn dropped(&mut self, name: &str) {
        if self.dropped.len() == MAX_NAMES {
            return;
        }
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-$".contains(c) { c } else { '?' };
        let name: String = name.chars().take(MAX_NAME_BYTES).map(plain).collect();
        if !self.dropped.contains(&name) {
            self.dropped.push(name);
        }
    }

    /// The names, in the order they were met.
    pub fn names(&self) -> &[String] {
        &self.dropped
    }
}
