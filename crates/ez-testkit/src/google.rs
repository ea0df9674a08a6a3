//! A Google service account for tests, and the token endpoint that it signs in at.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// One key for all tests of a process: making it takes a while.
static KEY: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

/// The file of a service account of the project `test-project` that signs in at this URL.
#[must_use]
pub fn service_account(token_uri: &str) -> String {
    let der: Pkcs8V1Der<'_> = KEY.as_der().unwrap();
    let encoded = STANDARD.encode(&*der);
    let lines: Vec<&str> = encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
    json!({
        "type": "service_account",
        "project_id": "test-project",
        "private_key_id": "test-key",
        "private_key": pem,
        "client_email": "tester@test-project.iam.gserviceaccount.com",
        "token_uri": token_uri,
    })
    .to_string()
}

/// How a token endpoint answers.
#[derive(Clone, Debug)]
pub struct TokenBehaviour {
    /// 200 makes a token (`token-1`, `token-2`, …) for a valid assertion; all else is an error.
    pub status: u16,
    /// The code of an error.
    pub error: &'static str,
    /// Seconds that a token lasts.
    pub expires_in: u64,
    /// Before the answer.
    pub delay: Duration,
}

impl Default for TokenBehaviour {
    fn default() -> Self {
        Self { status: 200, error: "invalid_grant", expires_in: 3_600, delay: Duration::ZERO }
    }
}

/// A running token endpoint. Dropping it closes its port.
pub struct TokenEndpoint {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _accepting: JoinSet<()>,
}

#[derive(Default)]
struct State {
    behaviour: TokenBehaviour,
    asked: u64,
    claims: Vec<Value>,
}

impl TokenEndpoint {
    /// Starts on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, _accepting: accepting }
    }

    /// The `token_uri` of its service accounts.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// Changes how it answers from now on.
    pub fn set(&self, behaviour: TokenBehaviour) {
        self.state.lock().unwrap().behaviour = behaviour;
    }

    /// Requests so far.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.state.lock().unwrap().asked
    }

    /// What each valid assertion claimed.
    #[must_use]
    pub fn claims(&self) -> Vec<Value> {
        self.state.lock().unwrap().claims.clone()
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let state = Arc::clone(&state);
                let service = service_fn(move |request| answer(Arc::clone(&state), request));
                connections.spawn(async move {
                    // The error is the client's going.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let form = request.into_body().collect().await?.to_bytes();
    let (behaviour, serial) = {
        let mut state = state.lock().unwrap();
        state.asked += 1;
        (state.behaviour.clone(), state.asked)
    };
    tokio::time::sleep(behaviour.delay).await;
    let claims = claims(&form);
    let (status, body) = match (behaviour.status, claims) {
        (200, Some(claims)) => {
            state.lock().unwrap().claims.push(claims);
            let token = format!("token-{serial}");
            (200, json!({ "access_token": token, "expires_in": behaviour.expires_in, "token_type": "Bearer" }))
        }
        (200, None) => (400, json!({ "error": "invalid_grant", "error_description": "Invalid JWT Signature." })),
        (status, _) => (status, json!({ "error": behaviour.error, "error_description": "as the test wants it" })),
    };
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Ok(response)
}

/// The claims of a form with an assertion that the test's account signed.
fn claims(form: &[u8]) -> Option<Value> {
    let form = std::str::from_utf8(form).ok()?;
    let (signed, signature) = form.split_once("assertion=")?.1.rsplit_once('.')?;
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, KEY.public_key());
    public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed.split_once('.')?.1).ok()?).ok()
}
