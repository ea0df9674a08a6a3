//! Requests that the control plane itself sends: to vendors, webhooks and catalogues. The address is checked after it has
//! been resolved and is the one that is connected to, redirects are not followed, and time and size are bounded.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use url::{Host, Url};

pub(crate) use ez_contract::reach::{Forbidden, Reach};

/// Bound on connecting, within the bound on the whole exchange.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const AGENT: &str = concat!("ez-api/", env!("CARGO_PKG_VERSION"));

/// How much of a body that nobody reads is heard out, so that whoever sends it meets no broken connection.
const DRAINED_BYTES: usize = 64 << 10;
/// And how long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Trust in the public certificate authorities; made once, as it takes a millisecond.
static TLS: LazyLock<Result<ClientConfig, rustls::Error>> = LazyLock::new(|| {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions()?;
    Ok(config.with_webpki_roots().with_no_client_auth())
});

/// A request to somewhere else.
pub(crate) struct OutboundRequest {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Mark those with secrets as sensitive.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// How far it may go.
    pub(crate) reach: Reach,
    /// Whom it trusts besides; the public certificate authorities alone where absent.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Finds the addresses of its name.
    pub(crate) resolver: Resolver,
    /// Bound on the whole exchange.
    pub(crate) timeout: Duration,
    /// A longer answer is an error. Where absent its body is not read, however long it is.
    pub(crate) max_answer_bytes: Option<usize>,
}

/// Finds the addresses of a name. What it finds is checked each time, and it is asked once for each connection: nobody gets
/// by with one answer for the check and another for the connection.
#[derive(Clone)]
pub struct Resolver(Arc<dyn Fn(String) -> Resolving + Send + Sync>);

type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// What came back, whatever its status.
pub(crate) struct OutboundAnswer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Empty where nobody wanted to read it.
    pub(crate) body: Bytes,
}

/// Why there is no answer. No message carries the URL, which may hold a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboundError {
    /// The URL, or what its name resolves to, is out of reach.
    #[error("the URL {0}")]
    Forbidden(Forbidden),
    /// No connection, or it broke.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// The exchange took too long.
    #[error("there was no answer within {} seconds", .0.as_secs())]
    TimedOut(Duration),
    /// The answer is longer than it may be.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
}

impl Resolver {
    /// One that asks this; tests script theirs.
    pub fn new<Lookup, Found>(lookup: Lookup) -> Self
    where
        Lookup: Fn(String) -> Found + Send + Sync + 'static,
        Found: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
    {
        Self(Arc::new(move |name| Box::pin(lookup(name))))
    }

    /// The addresses of a name. One of them out of reach and none is good: such a name is set up to deceive, or by mistake.
    async fn addresses(&self, name: &str, reach: Reach) -> io::Result<Vec<SocketAddr>> {
        let addresses = (self.0)(name.to_owned()).await?;
        for address in &addresses {
            reach.check_address(*address).map_err(io::Error::other)?;
        }
        // The port is the URL's; the connector puts it in.
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect())
    }
}

/// As the operating system resolves names.
impl Default for Resolver {
    fn default() -> Self {
        Self::new(async |name| {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

/// Refuses a URL that is out of reach by its text, or by what its name resolves to now. A name that does not resolve in time
/// is fine: it is resolved again before anything is sent.
pub(crate) async fn check(url: &Url, reach: Reach, resolver: &Resolver, timeout: Duration) -> Result<(), Forbidden> {
    reach.check(url)?;
    let Some(Host::Domain(name)) = url.host() else { return Ok(()) };
    match tokio::time::timeout(timeout, resolver.addresses(name, reach)).await {
        Ok(Err(error)) => forbidden_in(&error).map_or(Ok(()), Err),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// Sends a request and reads the answer.
pub(crate) async fn send(request: OutboundRequest) -> Result<OutboundAnswer, OutboundError> {
    let timeout = request.timeout;
    tokio::time::timeout(timeout, exchange(request)).await.unwrap_or(Err(OutboundError::TimedOut(timeout)))
}

async fn exchange(outbound: OutboundRequest) -> Result<OutboundAnswer, OutboundError> {
    let OutboundRequest { method, url, mut headers, body, reach, tls, resolver, max_answer_bytes, .. } = outbound;
    // The connector resolves names alone; an address in the URL is checked here.
    reach.check(&url).map_err(OutboundError::Forbidden)?;
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
    let mut request = Request::builder().method(method).uri(url.as_str()).body(Full::new(body)).map_err(unreachable)?;
    *request.headers_mut() = headers;

    let answer = client(reach, tls.as_deref(), resolver)?.request(request).await.map_err(failure)?;
    let (head, body) = answer.into_parts();
    let Some(max_bytes) = max_answer_bytes else {
        // Whatever comes of it, the head told all that is wanted.
        let drained = tokio::time::timeout(DRAIN_TIMEOUT, Limited::new(body, DRAINED_BYTES).collect()).await;
        drop(drained);
        return Ok(OutboundAnswer { status: head.status, headers: head.headers, body: Bytes::new() });
    };
    let body = Limited::new(body, max_bytes).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() { OutboundError::TooLarge(max_bytes) } else { unreachable(error) }
    })?;
    Ok(OutboundAnswer { status: head.status, headers: head.headers, body: body.to_bytes() })
}

/// A client per request: none of these is frequent, and no connection outlives the check of its address.
fn client(
    reach: Reach,
    tls: Option<&ClientConfig>,
    resolver: Resolver,
) -> Result<Client<impl Connect + Clone + Send + Sync + 'static, Full<Bytes>>, OutboundError> {
    let resolve = tower::service_fn(move |name: Name| {
        let resolver = resolver.clone();
        async move { Ok::<_, io::Error>(resolver.addresses(name.as_str(), reach).await?.into_iter()) }
    });
    let mut tcp = HttpConnector::new_with_resolver(resolve);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.enforce_http(false);
    let tls = tls.map_or_else(|| TLS.as_ref().map_err(unreachable), Ok)?.clone();
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
}

fn failure(error: hyper_util::client::legacy::Error) -> OutboundError {
    let forbidden = causes(&error).find_map(forbidden_in);
    forbidden.map_or_else(|| unreachable(error), OutboundError::Forbidden)
}

/// An I/O error keeps what it was made of to itself, so it is asked as well.
fn forbidden_in(error: &(dyn Error + 'static)) -> Option<Forbidden> {
    let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.downcast_ref().copied().or_else(|| within?.downcast_ref().copied())
}

/// The last cause tells the most: `connection refused`, not `client error`.
fn unreachable<E: Into<Box<dyn Error + Send + Sync>>>(error: E) -> OutboundError {
    let error = error.into();
    OutboundError::Unreachable(causes(error.as_ref()).last().map_or_else(String::new, ToString::to_string))
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

    use super::*;

    fn request(url: &str, reach: Reach) -> OutboundRequest {
        OutboundRequest {
            method: Method::GET,
            url: url.parse().unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            reach,
            tls: None,
            resolver: Resolver::default(),
            timeout: Duration::from_secs(5),
            max_answer_bytes: Some(100),
        }
    }

    /// Answers one request with this text, and returns what was asked.
    fn server(answer: String) -> (u16, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = thread::Builder::new().spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = vec![0; 2000];
            let length = stream.read(&mut head).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&head[..length]).into_owned()
        });
        (port, asked.unwrap())
    }

    fn answer(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn a_request_goes_out_and_its_answer_comes_back() {
        let (port, asked) = server(answer("hello"));
        let got = send(request(&format!("http://localhost:{port}/a?b=c"), Reach::Operator)).await.unwrap();
        assert_eq!((got.status, got.body.as_ref()), (StatusCode::OK, b"hello".as_ref()));
        let asked = asked.join().unwrap();
        assert!(asked.starts_with("GET /a?b=c HTTP/1.1\r\n") && asked.contains("user-agent: ez-api/"), "{asked}");
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let text = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let (port, _) = server(text.to_owned());
        let got = send(request(&format!("http://127.0.0.1:{port}/"), Reach::Operator)).await.unwrap();
        assert_eq!(got.status, StatusCode::FOUND);
    }

    #[tokio::test]
    async fn an_address_is_checked_after_it_was_resolved() {
        // The name tells nothing by its text, and stands for a loopback address.
        let error = Resolver::default().addresses("localhost", Reach::Public).await.unwrap_err();
        assert_eq!(forbidden_in(&error), Some(Forbidden::NotPublic));

        // By the client, too, which alone knows the address that it connects to.
        let there = Request::get("http://localhost:9/").body(Full::default()).unwrap();
        let client = client(Reach::Public, None, Resolver::default()).unwrap();
        let refused = client.request(there).await.map(|_| ()).map_err(failure);
        assert!(matches!(refused, Err(OutboundError::Forbidden(Forbidden::NotPublic))), "{refused:?}");

        let refused = send(request("http://127.0.0.1:9/", Reach::Public)).await;
        assert!(matches!(refused, Err(OutboundError::Forbidden(Forbidden::NotPublic))));
    }

    #[tokio::test]
    async fn a_name_with_one_address_out_of_reach_is_out_of_reach() {
        let (public, private) = ("192.88.98.1".parse().unwrap(), "10.0.0.1".parse().unwrap());
        let resolver = Resolver::new(move |name: String| async move {
            match name.as_str() {
                "gone.test" => Err(io::Error::other("no such name")),
                "public.test" => Ok(vec![public]),
                _ => Ok(vec![public, private]),
            }
        });
        let verdict =
            async |url: &str| check(&url.parse().unwrap(), Reach::Public, &resolver, Duration::from_secs(5)).await;
        assert_eq!(verdict("http://mixed.test/").await, Err(Forbidden::NotPublic));
        assert_eq!(verdict("http://public.test/").await, Ok(()));
        assert_eq!(verdict("http://gone.test/").await, Ok(()), "it is checked again when it is there");
        assert_eq!(verdict("http://10.0.0.1/").await, Err(Forbidden::NotPublic));
        let mixed = OutboundRequest { resolver: resolver.clone(), ..request("http://mixed.test/", Reach::Public) };
        assert!(matches!(send(mixed).await, Err(OutboundError::Forbidden(Forbidden::NotPublic))));
    }

    #[tokio::test]
    async fn a_body_that_nobody_reads_may_be_of_any_length() {
        let length = 10 * DRAINED_BYTES;
        let (port, _) = server(format!("HTTP/1.1 204 No\r\nretry-after: 7\r\n\r\n{}", "x".repeat(length)));
        let wanted = request(&format!("http://127.0.0.1:{port}/"), Reach::Operator);
        let got = send(OutboundRequest { max_answer_bytes: None, ..wanted }).await.unwrap();
        assert_eq!((got.status, got.headers["retry-after"].to_str().unwrap()), (StatusCode::NO_CONTENT, "7"));
        assert_eq!(got.body, Bytes::new());

        let (port, _) = server(answer(&"x".repeat(length)));
        let wanted = request(&format!("http://127.0.0.1:{port}/"), Reach::Operator);
        let got = send(OutboundRequest { max_answer_bytes: None, ..wanted }).await.unwrap();
        assert_eq!((got.status, got.body), (StatusCode::OK, Bytes::new()));
    }

    #[tokio::test]
    async fn size_is_bounded_and_failures_are_told_apart() {
        let (port, _) = server(answer(&"x".repeat(101)));
        let refused = send(request(&format!("http://127.0.0.1:{port}/"), Reach::Operator)).await;
        assert!(matches!(refused, Err(OutboundError::TooLarge(100))));

        let closed = send(request("http://127.0.0.1:1/secret-path", Reach::Operator)).await;
        let Err(error @ OutboundError::Unreachable(_)) = closed else { panic!("no failure") };
        assert!(error.to_string().contains("refused") && !error.to_string().contains("secret"), "{error}");

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = format!("http://{}/", listener.local_addr().unwrap());
        let late =
            send(OutboundRequest { timeout: Duration::from_millis(50), ..request(&silent, Reach::Operator) }).await;
        assert!(matches!(late, Err(OutboundError::TimedOut(_))));
    }
}
