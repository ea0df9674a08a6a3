//! The OpenAPI document's examples, and the page that shows it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ez_control_api::public_router;
use http::{Method, Request, StatusCode};
use serde_json::Value;
use tower::ServiceExt;

use crate::support::{ADMIN_TOKEN, INTERNAL_TOKEN, TestApp};

/// Operations whose example cannot be taken as it stands, each with its reason.
const NOT_SENT: &[&str] = &[
    // Its token is nobody's.
    "login",
    // It calls the vendor.
    "test_api_key",
];

/// A documented request with its example.
#[derive(Debug)]
struct Sample {
    id: String,
    method: Method,
    path: String,
    scheme: String,
    body: Value,
    success: Vec<u16>,
}

/// What the requests before told.
#[derive(Debug, Default)]
struct Known {
    master_key: String,
    /// Ids of what was created, by the path that it was created at.
    created: BTreeMap<String, i64>,
}

/// In whatever order the records that the examples name come to be: as long as one more is taken, the rest is tried again.
pub(crate) async fn examples_of_requests_are_taken_as_they_stand(app: TestApp) {
    let document = app.call(Method::GET, "/openapi.json").send().await.ok();
    let (mut creations, mut others): (Vec<_>, Vec<_>) =
        samples(&document).into_iter().partition(|sample| sample.success.contains(&201));
    assert!(creations.len() > 5, "{creations:?}");
    let mut known = Known::default();
    for samples in [&mut creations, &mut others] {
        loop {
            let (before, mut refused) = (samples.len(), String::new());
            let mut left = Vec::new();
            for sample in samples.drain(..) {
                match send(&app, &sample, &known).await {
                    Ok(answer) => known.learn(&sample, &answer),
                    Err(problem) => {
                        writeln!(refused, "{}: {problem}", sample.id).unwrap();
                        left.push(sample);
                    }
                }
            }
            *samples = left;
            if samples.is_empty() {
                break;
            }
            assert!(samples.len() < before, "mend the rows of src/examples.json that these are made from:\n{refused}");
        }
    }
}

impl Known {
    fn learn(&mut self, sample: &Sample, answer: &Value) {
        if let Some(key) = answer["master_key"].as_str() {
            key.clone_into(&mut self.master_key);
        }
        if let Some(id) = answer["id"].as_i64() {
            self.created.entry(sample.path.clone()).or_insert(id);
        }
    }

    /// The path with the record that was made under it, else with the first of its kind.
    fn path(&self, sample: &Sample) -> String {
        let collection = sample.path.split("/{id}").next().unwrap_or_default();
        sample.path.replace("{id}", &self.created.get(collection).unwrap_or(&1).to_string())
    }
}

async fn send(app: &TestApp, sample: &Sample, known: &Known) -> Result<Value, String> {
    let token = match sample.scheme.as_str() {
        "admin" => ADMIN_TOKEN,
        "internal" => INTERNAL_TOKEN,
        "master" => &known.master_key,
        other => panic!("{}: no token for {other}", sample.id),
    };
    let call = app.call(sample.method.clone(), &known.path(sample)).token(token);
    let answer = call.json(&sample.body).send().await;
    if sample.success.contains(&answer.status.as_u16()) {
        return Ok(if answer.bytes.is_empty() { Value::Null } else { answer.json() });
    }
    Err(format!("{} {}", answer.status, answer.text()))
}

/// The examples of JSON bodies.
fn samples(document: &Value) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            let body = &operation["requestBody"]["content"]["application/json"];
            if body.is_null() || NOT_SENT.contains(&id) {
                continue;
            }
            let schemes = operation["security"].as_array().unwrap();
            let scheme = schemes.first().and_then(Value::as_object).and_then(|scheme| scheme.keys().next());
            let statuses = operation["responses"].as_object().unwrap().keys();
            samples.push(Sample {
                id: id.to_owned(),
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                scheme: scheme.cloned().unwrap_or_default(),
                body: body["example"].clone(),
                success: statuses.filter(|s| s.starts_with('2')).map(|s| s.parse().unwrap()).collect(),
            });
        }
    }
    samples
}

pub(crate) async fn every_operation_and_property_is_described(app: TestApp) {
    let document = app.call(Method::GET, "/openapi.json").send().await.ok();
    let tags: Vec<&Value> = document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let id = &operation["operationId"];
            assert!(
                tags.contains(&&operation["tags"][0]),
                "{path}: {id} has a tag that TAGS in openapi.rs does not describe"
            );
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(is_described(parameter), "{id}: the parameter {} says nothing", parameter["name"]);
            }
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(is_described(response) || response.get("$ref").is_some(), "{id}: {status} says nothing");
            }
        }
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    assert!(schemas.len() > 50, "{}", schemas.len());
    for (name, schema) in schemas {
        require_descriptions(name, schema);
    }
}

/// A field says what it is itself, or in the one alternative that is not `null`.
fn require_descriptions(name: &str, schema: &Value) {
    for (field, property) in schema["properties"].as_object().into_iter().flatten() {
        let mut alternatives = ["oneOf", "anyOf"].iter().flat_map(|key| property[key].as_array().into_iter().flatten());
        assert!(is_described(property) || alternatives.any(is_described), "{name}.{field} says nothing");
        require_descriptions(name, property);
    }
    for part in ["allOf", "oneOf", "anyOf"].iter().flat_map(|key| schema[key].as_array().into_iter().flatten()) {
        require_descriptions(name, part);
    }
}

fn is_described(part: &Value) -> bool {
    part["description"].as_str().is_some_and(|text| !text.is_empty())
}

pub(crate) async fn the_page_comes_whole_from_this_process(app: TestApp) {
    let page = app.call(Method::GET, "/docs").send().await.expect(StatusCode::OK);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{policy}");
    let slashed = app.call(Method::GET, "/docs/").send().await.expect(StatusCode::OK);
    assert_eq!(
        (slashed.bytes, slashed.headers.get("cache-control")),
        (page.bytes.clone(), page.headers.get("cache-control"))
    );

    let parts: Vec<&str> = page.text().split('"').collect();
    let links = parts.windows(2).filter(|pair| pair[0].ends_with("src=") || pair[0].ends_with("href="));
    let files: Vec<&str> = links.map(|pair| pair[1]).collect();
    assert!(files.len() == 4 && files.iter().all(|file| file.starts_with("/docs/")), "{files:?}");
    for file in files {
        let answer = app.call(Method::GET, file).send().await.expect(StatusCode::OK);
        assert!(!answer.bytes.is_empty() && !answer.header("content-security-policy").is_empty(), "{file}");
        let is_kept = answer.header("cache-control").contains("immutable");
        assert_eq!(is_kept, file.contains('?'), "{file}: kept for good where its address tells its release");
    }
    let style = app.call(Method::GET, "/docs/swagger-ui.css").send().await;
    for loaded in style.text().split("url(").skip(1) {
        assert!(loaded.trim_start_matches(['"', '\'']).starts_with("data:"), "{}", &loaded[..loaded.len().min(80)]);
    }
    assert!(!style.text().contains("@import"));
    let start = app.call(Method::GET, "/docs/start.js").send().await;
    assert!(start.text().contains("'/openapi.json'") && start.text().contains("validatorUrl: null"));
    app.call(Method::GET, "/docs/swagger-ui.css.map").send().await.problem(StatusCode::NOT_FOUND);

    let gateway = public_router(app.process.clone());
    let request = Request::get("/docs").body(axum::body::Body::empty()).unwrap();
    assert_eq!(gateway.oneshot(request).await.unwrap().status(), StatusCode::OK);
}
