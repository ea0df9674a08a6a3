//! A tenant that can call a simulated upstream, made through the admin API as a person would.

use std::time::Duration;

use anyhow::Context;
use http::Method;
use serde_json::{Value, json};

use super::Sandbox;
use crate::http_client::HttpClient;

/// What to set up.
#[derive(Debug, Clone)]
pub struct TenantPlan {
    /// Makes the names of this tenant's records unique.
    pub name: String,
    /// Base URL of the upstream, as its SDK takes it.
    pub base_url: String,
    /// Secrets of the upstream's API keys.
    pub secrets: Vec<String>,
    /// Public model name to upstream model name.
    pub models: Vec<(String, String)>,
    /// Further fields of the child key as the admin API names them, such as its limits; an object.
    pub key: Value,
}

impl TenantPlan {
    /// Two API keys (`sk-up-1`, `sk-up-2`) and the model `gpt-sim`, asked upstream as `sim-large`.
    pub fn simple(name: &str, base_url: &str) -> Self {
        Self {
            name: name.to_owned(),
            base_url: base_url.to_owned(),
            secrets: vec!["sk-up-1".to_owned(), "sk-up-2".to_owned()],
            models: vec![("gpt-sim".to_owned(), "sim-large".to_owned())],
            key: json!({}),
        }
    }
}

/// What was set up.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// The provider group.
    pub group_id: i64,
    /// The master.
    pub master_id: i64,
    /// Its key, in clear.
    pub master_key: String,
    /// The child key.
    pub key_id: i64,
    /// Its token, in clear.
    pub token: String,
}

impl Tenant {
    /// Makes provider group, API keys, master, child key and bindings, and waits until the gateway serves them.
    pub async fn create(sandbox: &Sandbox, plan: &TenantPlan) -> anyhow::Result<Self> {
        let admin = sandbox.admin();
        let upstream_models: Vec<&String> = plan.models.iter().map(|(_, upstream)| upstream).collect();
        let group = admin
            .post(
                "/admin/provider-groups",
                &json!({
                    "name": format!("{}-upstream", plan.name), "type": "compatible",
                    "base_url": plan.base_url, "models": upstream_models,
                }),
            )
            .await?;
        let group_id = id_of(&group)?;
        for secret in &plan.secrets {
            admin.post("/admin/api-keys", &json!({"group_id": group_id, "api_key": secret})).await?;
        }
        for (public_model, upstream_model) in &plan.models {
            admin
                .post(
                    "/admin/bindings",
                    &json!({
                        "namespace": "default", "public_model": public_model, "group_id": group_id,
                        "selector_value": upstream_model,
                    }),
                )
                .await?;
        }
        let master = admin.post("/admin/masters", &json!({"name": plan.name})).await?;
        let master_id = id_of(&master)?;
        let mut key = plan.key.clone();
        key["name"] = json!("app");
        let key = admin.post(&format!("/admin/masters/{master_id}/keys"), &key).await?;
        let tenant = Self {
            group_id,
            master_id,
            master_key: text_of(&master, "master_key")?,
            key_id: id_of(&key)?,
            token: text_of(&key, "token")?,
        };
        tenant.wait_until_served(sandbox, plan.models.len()).await?;
        Ok(tenant)
    }

    async fn wait_until_served(&self, sandbox: &Sandbox, models: usize) -> anyhow::Result<()> {
        let gateway: &HttpClient = &sandbox.gateway_as(&self.token);
        sandbox
            .eventually("the gateway serves the new tenant", Duration::from_secs(10), || async move {
                let answer = gateway.call(Method::GET, "/v1/models", "").await?;
                let listed = answer.json()["data"].as_array().map_or(0, Vec::len);
                Ok(answer.status.is_success() && listed >= models)
            })
            .await
    }
}

/// The `id` of a record.
fn id_of(record: &Value) -> anyhow::Result<i64> {
    record["id"].as_i64().with_context(|| format!("no id in {record}"))
}

fn text_of(record: &Value, field: &str) -> anyhow::Result<String> {
    Ok(record[field].as_str().with_context(|| format!("no {field} in the answer"))?.to_owned())
}
