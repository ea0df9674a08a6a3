//! Connections to upstreams: TLS with an authority of one's own, HTTP/2 without a stall, and no call sent twice.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ez_contract::snapshot::SnapshotEntry;
use ez_gateway::config::{GatewayConfig, UpstreamTls};
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::support::{TestGateway, binding, provider};

const CHAT: &str = r#"{"model":"tls","messages":[{"role":"user","content":"hi"}]}"#;
const ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"tls","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;

/// As many calls at once as one connection takes from vendors.
const STREAMS_PER_CONNECTION: u32 = 100;

/// A vendor behind TLS that answers a call once `gathered` have come.
struct TlsVendor {
    address: SocketAddr,
    authority_pem: String,
    tls: ServerConfig,
    state: Arc<VendorState>,
    _accepting: JoinSet<()>,
}

struct VendorState {
    arrived: watch::Sender<usize>,
    gathered: AtomicUsize,
    connections: AtomicUsize,
    open: AtomicUsize,
    serving: watch::Sender<Serving>,
    versions: Mutex<Vec<Version>>,
}

/// What new connections get; those of an older generation are closed.
#[derive(Clone)]
struct Serving {
    tls: TlsAcceptor,
    generation: u32,
}

fn acceptor(tls: &ServerConfig, protocols: &[&str]) -> TlsAcceptor {
    let mut tls = tls.clone();
    tls.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(tls))
}

impl TlsVendor {
    async fn start(protocols: &[&str]) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &authority).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let tls = ServerConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();

        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let state = Arc::new(VendorState {
            arrived: watch::Sender::new(0),
            gathered: AtomicUsize::new(1),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            versions: Mutex::default(),
            serving: watch::Sender::new(Serving { tls: acceptor(&tls, protocols), generation: 0 }),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(tcp, state.clone()));
        Self { address, authority_pem: authority.pem(), tls, state, _accepting: accepting }
    }

    /// Closes every connection, and offers other protocols from now on.
    async fn restart(&self, protocols: &[&str]) {
        let tls = acceptor(&self.tls, protocols);
        self.state.serving.send_modify(|serving| *serving = Serving { tls, generation: serving.generation + 1 });
        while self.state.open.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A gateway that trusts this vendor, and calls it for the model `tls`.
    async fn gateway(&self, change: impl FnOnce(&mut GatewayConfig)) -> TestGateway {
        let tls = UpstreamTls::new(Some(self.authority_pem.as_bytes())).unwrap();
        let gateway = TestGateway::start_with(|config| {
            config.upstream.tls = tls;
            config.first_byte_timeout = Duration::from_secs(15);
            change(config);
        })
        .await;
        bind(&gateway, &format!("https://localhost:{}/v1", self.address.port())).await;
        gateway
    }
}

async fn bind(gateway: &TestGateway, base_url: &str) {
    let upstream = SnapshotEntry::Provider(provider(9, base_url, "sk-tls"));
    gateway.apply(vec![upstream, SnapshotEntry::Binding(binding("tls", &[(9, "tls")]))]).await;
}

async fn accept(tcp: TcpListener, state: Arc<VendorState>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = tcp.accept().await {
        let state = state.clone();
        let Serving { tls, generation } = state.serving.borrow().clone();
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            state.connections.fetch_add(1, Ordering::SeqCst);
            state.open.fetch_add(1, Ordering::SeqCst);
            let mut changes = state.serving.subscribe();
            let answering = state.clone();
            let service = service_fn(move |request| answer(answering.clone(), request));
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http2().max_concurrent_streams(STREAMS_PER_CONNECTION);
            tokio::select! {
                // The error is the gateway's going.
                _ = server.serve_connection(TokioIo::new(stream), service) => {}
                _ = changes.wait_for(|serving| serving.generation > generation) => {}
            }
            state.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn answer(state: Arc<VendorState>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    state.versions.lock().unwrap().push(request.version());
    request.into_body().collect().await?;
    state.arrived.send_modify(|arrived| *arrived += 1);
    let gathered = state.gathered.load(Ordering::SeqCst);
    // The sender lives in the state.
    let _ = state.arrived.subscribe().wait_for(|arrived| *arrived >= gathered).await;
    let mut response = Response::new(Full::new(Bytes::from_static(ANSWER.as_bytes())));
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    Ok(response)
}

#[tokio::test]
async fn three_hundred_calls_over_http2_are_in_flight_at_once() {
    let vendor = TlsVendor::start(&["h2", "http/1.1"]).await;
    // Not one is answered before all have come, and no connection takes more than a hundred.
    vendor.state.gathered.store(300, Ordering::SeqCst);
    let gateway = vendor.gateway(|_| ()).await;
    let at_once = async || {
        let answers = futures_util::future::join_all((0..300).map(|_| gateway.chat(CHAT))).await;
        assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
    };
    at_once().await;
    assert!(vendor.state.versions.lock().unwrap().iter().all(|version| *version == Version::HTTP_2));

    // What is known to speak HTTP/2 gets no more connections than calls need.
    let before = vendor.state.connections.load(Ordering::SeqCst);
    vendor.state.gathered.store(600, Ordering::SeqCst);
    at_once().await;
    let opened = vendor.state.connections.load(Ordering::SeqCst) - before;
    assert!((1..=5).contains(&opened), "{opened} connections for 300 calls");
    for _ in 0..20 {
        assert_eq!(gateway.chat(CHAT).await.status, StatusCode::OK);
    }
    assert_eq!(vendor.state.connections.load(Ordering::SeqCst), before + opened);
    assert_eq!(gateway.finish().await.len(), 620);
}

#[tokio::test]
async fn a_vendor_that_gives_up_http2_costs_one_call_at_most() {
    for left in [&["http/1.1"][..], &[]] {
        let vendor = TlsVendor::start(&["h2", "http/1.1"]).await;
        let gateway = vendor.gateway(|_| ()).await;
        for _ in 0..3 {
            assert_eq!(gateway.chat(CHAT).await.status, StatusCode::OK);
        }
        vendor.restart(left).await;
        let first = gateway.chat(CHAT).await.status;
        assert!(matches!(first, StatusCode::OK | StatusCode::BAD_GATEWAY), "{first}");
        for _ in 0..3 {
            assert_eq!(gateway.chat(CHAT).await.status, StatusCode::OK, "{left:?}");
        }
        assert_eq!(vendor.state.versions.lock().unwrap().last(), Some(&Version::HTTP_11));
    }
}

#[tokio::test]
async fn http1_is_spoken_where_nothing_else_is_offered_or_wanted() {
    for (offered, http2) in [(&["http/1.1"][..], true), (&["h2", "http/1.1"], false), (&[], true)] {
        let vendor = TlsVendor::start(offered).await;
        let gateway = vendor.gateway(|config| config.upstream.http2 = http2).await;
        for _ in 0..3 {
            assert_eq!(gateway.chat(CHAT).await.status, StatusCode::OK);
        }
        assert_eq!(*vendor.state.versions.lock().unwrap(), [Version::HTTP_11; 3]);
        assert_eq!(vendor.state.connections.load(Ordering::SeqCst), 1, "the connection is used again");
    }
}

#[tokio::test]
async fn an_authority_that_nobody_trusts_is_refused() {
    let vendor = TlsVendor::start(&["h2"]).await;
    let gateway = vendor.gateway(|config| config.upstream.tls = UpstreamTls::new(None).unwrap()).await;
    let answer = gateway.chat(CHAT).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (502, &"upstream_unreachable".into()));
    assert!(vendor.state.versions.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_connection_without_end_is_bounded_with_its_handshake() {
    // It takes connections, and never says a word of TLS.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = TestGateway::start_with(|config| {
        config.connect_timeout = Duration::from_millis(200);
        config.first_byte_timeout = Duration::from_secs(60);
    })
    .await;
    bind(&gateway, &format!("https://{}/v1", silent.local_addr().unwrap())).await;
    let answer = tokio::time::timeout(Duration::from_secs(10), gateway.chat(CHAT)).await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (502, &"upstream_unreachable".into()));
}

/// Reads one request from a connection of HTTP/1.1; none where it has ended.
async fn read_request(stream: &mut tokio::net::TcpStream) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if let (Some(head), Some(length)) = (text.find("\r\n\r\n"), length)
            && read.len() >= head + 4 + length
        {
            return Some(read);
        }
        let mut buffer = [0; 4_096];
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        read.extend_from_slice(&buffer[..count]);
    }
}

/// A vendor over plain TCP that answers the first request of each connection; what becomes of the next is told by
/// `reads_next`: read and left without an answer, or never read as the connection is closed first.
async fn fickle_vendor(reads_next: bool) -> (SocketAddr, Arc<AtomicUsize>, JoinSet<()>) {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    let mut accepting = JoinSet::new();
    accepting.spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            if read_request(&mut stream).await.is_none() {
                continue;
            }
            counted.fetch_add(1, Ordering::SeqCst);
            let length = ANSWER.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(format!("{head}{ANSWER}").as_bytes()).await.unwrap();
            if reads_next && read_request(&mut stream).await.is_some() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    (address, requests, accepting)
}

#[tokio::test]
async fn a_closed_connection_of_the_pool_costs_no_call() {
    let (address, requests, _vendor) = fickle_vendor(false).await;
    let gateway = TestGateway::start().await;
    bind(&gateway, &format!("http://{address}/v1")).await;
    for _ in 0..20 {
        assert_eq!(gateway.chat(CHAT).await.status, StatusCode::OK);
    }
    assert_eq!(requests.load(Ordering::SeqCst), 20);
}

#[tokio::test]
async fn a_call_that_was_read_is_not_sent_again_by_the_transport() {
    let (address, requests, _vendor) = fickle_vendor(true).await;
    let gateway = TestGateway::start().await;
    bind(&gateway, &format!("http://{address}/v1")).await;
    assert_eq!(gateway.chat(CHAT).await.status, StatusCode::OK);
    // It goes out on the kept connection, is read, and gets no answer.
    let lost = gateway.chat(CHAT).await;
    assert_eq!((lost.status.as_u16(), lost.header("x-ez-attempts")), (502, None), "{}", lost.text());
    assert_eq!(requests.load(Ordering::SeqCst), 2);
}
