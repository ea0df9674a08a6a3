//! Mutations that keep JSON valid, and so get behind the first check of a reader. Bytes are changed blindly as well.

use std::sync::LazyLock;

use serde_json::{Value, json};

/// The words that the protocols are made of, one in quotes per line: libFuzzer reads the same file.
static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let lines = include_str!("../words.dict").lines();
    lines.filter_map(|line| line.strip_prefix('"')?.strip_suffix('"')).collect()
});

/// Changes the first `size` bytes of `data` into at most `max_size`; returns how many there are now.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice(u64::from(seed) << 1 | 1);
    if !dice.rolls(4) {
        let changed = if data[..size].first() == Some(&b'{') {
            changed_document(&data[..size], &mut dice)
        } else {
            changed_stream(&data[..size], &mut dice)
        };
        if let Some(changed) = changed.filter(|changed| changed.len() <= max_size) {
            data[..changed.len()].copy_from_slice(&changed);
            return changed.len();
        }
    }
    libfuzzer_sys::fuzzer_mutate(data, size, max_size)
}

fn changed_document(text: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let mut document: Value = serde_json::from_slice(text).ok()?;
    for _ in 0..=dice.below(3) {
        change(&mut document, dice);
    }
    serde_json::to_vec(&document).ok()
}

/// Changes what one event says, or takes it out, sends it twice or sooner.
fn changed_stream(text: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut events: Vec<String> = text.split_inclusive("\n\n").map(str::to_owned).collect();
    let at = dice.below(events.len());
    match dice.below(6) {
        0 => drop(events.remove(at)),
        1 => events.insert(at, events[at].clone()),
        2 => {
            let other = dice.below(events.len());
            events.swap(at, other);
        }
        _ => {
            let (before, data) = events[at].split_once("data:")?;
            let mut data: Value = serde_json::from_str(data).ok()?;
            change(&mut data, dice);
            events[at] = format!("{before}data: {data}\n\n");
        }
    }
    Some(events.concat().into_bytes())
}

/// Changes one value of a document.
fn change(document: &mut Value, dice: &mut Dice) {
    let all = count(document);
    let copied = node(document, dice.below(all)).clone();
    let target = node(document, dice.below(all));
    match dice.below(8) {
        0 => *target = copied,
        1 => *target = Value::Array(vec![target.take()]),
        2 => *target = leaf(dice),
        _ => change_inside(target, copied, dice),
    }
}

fn change_inside(target: &mut Value, copied: Value, dice: &mut Dice) {
    match target {
        Value::Array(elements) if elements.is_empty() || dice.rolls(2) => elements.push(copied),
        Value::Array(elements) => {
            let at = dice.below(elements.len());
            if dice.rolls(2) {
                elements.remove(at);
            } else {
                elements.insert(at, elements[at].clone());
            }
        }
        Value::Object(members) if members.is_empty() || dice.rolls(2) => {
            let value = if dice.rolls(2) { copied } else { leaf(dice) };
            members.insert(dice.word().to_owned(), value);
        }
        Value::Object(members) => {
            let key = members.keys().nth(dice.below(members.len())).cloned().unwrap_or_default();
            let value = members.remove(&key);
            if let Some(value) = value.filter(|_| dice.rolls(2)) {
                members.insert(dice.word().to_owned(), value);
            }
        }
        Value::String(text) if dice.rolls(3) => {
            text.push_str(["\u{e9}", "\"", "\\", "\u{1f600}", "\n", "\u{0}", "{", " ", "."][dice.below(9)]);
        }
        Value::String(text) if dice.rolls(3) => *text = copied.to_string(),
        target => *target = leaf(dice),
    }
}

fn leaf(dice: &mut Dice) -> Value {
    match dice.below(12) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(false),
        3 => json!(dice.below(4)),
        4 => json!(-1),
        5 => json!(u64::MAX),
        6 => json!(1.5e300),
        7 => json!(""),
        8 => json!([]),
        9 => json!({}),
        _ => json!(dice.word()),
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(elements) => elements.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

/// The value at a place of the document, counted from its beginning.
fn node(value: &mut Value, at: usize) -> &mut Value {
    let mut here = value;
    let mut left = at;
    while left > 0 {
        left -= 1;
        let children: Vec<&mut Value> = match here {
            Value::Array(elements) => elements.iter_mut().collect(),
            Value::Object(members) => members.values_mut().collect(),
            _ => unreachable!("a leaf has no places inside"),
        };
        let mut next = None;
        for child in children {
            let inside = count(child);
            if left < inside {
                next = Some(child);
                break;
            }
            left -= inside;
        }
        here = next.expect("the place is inside the document");
    }
    here
}

/// Xorshift: the same seed makes the same choices.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }

    /// Whether one of `sides` came up.
    fn rolls(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }

    fn word(&mut self) -> &'static str {
        WORDS[self.below(WORDS.len())]
    }
}
