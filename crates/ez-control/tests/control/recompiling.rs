//! Selectors over changing models: what is published follows every change of what it is made from.

use ez_contract::selector::SelectorType;
use ez_contract::snapshot::{CandidateError, SnapshotEntry, SnapshotKey};
use ez_contract::status::RecordStatus;
use ez_control::bindings::CreateBinding;
use ez_control::namespaces::{self, ChangeNamespace};
use ez_control::provider_groups::{self, ChangeProviderGroup};
use ez_control::publisher::reconcile;

use crate::support::{Plane, model_of};

impl Plane {
    async fn change_models(&self, group_id: i64, models: &[&str]) {
        let models = models.iter().map(|model| (*model).to_owned()).collect();
        let write = self.write().await;
        let change = ChangeProviderGroup { models: Some(models), ..ChangeProviderGroup::default() };
        provider_groups::update(&write, group_id, change).await.unwrap();
        write.commit().await.unwrap();
    }

    /// The error and the upstream model of the only candidate.
    async fn picked(&self, public_model: &str) -> (Option<CandidateError>, Option<String>) {
        let key = SnapshotKey::Binding(format!("default.{public_model}"));
        let Some(SnapshotEntry::Binding(mut binding)) = self.published(&key).await else { panic!("no {key:?}") };
        assert_eq!(binding.candidates.len(), 1);
        let candidate = binding.candidates.remove(0);
        (candidate.error, candidate.upstreams.into_values().next())
    }
}

pub(crate) async fn each_selector_follows_the_models_of_its_group(plane: Plane) {
    let group = plane.group("openai").await;
    plane.api_key(group.id).await;
    let kinds = [
        ("exact", SelectorType::Exact, "Vendor/Kimi-K2"),
        ("regex", SelectorType::Regex, "(?i)kimi-k2$"),
        ("normal", SelectorType::NormalizeExact, "moonshot/kimi-k2"),
    ];
    for (public_model, selector_type, value) in kinds {
        let new = CreateBinding {
            public_model: public_model.to_owned(),
            selector_type: Some(selector_type),
            selector_value: Some(value.to_owned()),
            ..model_of(group.id)
        };
        plane.try_binding(new).await.unwrap();
    }
    plane.publish().await;

    // The upstream model that each of them picks; none is a `config_error`.
    type Picks = [Option<&'static str>; 3];
    let one = Some("Vendor/Kimi-K2");
    let cases: [(&[&str], Picks); 6] = [
        (&["m"], [None, None, None]),
        (&["Vendor/Kimi-K2"], [one, one, one]),
        (&["Vendor/Kimi-K2", "kimi-k2"], [one, None, None]),
        (&["kimi-k2", "Kimi-K2-turbo"], [None, Some("kimi-k2"), Some("kimi-k2")]),
        (&["Vendor/Kimi-K2-turbo", "a/KIMI-K2", "b/kimi-k2"], [None, None, None]),
        (&["Vendor/Kimi-K2", "other"], [one, one, one]),
    ];
    for (models, expected) in cases {
        plane.change_models(group.id, models).await;
        assert_eq!(plane.publish().await, 1);
        for ((public_model, ..), expected) in kinds.iter().zip(expected) {
            let error = if expected.is_none() { Some(CandidateError::ConfigError) } else { None };
            let picked = plane.picked(public_model).await;
            assert_eq!(picked, (error, expected.map(str::to_owned)), "{public_model} of {models:?}");
        }
        assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 0, "{models:?}");
    }
}

pub(crate) async fn every_part_of_a_group_reaches_what_is_made_of_it(plane: Plane) {
    let (group, team) = (plane.group("openai").await, plane.namespace("team").await);
    let api_key = plane.api_key(group.id).await;
    plane.binding(group.id).await;
    let bound = plane.try_binding(CreateBinding { namespace: "team".to_owned(), ..model_of(group.id) }).await.unwrap();
    plane.publish().await;

    let write = plane.write().await;
    let change = ChangeProviderGroup {
        name: Some("renamed".to_owned()),
        route_group: Some("gold".to_owned()),
        base_url: Some(Some("http://127.0.0.1:9/v1".to_owned())),
        ..ChangeProviderGroup::default()
    };
    provider_groups::update(&write, group.id, change).await.unwrap();
    let suspend = ChangeNamespace { status: Some(RecordStatus::Suspended), ..ChangeNamespace::default() };
    namespaces::update(&write, team.id, suspend).await.unwrap();
    write.commit().await.unwrap();
    plane.publish().await;
    let Some(SnapshotEntry::Provider(provider)) = plane.published(&SnapshotKey::Provider(api_key.id)).await else {
        panic!("no provider");
    };
    assert_eq!(provider.name, format!("renamed#{}", api_key.id));
    assert_eq!((provider.group.as_str(), provider.base_url.as_str()), ("gold", "http://127.0.0.1:9/v1"));
    for (key, status) in [("default.m", RecordStatus::Active), ("team.m", RecordStatus::Suspended)] {
        let published = plane.published(&SnapshotKey::Binding(key.to_owned())).await;
        let Some(SnapshotEntry::Binding(binding)) = published else { panic!("no {key}") };
        assert_eq!((binding.status, binding.candidates[0].route_group.as_str()), (status, "gold"), "{key}");
    }
    assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 0);

    let write = plane.write().await;
    namespaces::delete(&write, team.id, true).await.unwrap();
    write.commit().await.unwrap();
    plane.publish().await;
    assert_eq!(plane.published(&SnapshotKey::Binding("team.m".to_owned())).await, None);
    assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 0, "of binding {}", bound.id);
}
