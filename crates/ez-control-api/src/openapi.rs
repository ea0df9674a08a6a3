//! The OpenAPI document: what the route table does not say by itself, and the document as text.

use std::sync::LazyLock;

use http::Method;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, HeaderBuilder, InfoBuilder, LicenseBuilder, ObjectBuilder, OpenApi, OpenApiBuilder,
    OpenApiVersion, Ref, RefOr, Response, ResponseBuilder, Schema, ServerBuilder,
    schema::{ArrayItems, Type},
    tag::TagBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use crate::capabilities::ModelCapabilities;
use crate::conventions::{Taken, document_conventions};
use crate::examples::add_examples;
use crate::listing::SortParameter;
use crate::problem::{FaultResponse, PROBLEM_JSON, ProblemKind, ProblemResponse};
use crate::router;

/// Security scheme of the routes for gateways, and their tag.
const INTERNAL: &str = "internal";

/// Names in `security(…)` of the routes, and what opens them.
const SECURITY_SCHEMES: &[(&str, &str)] = &[
    ("admin", "The admin token, or a JWT that `POST /auth/login` made of it."),
    ("master", "A master key, or a JWT that `POST /auth/login` made of it."),
    (INTERNAL, "`EZ_INTERNAL_TOKEN`; where none is configured these routes are closed."),
    ("metrics", "The admin token, or `EZ_METRICS_TOKEN`."),
];

/// The problems that an operation can answer with and that routes need not spell out one by one.
const ANSWERED: &[ProblemKind] = &[
    ProblemKind::MalformedJson,
    ProblemKind::TooMuch,
    ProblemKind::Unauthenticated,
    ProblemKind::Forbidden,
    ProblemKind::NotFound,
    ProblemKind::Conflict,
    ProblemKind::Stale,
    ProblemKind::TooLarge,
    ProblemKind::UnsupportedMediaType,
    ProblemKind::Invalid,
    ProblemKind::TooMany,
    ProblemKind::Internal,
    ProblemKind::Unavailable,
];

/// Operations that add log records up, besides those with `group_by`: the database may take too long.
const ADD_UP: [&str; 2] = ["get_dashboard_summary", "summarise_api_keys"];

/// Secrets in answers, which replays and dry runs go without.
const SHOWN_ONCE: [&str; 2] = ["master_key", "token"];

const DESCRIPTION: &str = "\
The control plane of ez-api. Every answer carries `X-Request-ID`: the caller's where it sent a sane one, else a new one. \
Every error is `application/problem+json`. Unknown fields and parameters are refused. A PUT changes only the fields that \
are present, and `null` clears an optional one. Times are UTC, given as RFC 3339 or Unix seconds and answered as RFC 3339. \
Answers about one record carry an `ETag`; send it as `If-Match` so that no change of somebody else is lost.";

const TAGS: &[(&str, &str)] = &[
    ("public", "What anyone may know of the process."),
    ("auth", "Signing in."),
    ("tokens", "A master's own child keys."),
    ("self", "What a master may know of itself."),
    ("masters", "Tenants."),
    ("keys", "Child keys of all masters."),
    ("namespaces", "Views on the model catalogue."),
    ("provider-groups", "Upstream configurations."),
    ("api-keys", "Upstream credentials."),
    ("providers", "Provider groups that are set up in one go."),
    ("bindings", "Which provider group serves a public model."),
    ("models", "What models can do and what they cost."),
    ("features", "Runtime flags."),
    ("logs", "Accounts of calls."),
    ("dashboard", "What calls add up to, at a glance."),
    ("alerts", "What somebody should look at."),
    ("realtime", "What goes on at present."),
    ("sync", "Publication of the snapshot."),
    ("jobs", "What the control plane does by itself."),
    ("audit", "Who changed what."),
    ("internal", "For gateways only."),
];

static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(|| document().0);

static TEXT: LazyLock<String> = LazyLock::new(|| {
    let text = DOCUMENT.to_pretty_json().unwrap_or_default();
    format!("{text}\n")
});

/// The OpenAPI document of the whole control plane: pretty JSON in a stable order, with a line feed at its end.
pub fn openapi_json() -> String {
    TEXT.clone()
}

/// The same, for serving.
pub(crate) fn openapi_text() -> &'static str {
    &TEXT
}

/// What this route documents to take. `route` is its pattern.
pub(crate) fn taken_by(method: &Method, route: &str) -> Taken {
    let Some(item) = DOCUMENT.paths.paths.get(route) else { return Taken::default() };
    let operation = match *method {
        Method::GET | Method::HEAD => &item.get,
        Method::PUT => &item.put,
        Method::POST => &item.post,
        Method::DELETE => &item.delete,
        _ => return Taken::default(),
    };
    operation.as_ref().map(Taken::by).unwrap_or_default()
}

/// The document before the routes add their operations.
pub(crate) fn base() -> OpenApi {
    let info = InfoBuilder::new()
        .title("ez-api control plane")
        .description(Some(DESCRIPTION))
        // The API's version, not the build's, so that the checked-in document changes with the API alone.
        .version("1.0.0")
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    let tags = TAGS.iter().map(|(name, about)| TagBuilder::new().name(*name).description(Some(*about)).build());
    // The server that served the document.
    let server = ServerBuilder::new().url("/").build();
    OpenApiBuilder::new().openapi(OpenApiVersion::Version31).info(info).servers(Some([server])).tags(Some(tags)).build()
}

/// The document, and the fields that have no example.
pub(crate) fn document() -> (OpenApi, Vec<String>) {
    let mut document = router::table().split_for_parts().1;
    let components = document.components.get_or_insert_default();
    complete_components(components);
    for item in document.paths.paths.values_mut() {
        document_conventions(item, &components.schemas);
        let reads = item.get.iter_mut().map(|operation| (operation, false));
        let writes = [&mut item.put, &mut item.post, &mut item.delete].into_iter().flatten();
        for (operation, is_write) in reads.chain(writes.map(|operation| (operation, true))) {
            document_problems(operation, is_write);
            // Said outright where nobody has to sign in.
            operation.security.get_or_insert_default();
        }
    }
    let without_example = add_examples(&mut document);
    (document, without_example)
}

fn complete_components(components: &mut Components) {
    for (name, about) in SECURITY_SCHEMES {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(*about)).build();
        components.security_schemes.insert((*name).to_owned(), RefOr::T(SecurityScheme::Http(scheme)));
    }
    for kind in ANSWERED {
        components.responses.insert(component_name(*kind), RefOr::T(problem_response(*kind)));
    }
    components.schemas.insert(FaultResponse::name().into_owned(), FaultResponse::schema());
    components.schemas.insert(ProblemResponse::name().into_owned(), ProblemResponse::schema());
    // Parameters alone bring no schema along.
    components.schemas.insert(SortParameter::name().into_owned(), SortParameter::schema());
    for (name, schema) in &mut components.schemas {
        // A problem has its lists where they have something in them, a model's capabilities what is said of it; every other
        // answer has all of its fields always.
        let is_partial = [ProblemResponse::name(), ModelCapabilities::name()].iter().any(|partial| partial == name);
        if !name.ends_with("Request") && !is_partial {
            require_all(schema);
        }
        // `Page_Master`: the derive copies the record into each list, where a reference says the same in a line.
        if let (Some((_, record)), RefOr::T(Schema::Object(list))) = (name.split_once('_'), schema)
            && let Some(RefOr::T(Schema::Array(items))) = list.properties.get_mut("items")
        {
            items.items = ArrayItems::RefOrSchema(Box::new(RefOr::Ref(Ref::from_schema_name(record))));
        }
    }
}

/// Adds the problems that follow from what the operation takes, so that none is forgotten when a route is added.
fn document_problems(operation: &mut Operation, is_write: bool) {
    let signs_in = operation.security.is_some() || operation.operation_id.as_deref() == Some("login");
    let has_body = operation.request_body.is_some();
    let (has_path, has_query) = (takes(operation, ParameterIn::Path), takes(operation, ParameterIn::Query));
    for kind in ANSWERED {
        let is_possible = match kind {
            ProblemKind::MalformedJson | ProblemKind::TooLarge | ProblemKind::UnsupportedMediaType => has_body,
            ProblemKind::TooMuch => adds_up(operation),
            ProblemKind::Unauthenticated | ProblemKind::TooMany | ProblemKind::Unavailable => signs_in,
            ProblemKind::Forbidden => signs_in && has_security_of_people(operation),
            ProblemKind::NotFound => has_path,
            ProblemKind::Stale => Taken::by(operation).if_match,
            ProblemKind::Conflict => is_write && has_security_of_people(operation),
            ProblemKind::Invalid => has_body || has_query,
            _ => true,
        };
        if is_possible {
            let status = kind.status().as_str().to_owned();
            let reference = Ref::from_response_name(component_name(*kind));
            operation.responses.responses.entry(status).or_insert(RefOr::Ref(reference));
        }
    }
}

/// Whether it adds log records up: by what its caller says, or always.
fn adds_up(operation: &Operation) -> bool {
    let mut parameters = operation.parameters.iter().flatten();
    parameters.any(|parameter| matches!(parameter, RefOr::T(parameter) if parameter.name == "group_by"))
        || operation.operation_id.as_deref().is_some_and(|id| ADD_UP.contains(&id))
}

/// Declares each property as always there, `null` or not, but for secrets.
fn require_all(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            let always = object.properties.keys().filter(|name| !SHOWN_ONCE.contains(&name.as_str()));
            object.required = always.cloned().collect();
        }
        RefOr::T(Schema::AllOf(all)) => all.items.iter_mut().for_each(require_all),
        _ => {}
    }
}

fn takes(operation: &Operation, place: ParameterIn) -> bool {
    operation.parameters.iter().flatten().any(|parameter| match parameter {
        RefOr::T(parameter) => parameter.parameter_in == place,
        RefOr::Ref(_) => false,
    })
}

/// Gateways are all alike, so nothing of theirs is forbidden or in conflict.
fn has_security_of_people(operation: &Operation) -> bool {
    !operation.tags.iter().flatten().any(|tag| tag == INTERNAL) && operation.security.is_some()
}

/// `not_found` as `NotFound`.
fn component_name(kind: ProblemKind) -> String {
    kind.code().split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

fn problem_response(kind: ProblemKind) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(ProblemResponse::name()))).build();
    let response = ResponseBuilder::new().description(format!("{}.", kind.title())).content(PROBLEM_JSON, content);
    let header = match kind {
        ProblemKind::Unauthenticated => Some(("WWW-Authenticate", "How to sign in.", Type::String)),
        ProblemKind::TooMany => Some(("Retry-After", "Seconds to wait.", Type::Integer)),
        _ => None,
    };
    match header {
        Some((name, about, schema_type)) => {
            let schema = ObjectBuilder::new().schema_type(schema_type);
            response.header(name, HeaderBuilder::new().description(Some(about)).schema(Some(schema)).build()).build()
        }
        None => response.build(),
    }
}
