//! A tenant that can call a simulated upstream, made through the admin API as a person would.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context;
use http::Method;
use serde_json::{Value, json};

use super::Sandbox;
use crate::http_client::HttpClient;
use crate::upstream::SimUpstream;

/// What to set up.
#[derive(Debug, Clone)]
pub struct TenantPlan {
    /// Makes the names of this tenant's records unique.
    pub name: String,
    /// Type of the provider group.
    pub provider_type: String,
    /// The protocols that the upstream speaks; empty is those of its type.
    pub protocols: Vec<String>,
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
            provider_type: "compatible".to_owned(),
            protocols: Vec::new(),
            base_url: base_url.to_owned(),
            secrets: vec!["sk-up-1".to_owned(), "sk-up-2".to_owned()],
            models: vec![("gpt-sim".to_owned(), "sim-large".to_owned())],
            key: json!({}),
        }
    }

    /// Two API keys of a provider group of this type, and one model that is called alike on both sides.
    pub fn of_type(provider_type: &str, base_url: &str, model: &str) -> Self {
        let name = format!("{provider_type}-{model}");
        let models = vec![(model.to_owned(), model.to_owned())];
        Self { provider_type: provider_type.to_owned(), models, ..Self::simple(&name, base_url) }
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
        let group_id = create_upstream(sandbox, plan).await?;
        let admin = sandbox.admin();
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
        tenant.wait_until_served(sandbox, plan).await?;
        Ok(tenant)
    }

    /// A tenant that can call one upstream in every protocol: `gpt-sim` (chat and Responses), `claude-sim` and
    /// `gemini-sim`.
    pub async fn create_with_every_protocol(sandbox: &Sandbox, upstream: &SimUpstream) -> anyhow::Result<Self> {
        let (base_url, openai_base_url) = (upstream.base_url(), upstream.openai_base_url());
        let tenant = Self::create(sandbox, &TenantPlan::of_type("openai", &openai_base_url, "gpt-sim")).await?;
        tenant.add_upstream(sandbox, &TenantPlan::of_type("anthropic", &base_url, "claude-sim")).await?;
        tenant.add_upstream(sandbox, &TenantPlan::of_type("gemini", &base_url, "gemini-sim")).await?;
        Ok(tenant)
    }

    /// Makes another provider group with API keys and bindings, and waits until every gateway serves its models.
    pub async fn add_upstream(&self, sandbox: &Sandbox, plan: &TenantPlan) -> anyhow::Result<()> {
        create_upstream(sandbox, plan).await?;
        self.wait_until_served(sandbox, plan).await
    }

    async fn wait_until_served(&self, sandbox: &Sandbox, plan: &TenantPlan) -> anyhow::Result<()> {
        let are_listed = |list: &Value| {
            let models = list["data"].as_array().into_iter().flatten();
            let listed: HashSet<&str> = models.filter_map(|model| model["id"].as_str()).collect();
            plan.models.iter().all(|(public_model, _)| listed.contains(public_model.as_str()))
        };
        for gateway in &sandbox.every_gateway_as(&self.token) {
            let served = sandbox.eventually("the gateway serves the new tenant", Duration::from_secs(10), || async {
                let answer = gateway.call(Method::GET, "/v1/models", "").await?;
                Ok(answer.status.is_success() && are_listed(&answer.json()))
            });
            served.await?;
        }
        Ok(())
    }
}

/// Makes a provider group with API keys and bindings, and tells its id.
async fn create_upstream(sandbox: &Sandbox, plan: &TenantPlan) -> anyhow::Result<i64> {
    let admin: &HttpClient = &sandbox.admin();
    let upstream_models: Vec<&String> = plan.models.iter().map(|(_, upstream)| upstream).collect();
    let mut group = json!({
        "name": format!("{}-upstream", plan.name), "type": plan.provider_type, "base_url": plan.base_url,
        "models": upstream_models,
    });
    if !plan.protocols.is_empty() {
        group["protocols"] = json!(plan.protocols);
    }
    let group = admin.post("/admin/provider-groups", &group).await?;
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
    Ok(group_id)
}

/// The `id` of a record.
fn id_of(record: &Value) -> anyhow::Result<i64> {
    record["id"].as_i64().with_context(|| format!("no id in {record}"))
}

fn text_of(record: &Value, field: &str) -> anyhow::Result<String> {
    Ok(record[field].as_str().with_context(|| format!("no {field} in the answer"))?.to_owned())
}
