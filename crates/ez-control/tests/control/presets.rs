//! Providers that are set up in one go.

use ez_contract::provider::ProviderType;
use ez_contract::snapshot::{SnapshotEntry, SnapshotKey};
use ez_control::presets::{CreateCustom, CreatePreset, CreateProvider, Provider, Vendor, create_custom, create_preset};
use ez_control::publisher::reconcile;
use ez_control::{ControlError, audit};
use ez_store::outbox;

use crate::support::{Plane, conflict, faults, pointers};

fn provider(name: &str) -> CreateProvider {
    CreateProvider { name: name.to_owned(), secret: "sk-upstream".into(), create_bindings: false, namespace: None }
}

fn preset(vendor: Vendor, provider: CreateProvider) -> CreatePreset {
    CreatePreset { vendor, provider, models: None }
}

impl Plane {
    async fn try_preset(&self, new: CreatePreset) -> Result<Provider, ControlError> {
        let write = self.write().await;
        let provider = create_preset(&write, new).await?;
        write.commit().await?;
        Ok(provider)
    }

    async fn try_custom(&self, new: CreateCustom) -> Result<Provider, ControlError> {
        let write = self.write().await;
        let provider = create_custom(&write, new).await?;
        write.commit().await?;
        Ok(provider)
    }
}

pub(crate) async fn a_name_and_a_secret_are_enough(plane: Plane) {
    for (vendor, provider_type) in [
        (Vendor::Openai, ProviderType::Openai),
        (Vendor::Anthropic, ProviderType::Anthropic),
        (Vendor::Gemini, ProviderType::Gemini),
    ] {
        let made = plane.try_preset(preset(vendor, provider(provider_type.as_str()))).await.unwrap();
        assert_eq!((made.group.provider_type, made.group.base_url.as_str()), (provider_type, ""));
        assert_eq!(made.group.models, vendor.models());
        assert_eq!((made.api_key.group_id, made.bindings.len()), (made.group.id, 0));
    }
    let (message, _) = conflict(plane.try_preset(preset(Vendor::Openai, provider("openai"))).await);
    assert!(message.contains("same name"), "{message}");
}

pub(crate) async fn on_request_every_model_is_bound_and_served(plane: Plane) {
    plane.namespace("team").await;
    plane.publish().await;
    let asked = CreateProvider { create_bindings: true, namespace: Some("team".to_owned()), ..provider("openai") };
    let made = plane.try_preset(preset(Vendor::Openai, asked)).await.unwrap();
    assert_eq!(made.bindings.len(), Vendor::Openai.models().len());
    let due = outbox::list_due(plane.control.store(), plane.control.now(), 100).await.unwrap();
    assert_eq!(due.len(), 3, "one for each kind of record");
    let entries = audit::list(&plane.control, None, 100).await.unwrap().items;
    let count = |action: &str| entries.iter().filter(|entry| entry.entry.action == action).count();
    assert_eq!(count("create"), 1 + 2 + made.bindings.len(), "each record has its entry");
    plane.publish().await;
    for binding in &made.bindings {
        let key = SnapshotKey::Binding(format!("team.{}", binding.public_model));
        let Some(SnapshotEntry::Binding(published)) = plane.published(&key).await else { panic!("no {key:?}") };
        assert_eq!(published.candidates[0].upstreams[&made.api_key.id], binding.public_model);
    }
    assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 0);

    let custom = CreateCustom {
        base_url: "http://127.0.0.1:9/v1/".to_owned(),
        protocols: None,
        provider: CreateProvider { create_bindings: true, ..provider("own") },
        models: vec!["qwen3".to_owned(), "qwen3".to_owned()],
    };
    let made = plane.try_custom(custom).await.unwrap();
    assert_eq!(
        (made.group.provider_type, made.group.base_url.as_str()),
        (ProviderType::Compatible, "http://127.0.0.1:9/v1")
    );
    let bound: Vec<_> =
        made.bindings.iter().map(|bound| (bound.namespace.as_str(), bound.public_model.as_str())).collect();
    assert_eq!(bound, [("default", "qwen3")]);
}

pub(crate) async fn a_faulty_preset_tells_all_and_leaves_nothing(plane: Plane) {
    let asked = CreateCustom {
        base_url: "http://169.254.169.254/".to_owned(),
        protocols: None,
        provider: CreateProvider {
            name: String::new(),
            secret: "sk bad".into(),
            create_bindings: true,
            namespace: Some("nowhere".to_owned()),
        },
        models: vec![" m".to_owned()],
    };
    let told = faults(plane.try_custom(asked.clone()).await);
    let pointed: Vec<_> = told.iter().map(|fault| fault.split(':').next().unwrap()).collect();
    assert_eq!(pointed, ["/name", "/models/0", "/base_url", "/secret", "/namespace"], "{told:?}");
    assert!(!told.join("").contains("sk bad"));
    let many = (0..501).map(|number| format!("m{number}")).collect();
    let asked = CreateCustom {
        base_url: "http://127.0.0.1:9".to_owned(),
        provider: CreateProvider { create_bindings: true, ..provider("own") },
        models: many,
        ..asked
    };
    assert_eq!(pointers(plane.try_custom(asked.clone()).await), ["/models"]);
    let asked = CreateCustom { models: Vec::new(), ..asked };
    assert_eq!(pointers(plane.try_custom(asked).await), ["/models"]);
    let unbound = CreateProvider { namespace: Some("default".to_owned()), ..provider("openai") };
    assert_eq!(pointers(plane.try_preset(preset(Vendor::Openai, unbound)).await), ["/namespace"]);
    assert_eq!(ez_store::provider_groups::list_all(plane.control.store()).await.unwrap(), []);
}
