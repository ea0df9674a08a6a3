//! A small HTTP client for tests and the demo: one request in, one whole answer out.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// Bound on one request and its whole answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Sends requests with one bearer token to one server.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<HttpConnector, Full<Bytes>>,
    base_url: String,
    bearer: Option<String>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl HttpClient {
    /// A client for `base_url`, such as `http://127.0.0.1:8081`.
    pub fn new(base_url: &str, bearer: Option<&str>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { client, base_url: base_url.to_owned(), bearer: bearer.map(str::to_owned) }
    }

    /// Where this client's requests go.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Sends a request and hands back the answer's head; the body streams.
    pub async fn send(&self, method: Method, path: &str, body: impl Into<Bytes>) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base_url));
        if let Some(bearer) = &self.bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        let request = request.header("content-type", "application/json").body(Full::new(body.into()))?;
        Ok(self.client.request(request).await?)
    }

    /// Sends a request and reads the whole answer.
    pub async fn call(&self, method: Method, path: &str, body: impl Into<Bytes>) -> anyhow::Result<Answer> {
        let exchange = async {
            let (parts, body) = self.send(method, path, body).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        tokio::time::timeout(TIMEOUT, exchange).await.with_context(|| format!("{path} did not answer in time"))?
    }

    /// `GET`, expecting success.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.expect_success(Method::GET, path, Bytes::new()).await
    }

    /// `POST` of JSON, expecting success.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.expect_success(Method::POST, path, body.to_string()).await
    }

    /// `PUT` of JSON, expecting success.
    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.expect_success(Method::PUT, path, body.to_string()).await
    }

    async fn expect_success(&self, method: Method, path: &str, body: impl Into<Bytes>) -> anyhow::Result<Value> {
        let answer = self.call(method.clone(), path, body).await?;
        if !answer.status.is_success() {
            bail!("{method} {path} answered {}: {}", answer.status, answer.text());
        }
        Ok(if answer.body.is_empty() { Value::Null } else { answer.json() })
    }
}
