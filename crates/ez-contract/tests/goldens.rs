//! Each shape of the contract reads its golden file and writes it back byte for byte.

#![allow(clippy::expect_used, reason = "a test stops where it fails")]

use ez_contract::UsageRecord;
use ez_contract::alerts::AlertFinding;
use ez_contract::capability::{FIELDS, Field, Shape};
use ez_contract::flush::ApiKeyFlush;
use ez_contract::health::{CredentialReport, HealthState};
use ez_contract::live::LiveReport;
use ez_contract::models::ModelsMeta;
use ez_contract::request_body::RequestBody;
use ez_contract::snapshot::{
    BindingSnapshot, ConfigEvent, MasterSnapshot, ModelSnapshot, ProviderSnapshot, TokenSnapshot,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn check<Shape: Serialize + DeserializeOwned>(golden: &str) {
    let shape: Shape = serde_json::from_str(golden).expect("the golden file has the shape");
    let written = serde_json::to_string(&shape).expect("the shape serialises");
    assert_eq!(written, golden.trim_end());
}

#[test]
fn every_shape_is_byte_for_byte_its_golden_file() {
    check::<ProviderSnapshot>(include_str!("../goldens/provider.json"));
    check::<ProviderSnapshot>(include_str!("../goldens/provider_full.json"));
    check::<ModelSnapshot>(include_str!("../goldens/model.json"));
    check::<ModelSnapshot>(include_str!("../goldens/model_priced.json"));
    check::<ModelSnapshot>(include_str!("../goldens/model_capabilities.json"));
    check::<ModelsMeta>(include_str!("../goldens/models_meta.json"));
    check::<BindingSnapshot>(include_str!("../goldens/binding.json"));
    check::<TokenSnapshot>(include_str!("../goldens/token.json"));
    check::<TokenSnapshot>(include_str!("../goldens/token_bare.json"));
    check::<MasterSnapshot>(include_str!("../goldens/master.json"));
    check::<ConfigEvent>(include_str!("../goldens/config_event.json"));
    check::<UsageRecord>(include_str!("../goldens/usage_record.json"));
    check::<RequestBody>(include_str!("../goldens/request_body.json"));
    check::<ApiKeyFlush>(include_str!("../goldens/apikey_stats_flush.json"));
    check::<HealthState>(include_str!("../goldens/health_cooldown.json"));
    check::<HealthState>(include_str!("../goldens/health_breaker.json"));
    check::<CredentialReport>(include_str!("../goldens/report_ban.json"));
    check::<CredentialReport>(include_str!("../goldens/report_cooldown.json"));
    check::<CredentialReport>(include_str!("../goldens/report_breaker.json"));
    check::<AlertFinding>(include_str!("../goldens/report_alert.json"));
    check::<LiveReport>(include_str!("../goldens/live_report.json"));
}

#[test]
fn every_field_and_word_of_capabilities_is_documented() {
    let page = include_str!("../../../docs/capabilities.md");
    fn check(page: &str, fields: &[Field]) {
        for field in fields {
            let words: Vec<&str> = match field.shape {
                Shape::Flag => vec!["true", "false"],
                Shape::Word(allowed) | Shape::Words { allowed, .. } => allowed.to_vec(),
                Shape::Tokens { max, .. } => {
                    assert!(page.contains(&format!(" to {max}")), "{}", field.name);
                    Vec::new()
                }
                Shape::Styled(styles) => {
                    styles.iter().for_each(|style| check(page, style.fields));
                    styles.iter().map(|style| style.name).collect()
                }
            };
            for word in words.iter().chain([&field.name]) {
                assert!(page.contains(&format!("`{word}`")), "{}: {word}", field.name);
            }
        }
    }
    check(page, FIELDS);
}

#[test]
fn unknown_fields_of_a_newer_minor_version_are_ignored() {
    let golden = include_str!("../goldens/master.json").replacen('{', r#"{"new_field":1,"#, 1);
    assert!(serde_json::from_str::<MasterSnapshot>(&golden).is_ok());
    // So is what a model is newly said to take; a gateway tells what of it counts.
    let golden = include_str!("../goldens/model_capabilities.json").replace("token_cap", "telepathy");
    let model: ModelSnapshot = serde_json::from_str(&golden).expect("the fields of capabilities are open");
    assert!(model.capabilities["vendor/house-llm"].contains_key("telepathy"));
}
