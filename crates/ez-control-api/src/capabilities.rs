//! What a model takes, in requests and answers: its schema, made from the fields that the rules check by.

use ez_contract::capability::{FIELDS, Field, Shape, Style};
use serde_json::json;
use utoipa::openapi::schema::{AdditionalProperties, Type};
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, OneOfBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The schema of what is said of what a model takes.
pub(crate) struct ModelCapabilities;

impl PartialSchema for ModelCapabilities {
    fn schema() -> RefOr<Schema> {
        with_fields(closed_object(), FIELDS)
            .description(Some("What the model takes, where the gateway's own table of model families does not fit."))
            .examples([json!({
                "rejects": ["seed"], "token_cap": "max_completion_tokens",
                "reasoning": {"style": "effort", "efforts": ["low", "medium", "high"]},
            })])
            .into()
    }
}

impl ToSchema for ModelCapabilities {}

/// An object without fields that are not named.
fn closed_object() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(AdditionalProperties::FreeForm(false)))
}

fn with_fields(object: ObjectBuilder, fields: &[Field]) -> ObjectBuilder {
    fields.iter().fold(object, |object, field| {
        let object = object.property(field.name, field_schema(field));
        if field.is_required { object.required(field.name) } else { object }
    })
}

fn field_schema(field: &Field) -> RefOr<Schema> {
    let about = Some(field.about);
    match field.shape {
        Shape::Flag => ObjectBuilder::new().schema_type(Type::Boolean).description(about).into(),
        Shape::Word(allowed) => word_of(allowed).description(about).into(),
        Shape::Words { allowed, min } => ArrayBuilder::new()
            .items(word_of(allowed))
            .unique_items(true)
            .min_items(Some(min).filter(|min| *min > 0).and_then(|min| min.try_into().ok()))
            .description(about)
            .into(),
        Shape::Tokens { min, max } => ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(min))
            .maximum(Some(max))
            .description(about)
            .into(),
        Shape::Styled(styles) => {
            let styles = styles.iter().fold(OneOfBuilder::new(), |any, style| any.item(style_schema(style)));
            styles.description(about).into()
        }
    }
}

fn style_schema(style: &Style) -> ObjectBuilder {
    let name = word_of(&[style.name]).description(Some(style.about));
    with_fields(closed_object().property("style", name).required("style"), style.fields)
}

fn word_of(allowed: &[&'static str]) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(allowed.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi;

    #[test]
    fn every_field_may_be_left_out_but_those_that_a_style_needs() {
        let (document, _) = openapi::document();
        let schemas = document.components.unwrap().schemas;
        let schema = serde_json::to_value(&schemas["ModelCapabilities"]).unwrap();
        assert_eq!(schema.get("required"), None);
        assert_eq!(schema["properties"].as_object().unwrap().len(), FIELDS.len());
        let styles = schema["properties"]["reasoning"]["oneOf"].as_array().unwrap();
        let needed: Vec<_> = styles.iter().map(|style| style["required"].clone()).collect();
        let expected = json!([
            ["style"],
            ["style", "efforts"],
            ["style", "min_budget", "max_budget"],
            ["style", "efforts"],
            ["style", "efforts"],
        ]);
        assert_eq!(json!(needed), expected);
    }
}
