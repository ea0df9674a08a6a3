//! Connections to upstreams: the names of hosts are checked once they are resolved, and TCP and TLS together are bounded
//! in time.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ez_contract::reach::Reach;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

use crate::config::UpstreamConfig;

/// How long a connection may be silent before the system asks for a sign of life.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

type BoxError = Box<dyn Error + Send + Sync>;
type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Opens connections.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<HttpConnector<GuardedResolver>>,
    versions: Versions,
    timeout: Duration,
}

/// Resolves names, and refuses those that lead to addresses which no base URL may have.
#[derive(Clone)]
pub(super) struct GuardedResolver;

/// What is offered within TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Versions {
    Http1,
    Http2,
    /// Both, for the server to choose.
    Negotiated,
}

/// Connections with TLS where the URL says so. Redirects are the caller's to follow, and it follows none.
pub(super) fn connector(config: &UpstreamConfig, versions: Versions, timeout: Duration) -> Connector {
    let mut tcp = HttpConnector::new_with_resolver(GuardedResolver);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(timeout));
    tcp.set_keepalive(Some(TCP_KEEPALIVE));
    tcp.enforce_http(false);
    let tls = HttpsConnectorBuilder::new().with_tls_config(config.tls.client_config().as_ref().clone()).https_or_http();
    let https = match versions {
        Versions::Http1 => tls.enable_http1().wrap_connector(tcp),
        Versions::Http2 => tls.enable_http2().wrap_connector(tcp),
        Versions::Negotiated => tls.enable_all_versions().wrap_connector(tcp),
    };
    Connector { https, versions, timeout }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Boxed<Self::Response, BoxError>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, versions, bound) = (self.https.call(uri), self.versions, self.timeout);
        Box::pin(async move {
            let late = |_| Err(format!("no connection within {} ms", bound.as_millis()).into());
            let stream = tokio::time::timeout(bound, connecting).await.unwrap_or_else(late)?;
            // A server without a notion of versions agrees to none, and would not understand this one.
            if versions == Versions::Http2 && !stream.connected().is_negotiated_h2() {
                return Err("the server does not speak HTTP/2 any more".into());
            }
            Ok(stream)
        })
    }
}

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Boxed<Self::Response, io::Error>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            checked(addresses)
        })
    }
}

/// The addresses of a name. One of them out of reach and none is good: such a name is set up to deceive, or by mistake.
fn checked(addresses: Vec<SocketAddr>) -> io::Result<std::vec::IntoIter<SocketAddr>> {
    for address in &addresses {
        Reach::Operator.check_address(address.ip()).map_err(io::Error::other)?;
    }
    Ok(addresses.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_to_a_metadata_service_leads_nowhere() {
        let resolved = |texts: &[&str]| checked(texts.iter().map(|text| text.parse().unwrap()).collect());
        assert!(resolved(&["127.0.0.1:0", "10.0.0.1:0", "[2606:4700::1111]:0"]).is_ok());
        for bad in ["169.254.169.254:0", "[::ffff:169.254.169.254]:0", "[fd00:ec2::254]:0"] {
            let error = resolved(&["203.0.113.1:0", bad]).unwrap_err();
            assert!(error.to_string().contains("metadata"), "{error}");
        }
    }

    #[tokio::test]
    async fn names_are_resolved_before_they_are_checked() {
        let mut found = GuardedResolver.call("localhost".parse().unwrap()).await.unwrap();
        assert!(found.all(|address| address.ip().is_loopback()));
    }
}
