//! Lists in few lengths, for statements that take one: each length is a statement of its own, which is prepared once and
//! kept by the connection. One of any length would take as long to prepare as to run, and hundreds of them much memory.

/// Longest piece: with 35 values to a row, 8,960 bound values, below SQLite's 32,766 and PostgreSQL's 65,535.
const LONGEST: usize = 256;

/// The items in pieces whose lengths are powers of two, in their order.
pub(crate) fn pieces<T>(items: &[T]) -> impl Iterator<Item = &[T]> {
    let mut left = items;
    std::iter::from_fn(move || {
        let length = std::cmp::min(1 << left.len().checked_ilog2()?, LONGEST);
        let (piece, after) = left.split_at(length);
        left = after;
        Some(piece)
    })
}

/// The items in a list whose length is a power of two: the last one again and again. For lists in which that says nothing.
pub(crate) fn padded<T: Copy>(items: &[T]) -> Vec<T> {
    let Some(last) = items.last() else { return Vec::new() };
    let padding = std::iter::repeat_n(*last, items.len().next_power_of_two() - items.len());
    items.iter().copied().chain(padding).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn lists_of_any_length_come_in_few_lengths() {
        let mut lengths = BTreeSet::new();
        for length in 0..2_000 {
            let items = Vec::from_iter(0..length);
            assert_eq!(pieces(&items).flatten().copied().collect::<Vec<_>>(), items);
            lengths.extend(pieces(&items).map(<[_]>::len));
        }
        assert_eq!(Vec::from_iter(lengths), [1, 2, 4, 8, 16, 32, 64, 128, 256]);
    }

    #[test]
    fn lists_are_padded_with_what_they_end_in() {
        for (items, expected) in [(&[][..], &[][..]), (&[1], &[1]), (&[1, 2, 3], &[1, 2, 3, 3]), (&[1; 5], &[1; 8])] {
            assert_eq!(padded(items), expected);
        }
    }
}
