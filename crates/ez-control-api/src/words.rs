//! OpenAPI schemas of the closed sets of words, taken from the sets themselves.

use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Defines a schema-only type for each word set, so that a DTO can say `value_type = words::RecordStatus`.
macro_rules! word_schemas {
    ($($(#[$doc:meta])* $name:ident = $path:path;)+) => {
        $(
            $(#[$doc])*
            pub(crate) struct $name;

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    use $path as Words;
                    words(Words::ALL.iter().map(|word| word.as_str()))
                }
            }

            impl ToSchema for $name {}
        )+
    };
}

word_schemas! {
    /// State of a master, namespace, provider group or binding.
    RecordStatus = ez_contract::status::RecordStatus;
    /// State of a child key.
    KeyStatus = ez_contract::status::KeyStatus;
    /// State of an API key.
    ApiKeyStatus = ez_contract::status::ApiKeyStatus;
    /// Type of a provider group.
    ProviderType = ez_contract::ProviderType;
    /// A wire protocol.
    Protocol = ez_contract::Protocol;
    /// How a binding picks the upstream model.
    SelectorType = ez_contract::selector::SelectorType;
    /// What becomes of a stream whose client left before its end.
    ClientGone = ez_contract::snapshot::ClientGone;
    /// A temporary state of an API key.
    HealthKind = ez_contract::health::HealthKind;
    /// State of a circuit breaker.
    BreakerState = ez_contract::health::BreakerState;
    /// Why a candidate cannot serve.
    CandidateError = ez_contract::snapshot::CandidateError;
    /// How token counts came about.
    UsageSource = ez_contract::usage::UsageSource;
    /// How a request body is written.
    BodyEncoding = ez_contract::request_body::BodyEncoding;
    /// Who ended a call.
    EndedBy = ez_contract::usage::EndedBy;
    /// Who acted.
    ActorKind = ez_store::ActorKind;
    /// Who issued a child key.
    IssuedBy = ez_store::IssuedBy;
    /// How often a quota starts anew.
    QuotaReset = ez_store::QuotaReset;
    /// Kind of an entry in the snapshot.
    SnapshotKind = ez_contract::snapshot::SnapshotKind;
    /// What a run of a job came to.
    JobOutcome = ez_control::scheduler::JobOutcome;
    /// What an alert is about.
    AlertType = ez_contract::alerts::AlertType;
    /// How bad an alert is.
    AlertSeverity = ez_contract::alerts::AlertSeverity;
    /// Where an alert stands.
    AlertStatus = ez_store::AlertStatus;
    /// What a model is for.
    ModelKind = ez_contract::models::ModelKind;
    /// State of a webhook's delivery.
    DeliveryStatus = ez_store::DeliveryStatus;
    /// Kind of a record.
    RecordKind = ez_store::RecordKind;
}

fn words(allowed: impl Iterator<Item = &'static str>) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(allowed)).into()
}
