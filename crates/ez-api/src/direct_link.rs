//! The gateway's line to a control plane in the same process.

use ez_contract::health::CredentialReport;
use ez_contract::snapshot::GatewayHeartbeat;
use ez_control::{Control, Origin, credential_reports, logs, sync};
use ez_gateway::control_link::{LinkFuture, RejectedRecord};
use ez_gateway::{ControlLink, ControlLinkError, IngestReport, UsageBatch};

/// Hands usage records, heartbeats and reports on credentials straight to the rules that take them.
pub(crate) struct DirectLink(pub(crate) Control);

impl ControlLink for DirectLink {
    fn ingest<'a>(&'a self, batch: &'a UsageBatch) -> LinkFuture<'a, IngestReport> {
        Box::pin(async move {
            let records: Vec<&[u8]> = batch.records().collect();
            let report = logs::ingest_json(&self.0, &records).await;
            let report = report.map_err(|e| ControlLinkError::Refused(e.to_string()))?;
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
}
