//! The line to the control plane over HTTP: what its answers mean.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ez_contract::alerts::{AlertFinding, AlertSeverity, AlertType};
use ez_gateway::config::UpstreamTls;
use ez_gateway::listener::{self, Bounds, Drain};
use ez_gateway::{ControlLink, HttpControlLink, LentBody};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[tokio::test]
async fn alerts_that_a_control_plane_rejects_are_an_error_with_every_reason() {
    // As wide as a control plane may tell it, for as many as may be reported at once.
    let reason = "\u{1f600}".repeat(500);
    let answer = {
        let reason = reason.clone();
        move |_: SocketAddr, request: Request<LentBody>| {
            let reason = reason.clone();
            async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let report: Value = serde_json::from_slice(&body).unwrap();
                let told = |(index, alert): (usize, &Value)| {
                    (alert["title"] == "").then(|| json!({"index": index, "reason": reason}))
                };
                let alerts = report["alerts"].as_array().unwrap();
                let rejected: Vec<Value> = alerts.iter().enumerate().filter_map(told).collect();
                let answer = json!({"raised": 1, "updated": 0, "suppressed": 0, "rejected": rejected});
                Response::new(Full::new(Bytes::from(answer.to_string())))
            }
        }
    };
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", tcp.local_addr().unwrap());
    let (serving, ended) = (TaskTracker::new(), CancellationToken::new());
    let drain = Drain { stop: ended.clone(), cut_off: CancellationToken::new(), timeout: Duration::from_secs(1) };
    serving.spawn(listener::serve(tcp, answer, Bounds { name: "control", max_connections: 10 }, drain));
    let link = HttpControlLink::new(&url, "token-of-the-planes", UpstreamTls::new(None).unwrap()).unwrap();
    let alert = |title: &str| AlertFinding {
        alert_type: AlertType::System,
        severity: AlertSeverity::Warning,
        title: title.to_owned(),
        message: String::new(),
        related_type: None,
        related_id: None,
        related_name: None,
        metadata: serde_json::Map::new(),
        fingerprint: "system:test".to_owned(),
    };
    link.report_alerts(&[alert("fine")]).await.unwrap();
    let refused = link.report_alerts(&[alert("fine"), alert("")]).await.unwrap_err().to_string();
    assert_eq!(refused, format!("the control plane refused: it rejected 1 of 2 alerts: alert 1: {reason}"));
    let refused = link.report_alerts(&vec![alert(""); 100]).await.unwrap_err().to_string();
    assert!(refused.contains("it rejected 100 of 100 alerts: alert 0: ") && refused.contains("alert 99: "));
    ended.cancel();
    serving.close();
    serving.wait().await;
}
