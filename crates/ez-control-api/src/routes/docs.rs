//! `/docs`: the OpenAPI document as a page that loads nothing from elsewhere.

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue};

use crate::problem::{ApiError, ProblemKind};

/// Where the files of the page are. Not documented themselves: they are parts of the page.
pub(crate) const FILE_ROUTE: &str = "/docs/{file}";

/// The page loads, frames and calls nothing but its own server; the pictures of its style sheet are in it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

/// A release of the interface is never changed: its files carry it in their address and are kept by browsers for good.
const PAGE: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
    "<title>ez-api control plane</title>\n",
    "<link rel=\"icon\" type=\"image/png\" href=\"/docs/favicon.png?",
    env!("SWAGGER_UI"),
    "\">\n<link rel=\"stylesheet\" href=\"/docs/swagger-ui.css?",
    env!("SWAGGER_UI"),
    "\">\n</head>\n<body>\n<div id=\"document\"></div>\n",
    "<script src=\"/docs/swagger-ui.js?",
    env!("SWAGGER_UI"),
    "\"></script>\n<script src=\"/docs/start.js\"></script>\n</body>\n</html>\n",
);

/// A script of its own, since the policy lets no script stand in the page. Without a validator: that would be asked
/// elsewhere.
const START: &str = "\
SwaggerUIBundle({
  url: '/openapi.json',
  dom_id: '#document',
  deepLinking: true,
  docExpansion: 'none',
  filter: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
";

/// The documentation as a page.
///
/// All of it comes from this process: it works where nothing else can be reached.
#[utoipa::path(get, path = "/docs", tag = "public", operation_id = "get_docs",
    responses((status = 200, description = "The page.", body = String, content_type = "text/html")))]
pub(crate) async fn page() -> Response {
    answer("text/html; charset=utf-8", ASK_AGAIN, PAGE.as_bytes())
}

/// A file of the page.
pub(crate) async fn file(Path(name): Path<String>) -> Result<Response, ApiError> {
    let (content_type, caching, bytes): (_, _, &'static [u8]) = match name.as_str() {
        "start.js" => ("text/javascript; charset=utf-8", ASK_AGAIN, START.as_bytes()),
        "swagger-ui.js" => (
            "text/javascript; charset=utf-8",
            FOREVER,
            include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js")),
        ),
        "swagger-ui.css" => {
            ("text/css; charset=utf-8", FOREVER, include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css")))
        }
        "favicon.png" => ("image/png", FOREVER, include_bytes!(concat!(env!("OUT_DIR"), "/favicon-32x32.png"))),
        _ => return Err(ApiError::new(ProblemKind::NotFound, "the page has no such file: open /docs")),
    };
    Ok(answer(content_type, caching, bytes))
}

fn answer(content_type: &'static str, caching: HeaderValue, bytes: &'static [u8]) -> Response {
    let headers: [(HeaderName, HeaderValue); 5] = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CACHE_CONTROL, caching),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (headers, bytes).into_response()
}
