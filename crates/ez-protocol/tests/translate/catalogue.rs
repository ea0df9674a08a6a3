//! What a model of the catalogue may say is what translation understands, and nothing else.

use std::collections::BTreeSet;

use ez_contract::Protocol;
use ez_contract::capability::{CapabilityOverrides, FIELDS, Field, Shape};
use ez_protocol::translate::capability::{Capabilities, ReasoningStyle};
use serde_json::{Map, Value as Json, json};

/// What serde says that it would have taken in place of what it refused.
fn expected(refused: serde_json::Error) -> BTreeSet<String> {
    let text = refused.to_string();
    let (_, list) = text.split_once("expected ").unwrap_or_else(|| panic!("{text}"));
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn texts<'a>(words: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    words.into_iter().map(str::to_owned).collect()
}

/// A value that a field may hold, for each word that it knows.
fn samples(field: &Field) -> Vec<Json> {
    match field.shape {
        Shape::Flag => vec![json!(true), json!(false)],
        Shape::Word(allowed) => allowed.iter().map(|word| json!(word)).collect(),
        Shape::Words { allowed, .. } => vec![json!(allowed)],
        Shape::Tokens { min, max } => vec![json!(min), json!(max)],
        Shape::Styled(styles) => styles
            .iter()
            .flat_map(|style| {
                let whole = style.fields.iter().map(|field| (field.name.to_owned(), samples(field).remove(0)));
                let least = whole
                    .clone()
                    .filter(|(name, _)| style.fields.iter().any(|field| field.is_required && field.name == name));
                let styled = |fields: Map<String, Json>| {
                    let mut object = fields;
                    object.insert("style".to_owned(), json!(style.name));
                    Json::Object(object)
                };
                [styled(whole.collect()), styled(least.collect())]
            })
            .collect(),
    }
}

/// The words that a field knows here are those that the catalogue may say.
#[track_caller]
fn check_words(field: &Field, read: impl Fn(Json) -> Result<(), serde_json::Error>) {
    let (allowed, wrong) = match field.shape {
        Shape::Word(allowed) => (allowed, json!("?")),
        Shape::Words { allowed, .. } => (allowed, json!(["?"])),
        _ => return,
    };
    assert_eq!(expected(read(wrong).unwrap_err()), texts(allowed.iter().copied()), "{}", field.name);
}

#[test]
fn the_catalogue_can_say_what_is_understood_here_and_nothing_else() {
    let read = |name: &str, value: Json| serde_json::from_value::<Capabilities>(json!({name: value})).map(drop);
    let names = expected(read("?", Json::Null).unwrap_err());
    assert_eq!(names, texts(FIELDS.iter().map(|field| field.name)));
    for field in FIELDS {
        check_words(field, |value| read(field.name, value));
        for sample in samples(field) {
            let said: CapabilityOverrides = serde_json::from_value(json!({field.name: sample})).unwrap();
            let own = Capabilities::overridden(Protocol::OpenaiChat, "gpt-6", &said);
            assert!(own.is_ok(), "{} {sample}: {own:?}", field.name);
        }
    }
    let Some(Shape::Styled(styles)) = FIELDS.iter().find(|field| field.name == "reasoning").map(|field| field.shape)
    else {
        panic!("reasoning has styles");
    };
    let read = |reasoning: Json| serde_json::from_value::<ReasoningStyle>(reasoning).map(drop);
    let known = expected(read(json!({"style": "?"})).unwrap_err());
    assert_eq!(known, texts(styles.iter().map(|style| style.name)));
    for style in styles.iter().filter(|style| !style.fields.is_empty()) {
        let unknown = expected(read(json!({"style": style.name, "?": 1})).unwrap_err());
        assert_eq!(unknown, texts(style.fields.iter().map(|field| field.name)), "{}", style.name);
        for field in style.fields {
            check_words(field, |value| read(json!({"style": style.name, field.name: value})));
        }
    }
}
