//! What every write takes besides its own parameters, told from the kind of route: a dry run, the state of the record that
//! it is meant for, a name for the request. Routes document none of it; it is added to the OpenAPI document here, and
//! requests are read by that document.

use std::collections::BTreeMap;

use http::Method;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{HeaderBuilder, ObjectBuilder, RefOr, Required, Response, Schema};

/// Query parameter of every write.
pub(crate) const DRY_RUN: &str = "dry_run";
/// Header of changes, deletions and actions: the tags of the record that they are meant for.
pub(crate) const IF_MATCH: &str = "If-Match";
/// Header of creations: the caller's name for the request.
pub(crate) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// Header of answers about one record: its tag.
pub(crate) const ETAG: &str = "ETag";
/// Header of answers to dry runs.
pub(crate) const X_DRY_RUN: &str = "X-Dry-Run";
/// Header of answers that were given before.
pub(crate) const IDEMPOTENCY_REPLAYED: &str = "Idempotency-Replayed";

/// Operations that change nothing which a rollback could undo, by id: they take no dry run.
const CHANGE_NOTHING: &[&str] = &["login", "test_api_key", "run_job", "test_log_webhook"];

/// One tag and more, or `*`. Tags hold no white space.
const TAGS: &str = r#"^(\*|(W/)?"[!#-~]*"(, ?(W/)?"[!#-~]*")*)$"#;

/// Tag of the routes of gateways, which have conventions of their own.
const INTERNAL: &str = "internal";

/// What is in every record, and in no other answer.
const FIELDS_OF_RECORDS: [&str; 2] = ["id", "updated_at"];

/// What a route takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Query parameters of its own.
    pub(crate) parameters: bool,
    /// [`DRY_RUN`].
    pub(crate) dry_run: bool,
    /// [`IF_MATCH`].
    pub(crate) if_match: bool,
    /// [`IDEMPOTENCY_KEY`].
    pub(crate) idempotency_key: bool,
}

impl Taken {
    /// What an operation documents to take.
    pub(crate) fn by(operation: &Operation) -> Self {
        let mut taken = Self::default();
        for parameter in operation.parameters.iter().flatten() {
            let RefOr::T(parameter) = parameter else { continue };
            match (&parameter.parameter_in, parameter.name.as_str()) {
                (ParameterIn::Query, DRY_RUN) => taken.dry_run = true,
                (ParameterIn::Query, _) => taken.parameters = true,
                (ParameterIn::Header, IF_MATCH) => taken.if_match = true,
                (ParameterIn::Header, IDEMPOTENCY_KEY) => taken.idempotency_key = true,
                _ => {}
            }
        }
        taken
    }
}

/// Adds to the operations of a path what follows from their kinds. `schemas` are those of the whole document.
///
/// An answer is about one record where it has the fields that all records have; a route that answers otherwise with a tag
/// documents the header `ETag` itself.
pub(crate) fn document_conventions(item: &mut PathItem, schemas: &BTreeMap<String, RefOr<Schema>>) {
    let is_record = item.get.as_ref().is_some_and(|operation| is_tagged(operation, schemas));
    if is_record && let Some(get) = &mut item.get {
        add_tag(get);
    }
    let writes = [(Method::PUT, &mut item.put), (Method::POST, &mut item.post), (Method::DELETE, &mut item.delete)];
    for (method, operation) in writes {
        let Some(operation) = operation.as_mut().filter(|operation| is_write(operation)) else { continue };
        let is_creation = method == Method::POST && operation.responses.responses.contains_key("201");
        let is_tagged = is_tagged(operation, schemas);
        add_parameter(operation, dry_run());
        add_header(operation, X_DRY_RUN, "`true` where nothing was changed, because this was a dry run.");
        if is_tagged {
            add_tag(operation);
        }
        if is_creation {
            add_parameter(operation, idempotency_key());
            add_header(operation, IDEMPOTENCY_REPLAYED, "`true` where an earlier request was answered with this.");
        } else if is_tagged || (method == Method::DELETE && is_record) {
            add_parameter(operation, if_match());
        }
    }
}

fn is_write(operation: &Operation) -> bool {
    let is_internal = operation.tags.iter().flatten().any(|tag| tag == INTERNAL);
    let changes_nothing = operation.operation_id.as_deref().is_some_and(|id| CHANGE_NOTHING.contains(&id));
    !is_internal && !changes_nothing
}

/// Whether an operation answers with one record, or says itself that its answer has a tag.
fn is_tagged(operation: &Operation, schemas: &BTreeMap<String, RefOr<Schema>>) -> bool {
    success(operation).is_some_and(|response| {
        let mut answers = response.content.values().filter_map(|content| match content {
            RefOr::T(content) => content.schema.as_ref(),
            RefOr::Ref(_) => None,
        });
        response.headers.contains_key(ETAG) || answers.any(|schema| is_record(schema, schemas))
    })
}

fn is_record(schema: &RefOr<Schema>, schemas: &BTreeMap<String, RefOr<Schema>>) -> bool {
    match schema {
        RefOr::Ref(reference) => {
            let name = reference.ref_location.rsplit('/').next().unwrap_or_default();
            schemas.get(name).is_some_and(|schema| is_record(schema, schemas))
        }
        RefOr::T(Schema::Object(object)) => {
            FIELDS_OF_RECORDS.iter().all(|field| object.properties.contains_key(*field))
        }
        RefOr::T(Schema::AllOf(all)) => all.items.iter().any(|schema| is_record(schema, schemas)),
        RefOr::T(_) => false,
    }
}

fn success(operation: &Operation) -> Option<&Response> {
    operation.responses.responses.iter().find_map(|(status, response)| match response {
        RefOr::T(response) if status.starts_with('2') => Some(response),
        _ => None,
    })
}

fn add_parameter(operation: &mut Operation, parameter: Parameter) {
    operation.parameters.get_or_insert_default().push(RefOr::T(parameter));
}

fn add_tag(operation: &mut Operation) {
    add_header(operation, ETAG, "The record's tag, for `If-Match`. Use does not change it.");
}

fn add_header(operation: &mut Operation, name: &str, about: &str) {
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.starts_with('2')
        {
            let schema = ObjectBuilder::new().schema_type(Type::String).build();
            let header = HeaderBuilder::new().description(Some(about)).schema(Some(schema)).build();
            response.headers.insert(name.to_owned(), header.into());
        }
    }
}

fn dry_run() -> Parameter {
    let about = "Answers as the same request without it would, but changes nothing and shows no secret.";
    parameter(DRY_RUN, ParameterIn::Query, about, ObjectBuilder::new().schema_type(Type::Boolean))
}

fn if_match() -> Parameter {
    let about = "Tags (`ETag`) of the states of the record that the change is meant for, or `*`. Any other is 412.";
    let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(TAGS));
    parameter(IF_MATCH, ParameterIn::Header, about, schema)
}

fn idempotency_key() -> Parameter {
    let about = "The caller's name for the request. The same request under the same name within 24 hours creates nothing \
        and is answered with what the first one was, less its secret.";
    let schema = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(128));
    parameter(IDEMPOTENCY_KEY, ParameterIn::Header, about, schema.pattern(Some("^[!-~]+$")))
}

fn parameter(name: &str, place: ParameterIn, about: &str, schema: ObjectBuilder) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(Required::False)
        .description(Some(about))
        .schema(Some(schema.build()))
        .build()
}
