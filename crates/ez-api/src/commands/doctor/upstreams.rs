//! Upstreams: whether each active provider group's server takes a connection, TLS included. No call is made.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use ez_contract::ProviderType;
use ez_contract::google::vertex_base_url;
use ez_contract::status::RecordStatus;
use ez_control::Control;
use ez_gateway::config::UpstreamTls;
use ez_store::provider_groups;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::task::JoinSet;
use tower::ServiceExt;
use url::Url;

use super::report::Report;

const CHECK: &str = "upstream";

/// For one connection with its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that are tried at once.
const AT_ONCE: usize = 16;

/// Servers that are tried; an installation with more has them watched.
const MAX_SERVERS: usize = 256;

/// Connects to the server of each active provider group, each server once.
pub(super) async fn examine(control: &Control, tls: &UpstreamTls, report: &mut Report) {
    let groups = match provider_groups::list_all(control.store()).await {
        Ok(groups) => groups,
        Err(error) => {
            return report.fail(CHECK, format!("the provider groups cannot be read: {error}"), "see the database");
        }
    };
    let mut servers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for group in groups.into_iter().filter(|group| group.status == RecordStatus::Active) {
        let default = group.provider_type.default_base_url().unwrap_or_default();
        // Vertex has a host per location.
        let of_location =
            (group.provider_type == ProviderType::Vertex).then(|| vertex_base_url(&group.google_location));
        let default = of_location.flatten().unwrap_or_else(|| default.to_owned());
        let base_url = if group.base_url.is_empty() { &default } else { &group.base_url };
        match origin(base_url) {
            Some(origin) => servers.entry(origin).or_default().push(group.name),
            None => {
                let told = format!("provider group `{}` has no base URL that can be called", group.name);
                report.fail(CHECK, told, "give it one, or suspend it");
            }
        }
    }
    if servers.is_empty() {
        report.warn(CHECK, "there is no active provider group", "create one: POST /admin/provider-groups");
    }
    if servers.len() > MAX_SERVERS {
        let told = format!("only {MAX_SERVERS} of {} servers are tried", servers.len());
        report.warn(CHECK, told, "watch the others by their calls");
    }
    let connector = connector(tls);
    let mut waiting = servers.into_iter().take(MAX_SERVERS);
    let mut trying = JoinSet::new();
    let mut outcomes = BTreeMap::new();
    loop {
        while trying.len() < AT_ONCE
            && let Some((origin, groups)) = waiting.next()
        {
            let connector = connector.clone();
            trying.spawn(async move { (connect(connector, &origin).await, origin, groups) });
        }
        match trying.join_next().await {
            Some(Ok((outcome, origin, groups))) => drop(outcomes.insert(origin, (outcome, groups))),
            Some(Err(error)) => report.fail(CHECK, format!("a connection could not be tried: {error}"), "try again"),
            None => break,
        }
    }
    for (origin, (outcome, groups)) in outcomes {
        let names = groups.join(", ");
        match outcome {
            Ok(()) => report.ok(CHECK, format!("{origin} takes connections ({names})")),
            Err(reason) => {
                let advice = "check name resolution, firewall, proxy and certificate of this host, and the base URL";
                report.fail(CHECK, format!("{origin} cannot be reached ({names}): {reason}"), advice);
            }
        }
    }
}

/// Connects to the control plane that a gateway of its own sends usage records to.
pub(super) async fn examine_control_plane(control_url: &str, tls: &UpstreamTls, report: &mut Report) {
    const CHECK: &str = "control plane";
    let outcome = match origin(control_url) {
        Some(origin) => connect(connector(tls), &origin).await,
        None => Err("EZ_CONTROL_URL is not valid".to_owned()),
    };
    match outcome {
        Ok(()) => report.ok(CHECK, "EZ_CONTROL_URL takes connections"),
        Err(reason) => {
            let advice = "start it, or correct EZ_CONTROL_URL; usage records wait on this disk meanwhile";
            report.fail(CHECK, format!("EZ_CONTROL_URL cannot be reached: {reason}"), advice);
        }
    }
}

/// Scheme, host and port of a base URL.
fn origin(base_url: &str) -> Option<String> {
    let url = Url::parse(base_url).ok()?;
    let port = url.port_or_known_default()?;
    Some(format!("{}://{}:{port}", url.scheme(), url.host()?))
}

fn connector(tls: &UpstreamTls) -> HttpsConnector<HttpConnector> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let tls = tls.client_config().as_ref().clone();
    HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp)
}

async fn connect(connector: HttpsConnector<HttpConnector>, origin: &str) -> Result<(), String> {
    let uri: Uri = origin.parse().map_err(|_| "the base URL is not valid".to_owned())?;
    match tokio::time::timeout(CONNECT_TIMEOUT, connector.oneshot(uri)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => {
            let first: &(dyn Error + 'static) = error.as_ref();
            let causes = std::iter::successors(Some(first), |&cause| cause.source());
            Err(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
        }
        Err(_) => Err(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_told_apart_by_scheme_host_and_port() {
        assert_eq!(origin("https://api.openai.com/v1").as_deref(), Some("https://api.openai.com:443"));
        assert_eq!(origin("http://[::1]:8000/v1").as_deref(), Some("http://[::1]:8000"));
        assert_eq!(origin(""), None);
    }
}
