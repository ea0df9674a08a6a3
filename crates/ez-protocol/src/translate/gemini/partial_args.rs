//! Arguments that Vertex streams in pieces: each tells a place (JSON Path, RFC 9535) and a value, or more of one.
//! They are put together into the object that they describe.

use std::collections::HashMap;

use crate::json::{Escaped, Value, Writer};

/// How deeply places may lie.
const MAX_DEPTH: usize = 64;

/// The arguments so far.
#[derive(Debug, Default)]
pub(super) struct PartialArgs {
    top: Object,
}

#[derive(Debug, Default)]
struct Object {
    members: Vec<(String, Node)>,
    places: HashMap<String, usize>,
}

#[derive(Debug, Default)]
enum Node {
    /// Nothing is told of it yet.
    #[default]
    Open,
    Text(Escaped<'static>),
    /// A number, a truth, `null`.
    Plain(String),
    Object(Object),
    Array(Vec<Node>),
}

/// A step of a path.
enum Step<'p> {
    Key(&'p str),
    Index(usize),
}

impl PartialArgs {
    /// Takes over whole arguments, which some chunks tell besides.
    pub(super) fn set(&mut self, args: Value<'_>) {
        for (name, value) in args.members().unwrap_or_default() {
            *self.top.at(&name.text()) = Node::Plain(value.as_str().to_owned());
        }
    }

    /// Adds a piece; one whose place makes no sense is passed over.
    pub(super) fn add(&mut self, piece: Value<'_>) {
        let Some(path) = piece.get("jsonPath").and_then(Value::string) else { return };
        let path = path.text();
        let Some(steps) = steps(&path) else { return };
        let Some(node) = self.node(&steps) else { return };
        for (name, value) in piece.members().unwrap_or_default() {
            match name.as_str() {
                "stringValue" => node.say(value),
                "numberValue" | "boolValue" => *node = Node::Plain(value.as_str().to_owned()),
                "nullValue" => *node = Node::Plain("null".to_owned()),
                _ => {}
            }
        }
    }

    /// The object as a JSON text.
    pub(super) fn json(&self) -> String {
        let mut json = Writer::default();
        self.top.write(&mut json);
        json.finish()
    }

    fn node(&mut self, steps: &[Step<'_>]) -> Option<&mut Node> {
        let (first, rest) = steps.split_first()?;
        let Step::Key(key) = first else { return None };
        rest.iter().try_fold(self.top.at(key), |node, step| node.below(step))
    }
}

impl Object {
    fn at(&mut self, key: &str) -> &mut Node {
        let at = *self.places.entry(key.to_owned()).or_insert_with(|| {
            self.members.push((key.to_owned(), Node::Open));
            self.members.len() - 1
        });
        &mut self.members[at].1
    }

    fn write(&self, json: &mut Writer) {
        json.object(|json| {
            for (name, node) in &self.members {
                node.write(json.escaped_key(&Escaped::of(name)));
            }
        });
    }
}

impl Node {
    /// More of a text.
    fn say(&mut self, value: Value<'_>) {
        let Some(more) = value.string() else { return };
        match self {
            Self::Text(text) => text.push(&more),
            _ => *self = Self::Text(more.into_owned()),
        }
    }

    /// What a step leads to, made where it is not there. Elements come one after the other.
    fn below(&mut self, step: &Step<'_>) -> Option<&mut Self> {
        if matches!(self, Self::Open) {
            *self = match step {
                Step::Key(_) => Self::Object(Object::default()),
                Step::Index(_) => Self::Array(Vec::new()),
            };
        }
        match (self, step) {
            (Self::Object(object), Step::Key(key)) => Some(object.at(key)),
            (Self::Array(elements), Step::Index(at)) => {
                if *at == elements.len() {
                    elements.push(Self::Open);
                }
                elements.get_mut(*at)
            }
            _ => None,
        }
    }

    fn write(&self, json: &mut Writer) {
        match self {
            Self::Open => json.null(),
            Self::Text(text) => json.escaped(text),
            Self::Plain(value) => json.raw(value),
            Self::Object(object) => object.write(json),
            Self::Array(elements) => json.array(|json| elements.iter().for_each(|element| element.write(json))),
        }
    }
}

/// The steps of a path such as `$.a[0]['b c']`.
fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if steps.len() == MAX_DEPTH {
            return None;
        }
        let (step, behind) = if let Some(name) = rest.strip_prefix('.') {
            let end = name.find(['.', '[']).unwrap_or(name.len());
            (Step::Key(&name[..end]), &name[end..])
        } else {
            let inside = rest.strip_prefix('[')?;
            match inside.chars().next()? {
                quote @ ('\'' | '"') => {
                    let (name, behind) = inside[1..].split_once(quote)?;
                    (Step::Key(name), behind.strip_prefix(']')?)
                }
                _ => {
                    let (index, behind) = inside.split_once(']')?;
                    (Step::Index(index.parse().ok()?), behind)
                }
            }
        };
        steps.push(step);
        rest = behind;
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&str], expected: &str) {
        let mut args = PartialArgs::default();
        pieces.iter().for_each(|piece| args.add(Value::parse_object(piece).unwrap()));
        assert_eq!(args.json(), expected, "{pieces:?}");
    }

    #[test]
    fn pieces_make_an_object() {
        check(&[], "{}");
        check(
            &[
                r#"{"jsonPath":"$.location","stringValue":"New ","willContinue":true}"#,
                r#"{"jsonPath":"$.location","stringValue":"\u00e9\ud83d","willContinue":true}"#,
                r#"{"jsonPath":"$.location","stringValue":"\ude00"}"#,
                r#"{"jsonPath":"$.days","numberValue":2.50}"#,
                r#"{"jsonPath":"$['a b'].c[0].d","boolValue":true}"#,
                r#"{"jsonPath":"$['a b'].c[1]","nullValue":"NULL_VALUE"}"#,
            ],
            r#"{"location":"New \u00e9\ud83d\ude00","days":2.50,"a b":{"c":[{"d":true},null]}}"#,
        );
    }

    #[test]
    fn senseless_places_are_passed_over() {
        let deep = format!(r#"{{"jsonPath":"${}","boolValue":true}}"#, ".a".repeat(65));
        check(
            &[
                r#"{"jsonPath":"$.a","stringValue":"x"}"#,
                r#"{"jsonPath":"$.a.b","stringValue":"y"}"#,
                r#"{"jsonPath":"$.l[7]","stringValue":"y"}"#,
                r#"{"jsonPath":"$[0]","stringValue":"y"}"#,
                r#"{"jsonPath":"$","stringValue":"y"}"#,
                r#"{"jsonPath":"$.l[","stringValue":"y"}"#,
                r#"{"jsonPath":"$['é","stringValue":"y"}"#,
                r#"{"jsonPath":5,"stringValue":"y"}"#,
                r#"{"stringValue":"y"}"#,
                &deep,
            ],
            r#"{"a":"x","l":[]}"#,
        );
    }
}
