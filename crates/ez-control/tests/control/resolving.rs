//! Routing decisions, explained as gateways make them.

use std::time::Duration;

use ez_contract::routing::can_serve;
use ez_contract::selector::SelectorType;
use ez_contract::snapshot::{SnapshotEntry, SnapshotKey};
use ez_contract::status::{ApiKeyStatus, KeyStatus, RecordStatus};
use ez_control::api_keys::ChangeApiKey;
use ez_control::bindings::{ChangeBinding, CreateBinding};
use ez_control::child_keys::{ChangeChildKey, CreateChildKey};
use ez_control::masters::{ChangeMaster, CreateMaster};
use ez_control::namespaces::ChangeNamespace;
use ez_control::provider_groups::ChangeProviderGroup;
use ez_control::resolve::{Resolution, ResolveRequest, Verdict, resolve};
use ez_control::{ControlError, Tenant, bindings, child_keys, masters, namespaces, provider_groups};
use serde_json::json;

use crate::support::{Plane, model_of, openai_group, origin, pointers, secret_in};

impl Plane {
    async fn try_resolve(&self, model: &str, key_id: Option<i64>) -> Result<Resolution, ControlError> {
        resolve(&self.control, ResolveRequest { model: model.to_owned(), key_id, namespace: None }).await
    }

    async fn resolve(&self, model: &str, key_id: Option<i64>) -> Resolution {
        self.try_resolve(model, key_id).await.unwrap()
    }

    /// Whether a gateway that has the published snapshot has something to send a call to.
    async fn is_served_by_snapshot(&self, name: &str) -> bool {
        self.publish().await;
        let Some(SnapshotEntry::Binding(binding)) = self.published(&SnapshotKey::Binding(name.to_owned())).await else {
            return false;
        };
        let mut is_served = false;
        for id in binding.candidates.iter().filter(|candidate| can_serve(candidate)).flat_map(|c| c.upstreams.keys()) {
            let upstream = self.published(&SnapshotKey::Provider(*id)).await;
            is_served |= matches!(upstream, Some(SnapshotEntry::Provider(upstream))
                if upstream.status == ApiKeyStatus::Active && upstream.weight != Some(0));
        }
        is_served && binding.status == RecordStatus::Active
    }

    async fn change_binding(&self, id: i64, change: ChangeBinding) {
        let write = self.write().await;
        bindings::update(&write, id, change).await.unwrap();
        write.commit().await.unwrap();
    }

    async fn switch_group(&self, id: i64, status: RecordStatus) {
        let write = self.write().await;
        let change = ChangeProviderGroup { status: Some(status), ..ChangeProviderGroup::default() };
        provider_groups::update(&write, id, change).await.unwrap();
        write.commit().await.unwrap();
    }

    async fn switch_namespace(&self, id: i64, status: RecordStatus) {
        let write = self.write().await;
        let change = ChangeNamespace { status: Some(status), ..ChangeNamespace::default() };
        namespaces::update(&write, id, change).await.unwrap();
        write.commit().await.unwrap();
    }

    async fn change_key(&self, id: i64, change: ChangeChildKey) {
        let write = self.write().await;
        child_keys::update(&write, Tenant::Any, id, change).await.unwrap();
        write.commit().await.unwrap();
    }
}

/// `served`, or status and code of the refusal.
fn told(resolution: &Resolution) -> String {
    match &resolution.verdict {
        Verdict::Served => "served".to_owned(),
        Verdict::Refused { status, code, .. } => format!("{status} {code}"),
    }
}

pub(crate) async fn the_verdict_is_what_the_snapshot_makes_of_it(plane: Plane) {
    let group = plane.group("openai").await;
    let api_key = plane.api_key(group.id).await;
    let check = async |case: &str, expected: &str| {
        let resolution = plane.resolve("m", None).await;
        assert_eq!(told(&resolution), expected, "{case}");
        let is_served = plane.is_served_by_snapshot("default.m").await;
        assert_eq!(is_served, expected == "served", "{case}: the snapshot says otherwise");
        resolution
    };
    check("nothing is bound", "404 model_not_found").await;
    let binding = plane.binding(group.id).await;
    let resolution = check("bound", "served").await;
    assert_eq!((resolution.namespace.as_str(), resolution.public_model.as_str()), ("default", "m"));
    let candidate = &resolution.candidates[0];
    assert_eq!((candidate.binding_id, candidate.group_name.as_str()), (binding.id, "openai"));
    assert_eq!((candidate.share_percent, candidate.upstream_model.as_deref()), (100.0, Some("m")));
    assert_eq!(candidate.skipped_because, [""; 0]);
    assert_eq!((candidate.api_keys[0].id, candidate.api_keys[0].share_percent), (api_key.id, 100.0));

    let reason = |resolution: &Resolution| resolution.candidates[0].skipped_because.join("; ");
    let switch = |status| ChangeBinding { status: Some(status), ..ChangeBinding::default() };
    plane.change_binding(binding.id, switch(RecordStatus::Suspended)).await;
    let resolution = check("the binding is suspended", "503 no_provider").await;
    assert_eq!(reason(&resolution), "the binding is suspended");
    plane.change_binding(binding.id, switch(RecordStatus::Active)).await;

    plane.switch_group(group.id, RecordStatus::Suspended).await;
    let resolution = check("the group is suspended", "503 no_provider").await;
    assert_eq!(reason(&resolution), "the provider group `openai` is suspended");
    plane.switch_group(group.id, RecordStatus::Active).await;

    plane.switch_namespace(1, RecordStatus::Suspended).await;
    let resolution = check("the namespace is suspended", "404 model_not_found").await;
    assert_eq!(reason(&resolution), "the namespace `default` is suspended");
    plane.switch_namespace(1, RecordStatus::Active).await;

    let weigh = |weight| ChangeBinding { weight: Some(weight), ..ChangeBinding::default() };
    plane.change_binding(binding.id, weigh(0)).await;
    assert_eq!(reason(&check("no weight", "503 no_provider").await), "the binding's weight is 0");
    plane.change_binding(binding.id, weigh(1)).await;

    let select = |value: &str| ChangeBinding {
        selector_type: Some(SelectorType::Regex),
        selector_value: Some(Some(value.to_owned())),
        ..ChangeBinding::default()
    };
    plane.change_binding(binding.id, select("^n$")).await;
    let resolution = check("the selector picks nothing", "503 config_error").await;
    assert_eq!(reason(&resolution), "config_error: no model of the provider group matches `^n$`");
    plane.change_binding(binding.id, select("m")).await;

    let weigh = |weight| ChangeApiKey { weight: Some(weight), ..ChangeApiKey::default() };
    plane.change_api_key(api_key.id, weigh(0)).await;
    let resolution = check("the API key has no weight", "503 no_provider").await;
    assert_eq!(resolution.candidates[0].api_keys[0].skipped_because.as_deref(), Some("its weight is 0"));
    plane.change_api_key(api_key.id, weigh(1)).await;

    let until = plane.control.now() + Duration::from_secs(60);
    let ban = json!({"api_key_id": api_key.id, "kind": "ban", "reason": "refused", "until": until});
    ez_control::credential_reports::take(&plane.control, origin(), vec![ban]).await.unwrap();
    let resolution = check("the API key is banned", "503 no_provider").await;
    assert_eq!(reason(&resolution), "no_provider: the provider group has no API key that can be used");
    let because = resolution.candidates[0].api_keys[0].skipped_because.clone().unwrap();
    assert!(because.starts_with("banned until 2") && because.ends_with("Z: refused"), "{because}");

    let second = plane.group("second").await;
    plane.api_key(second.id).await;
    plane.binding(second.id).await;
    let resolution = check("another group serves", "served").await;
    let shares: Vec<_> = resolution.candidates.iter().map(|c| (c.group_id, c.share_percent)).collect();
    assert_eq!(shares, [(second.id, 100.0), (group.id, 0.0)], "what can serve comes first");
}

pub(crate) async fn candidates_come_in_the_order_of_attempts(plane: Plane) {
    for (name, priority, weight) in [("a", 0, 1), ("b", 0, 3), ("c", 5, 1), ("d", 5, 2), ("e", -1, 9)] {
        let group = plane.try_group(openai_group(name)).await.unwrap();
        plane.try_api_key(secret_in(group.id, "sk-1")).await.unwrap();
        let new = CreateBinding { priority: Some(priority), weight: Some(weight), ..model_of(group.id) };
        plane.try_binding(new).await.unwrap();
    }
    let resolution = plane.resolve("m", None).await;
    let order: Vec<_> = resolution.candidates.iter().map(|c| (c.group_name.as_str(), c.share_percent)).collect();
    assert_eq!(order, [("d", 66.67), ("c", 33.33), ("b", 75.0), ("a", 25.0), ("e", 100.0)]);
}

pub(crate) async fn references_lead_where_the_key_may_go(plane: Plane) {
    for name in ["team", "foreign", "empty"] {
        plane.namespace(name).await;
    }
    let group = plane.try_group(openai_group("openai")).await.unwrap();
    plane.api_key(group.id).await;
    for (namespace, model) in [("team", "m"), ("foreign", "m"), ("default", "m"), ("default", "gpt-4.1")] {
        let new = CreateBinding {
            namespace: namespace.to_owned(),
            public_model: model.to_owned(),
            selector_value: Some("m".to_owned()),
            ..model_of(group.id)
        };
        plane.try_binding(new).await.unwrap();
    }
    let names = ["default", "team"].map(str::to_owned).to_vec();
    let asked = CreateMaster { name: "acme".to_owned(), namespaces: Some(names), ..CreateMaster::default() };
    let master = plane.try_master(asked).await.unwrap().master;
    let limits = Some(vec!["m".to_owned(), "gone".to_owned()]);
    let asked = CreateChildKey { model_limits_enabled: Some(true), model_limits: limits, ..CreateChildKey::default() };
    let key = plane.try_key(master.id, asked).await.unwrap().key;

    let cases = [
        ("m", "default", "m", "served"),
        ("team.m", "team", "m", "served"),
        ("gpt-4.1", "default", "gpt-4.1", "403 model_not_allowed"),
        ("gone", "default", "gone", "404 model_not_found"),
        ("foreign.m", "foreign", "m", "403 namespace_not_allowed"),
        ("empty.m", "default", "empty.m", "403 model_not_allowed"),
        ("nowhere.m", "default", "nowhere.m", "403 model_not_allowed"),
    ];
    for (model, namespace, public_model, expected) in cases {
        let resolution = plane.resolve(model, Some(key.id)).await;
        let place = (resolution.namespace.as_str(), resolution.public_model.as_str());
        assert_eq!(place, (namespace, public_model), "{model}");
        assert_eq!(told(&resolution), expected, "{model}");
    }
    let reason = plane.resolve("team.m", Some(key.id)).await.reason;
    assert_eq!(reason, "`team`, before the first dot, is a namespace");
    let reason = plane.resolve("gpt-4.1", Some(key.id)).await.reason;
    assert!(reason.contains("no namespace stands before the first dot"), "{reason}");

    // An admin looks where they like.
    assert_eq!(told(&plane.resolve("foreign.m", None).await), "served");
    let asked = ResolveRequest { model: "m".to_owned(), key_id: None, namespace: Some("team".to_owned()) };
    assert_eq!(resolve(&plane.control, asked).await.unwrap().namespace, "team");
    let asked = |key_id, namespace: &str| ResolveRequest {
        model: String::new(),
        key_id,
        namespace: Some(namespace.to_owned()),
    };
    assert_eq!(pointers(resolve(&plane.control, asked(Some(999), "team")).await), ["/model", "/namespace", "/key_id"]);
    assert_eq!(pointers(resolve(&plane.control, asked(None, "nowhere")).await), ["/model", "/namespace"]);
    assert_eq!(pointers(plane.try_resolve(&"x".repeat(266), None).await), ["/model"]);
}

pub(crate) async fn dead_keys_are_refused_as_gateways_do(plane: Plane) {
    let group = plane.group("openai").await;
    plane.api_key(group.id).await;
    plane.binding(group.id).await;
    let master = plane.master("acme").await.master;
    let end = plane.control.now() + Duration::from_secs(60);
    let asked = CreateChildKey { expires_at: Some(end), ..CreateChildKey::default() };
    let ending = plane.try_key(master.id, asked).await.unwrap().key;
    let key = plane.key(master.id).await.key;
    let verdict = async |id| told(&plane.resolve("m", Some(id)).await);
    assert_eq!((verdict(key.id).await.as_str(), verdict(ending.id).await.as_str()), ("served", "served"));

    plane.clock.advance(Duration::from_secs(60));
    assert_eq!(verdict(ending.id).await, "401 key_expired");
    plane.change_key(key.id, ChangeChildKey { status: Some(KeyStatus::Suspended), ..Default::default() }).await;
    assert_eq!(verdict(key.id).await, "401 key_suspended");
    plane.change_key(key.id, ChangeChildKey { status: Some(KeyStatus::Active), ..Default::default() }).await;

    let write = plane.write().await;
    masters::update(&write, master.id, ChangeMaster { status: Some(RecordStatus::Suspended), ..Default::default() })
        .await
        .unwrap();
    write.commit().await.unwrap();
    assert_eq!(verdict(key.id).await, "401 master_suspended");
    let write = plane.write().await;
    masters::revoke_keys(&write, master.id).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(verdict(key.id).await, "401 key_revoked");
}
