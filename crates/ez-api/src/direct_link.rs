//! The gateway's line to a control plane in the same process.

use ez_contract::alerts::AlertFinding;
use ez_contract::flush::ApiKeyFlush;
use ez_contract::health::CredentialReport;
use ez_contract::snapshot::GatewayHeartbeat;
use ez_control::{Control, ControlError, Origin, alerts, credential_reports, flushes, logs, sync};
use ez_gateway::control_link::{LinkFuture, RejectedAlert, RejectedRecord};
use ez_gateway::{ControlLink, ControlLinkError, IngestReport, UsageBatch};

/// Hands usage records, heartbeats, reports on credentials, alerts and counts of attempts straight to the rules that take
/// them.
pub(crate) struct DirectLink(pub(crate) Control);

impl ControlLink for DirectLink {
    fn ingest<'a>(&'a self, batch: &'a UsageBatch) -> LinkFuture<'a, IngestReport> {
        Box::pin(async move {
            let records: Vec<&[u8]> = batch.records().collect();
            let report = logs::ingest_json(&self.0, &records).await;
            let report = report.map_err(|e| match e {
                ControlError::Overloaded { retry_after } | ControlError::Busy { retry_after, .. } => {
                    ControlLinkError::Busy { retry_after }
                }
                e => ControlLinkError::Refused(e.to_string()),
            })?;
            let told = |logs::RejectedRecord { index, id, reason }| RejectedRecord { index, id, reason };
            let rejected = report.rejected.into_iter().map(told).collect();
            Ok(IngestReport { accepted: report.accepted, duplicates: report.duplicates, rejected })
        })
    }

    fn heartbeat<'a>(&'a self, heartbeat: &'a GatewayHeartbeat) -> LinkFuture<'a, ()> {
        Box::pin(async move {
            let told = sync::heartbeat(&self.0, heartbeat.clone()).await;
            told.map_err(|e| ControlLinkError::Refused(e.to_string()))
        })
    }

    fn report<'a>(&'a self, reports: &'a [CredentialReport]) -> LinkFuture<'a, ()> {
        Box::pin(async move {
            let reports = reports.iter().map(serde_json::to_value).collect::<Result<_, _>>();
            let reports = reports.map_err(|e| ControlLinkError::Refused(e.to_string()))?;
            let taken = credential_reports::take(&self.0, Origin::default(), reports).await;
            taken.map(drop).map_err(|e| ControlLinkError::Refused(e.to_string()))
        })
    }

    fn report_alerts<'a>(&'a self, found: &'a [AlertFinding]) -> LinkFuture<'a, ()> {
        Box::pin(async move {
            let reports = found.iter().map(serde_json::to_value).collect::<Result<_, _>>();
            let reports = reports.map_err(|e| ControlLinkError::Refused(e.to_string()))?;
            let taken = alerts::take(&self.0, Origin::default(), reports).await;
            let taken = taken.map_err(|e| ControlLinkError::Refused(e.to_string()))?;
            let told = |alerts::RejectedAlert { index, reason }| RejectedAlert { index, reason };
            let rejected: Vec<_> = taken.rejected.into_iter().map(told).collect();
            ControlLinkError::of_rejected(&rejected, found.len())
        })
    }

    fn flush_api_keys<'a>(&'a self, flush: &'a ApiKeyFlush) -> LinkFuture<'a, ()> {
        Box::pin(async move {
            let taken = flushes::flush_api_keys(&self.0, flush).await;
            taken.map(drop).map_err(|e| ControlLinkError::Refused(e.to_string()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ez_contract::alerts::{AlertSeverity, AlertType};
    use ez_contract::secret::SecretKey;
    use ez_control::{ControlConfig, ControlParts};
    use ez_state::SharedState;
    use ez_store::alerts::{AlertFilter, list};
    use ez_store::{ConnectOptions, Store};
    use ez_testkit::clock::FakeClock;
    use ez_testkit::database::TestDatabase;
    use secrecy::SecretString;

    use super::*;

    #[tokio::test]
    async fn an_alert_that_is_rejected_is_an_error_and_the_others_are_taken() {
        let database = TestDatabase::sqlite();
        let store = Store::connect(database.url(), ConnectOptions::default()).await.unwrap();
        store.migrate().await.unwrap();
        let secret = |text: &str| Some(SecretString::from(text));
        let parts = ControlParts {
            store,
            state: SharedState::in_process(),
            clock: Arc::new(FakeClock::now()),
            secret_key: Arc::new(SecretKey::from_bytes(&[7; 32]).unwrap()),
            config: ControlConfig {
                admin_token: secret("admin-token-of-the-test"),
                jwt_secret: secret("jwt-secret-of-the-test"),
                ..ControlConfig::default()
            },
        };
        let (control, _) = Control::prepare(parts).await.unwrap();
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
        let link = DirectLink(control.clone());
        let refused = link.report_alerts(&[alert("a fault"), alert("")]).await.unwrap_err().to_string();
        assert_eq!(refused, "the control plane refused: it rejected 1 of 2 alerts: alert 1: `title` must not be empty");
        link.report_alerts(&[alert("a fault")]).await.unwrap();
        let raised = list(control.store(), &AlertFilter::default(), None, 10).await.unwrap();
        assert_eq!((raised.len(), raised[0].occurrences), (1, 2));
    }
}
