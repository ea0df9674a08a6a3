//! Models: what administrators enter, the catalogue, and what of both reaches the snapshot.

use std::time::Duration;

use ez_contract::TokenDigest;
use ez_contract::models::ModelKind;
use ez_contract::snapshot::{ModelSnapshot, SnapshotChange, SnapshotEntry, SnapshotKey, SnapshotKind};
use ez_contract::status::{ApiKeyStatus, RecordStatus};
use ez_control::api_keys::ChangeApiKey;
use ez_control::bindings::{ChangeBinding, CreateBinding};
use ez_control::catalogue::{self, CatalogueStatus, ModelFacts, Renewal};
use ez_control::models::{ChangeFacts, ChangeModel, ChangePrices, CreateModel};
use ez_control::namespaces::ChangeNamespace;
use ez_control::provider_groups::{ChangeProviderGroup, CreateProviderGroup};
use ez_control::publisher::publish_due;
use ez_control::publisher::{Drift, reconcile};
use ez_control::{
    Actor, Control, ControlError, ControlParts, api_keys, audit, bindings, models, namespaces, provider_groups,
};
use ez_state::{Publication, Scope};
use ez_store::models::Model;
use ez_store::provider_groups::ProviderGroup;
use ez_store::{ConnectOptions, Page, RecordKind, Store};
use serde_json::{Value, json};

use crate::support::{Plane, assert_not_found, config, conflict, faults, model_of, openai_group, origin};

impl Plane {
    async fn try_model(&self, new: CreateModel) -> Result<Model, ControlError> {
        let write = self.write().await;
        let model = models::create(&write, new).await?;
        write.commit().await?;
        Ok(model)
    }

    /// A model of this context window and nothing else that is known.
    async fn model(&self, name: &str, context_window: u64) -> Model {
        let facts = ChangeFacts { context_window: Some(context_window), ..ChangeFacts::default() };
        self.try_model(CreateModel { name: name.to_owned(), facts }).await.unwrap()
    }

    async fn try_change_model(&self, id: i64, change: ChangeModel) -> Result<Model, ControlError> {
        let write = self.write().await;
        let model = models::update(&write, id, change).await?;
        write.commit().await?;
        Ok(model)
    }

    async fn delete_model(&self, id: i64) {
        let write = self.write().await;
        models::delete(&write, id).await.unwrap();
        write.commit().await.unwrap();
    }

    async fn published_model(&self, name: &str) -> Option<ModelSnapshot> {
        match self.published(&SnapshotKey::Model(name.to_owned())).await {
            Some(SnapshotEntry::Model(model)) => Some(model),
            _ => None,
        }
    }

    /// The context windows of the models `default.…`, after publishing and with nothing left to repair.
    async fn windows<const N: usize>(&self, names: [&str; N]) -> [Option<u64>; N] {
        self.publish().await;
        let mut windows = [None; N];
        for (window, name) in windows.iter_mut().zip(names) {
            *window = self.published_model(&format!("default.{name}")).await.map(|model| model.context_window);
        }
        assert_eq!(reconcile(&self.control).await.unwrap().repaired, []);
        windows
    }

    /// A group with these upstream models and a key, and a binding of the public model to it.
    async fn serves(&self, group: &str, upstreams: &[&str], public_model: &str, selector: &str) -> ProviderGroup {
        let models = upstreams.iter().map(|model| (*model).to_owned()).collect();
        let new = CreateProviderGroup { models: Some(models), ..openai_group(group) };
        let group = self.try_group(new).await.unwrap();
        self.api_key(group.id).await;
        let binding = CreateBinding {
            public_model: public_model.to_owned(),
            selector_value: Some(selector.to_owned()),
            ..model_of(group.id)
        };
        self.try_binding(binding).await.unwrap();
        group
    }
}

fn price(text: &str) -> Option<Option<String>> {
    Some(Some(text.to_owned()))
}

pub(crate) async fn a_model_starts_from_what_the_catalogue_knows_and_changes_as_it_is_told(plane: Plane) {
    let prices = ChangePrices { input: price("1.50"), cache_read: Some(None), ..ChangePrices::default() };
    let facts = ChangeFacts { prices, supports_fim: Some(true), ..ChangeFacts::default() };
    let model = plane.try_model(CreateModel { name: "gpt-4o".to_owned(), facts }).await.unwrap();
    let bundled = catalogue::bundled();
    let known = bundled.get("gpt-4o").unwrap();
    let entered = ModelFacts::from(&model);
    assert_eq!((entered.context_window, entered.prices.output), (known.context_window, known.prices.output));
    assert_eq!((model.supports_vision, model.supports_fim), (true, true));
    assert_eq!((model.input_price.unwrap().to_string(), model.cache_read_price), ("1.5".to_owned(), None));

    let unheard = plane.try_model(CreateModel { name: "unheard".to_owned(), ..CreateModel::default() }).await.unwrap();
    assert_eq!(ModelFacts::from(&unheard), ModelFacts::default());

    let word = |word: &str| ChangeFacts { kind: Some(word.to_owned()), ..ChangeFacts::default() };
    for (given, kind) in [("rerank", ModelKind::Rerank), ("video", ModelKind::Other), ("", ModelKind::Chat)] {
        let change = ChangeModel { name: None, facts: word(given) };
        assert_eq!(plane.try_change_model(unheard.id, change).await.unwrap().kind, kind, "{given}");
    }
    let change = ChangeModel { name: Some("gpt-4o".to_owned()), ..ChangeModel::default() };
    let (message, _) = conflict(plane.try_change_model(unheard.id, change).await);
    assert!(message.contains("another model has the same name"), "{message}");
    let changed = plane.try_change_model(model.id, ChangeModel::default()).await.unwrap();
    assert_eq!(ModelFacts::from(&changed), entered, "nothing was asked for");

    plane.delete_model(unheard.id).await;
    assert_not_found(models::get(&plane.control, unheard.id).await);
    let entry = audit::list(&plane.control, None, 10).await.unwrap().items.pop().unwrap().entry;
    assert_eq!((entry.record_kind, entry.record_id), (RecordKind::Model, Some(model.id)));
    assert_eq!(entry.after.unwrap()["prices"]["input"], "1.5");
}

pub(crate) async fn every_fault_of_a_model_is_told_at_once(plane: Plane) {
    let prices = ChangePrices { input: price("-1"), output: price("1,5"), ..ChangePrices::default() };
    let facts = ChangeFacts {
        kind: Some("k".repeat(201)),
        context_window: Some(100_000_001),
        max_output_tokens: Some(u64::MAX),
        prices,
        capabilities: json!({"reasoning": {"style": "dream"}, "rejects": ["heat"]}).as_object().cloned(),
        ..ChangeFacts::default()
    };
    let told = faults(plane.try_model(CreateModel { name: String::new(), facts }).await);
    let expected = [
        "/name: must not be empty",
        "/kind: must have at most 200 characters",
        "/context_window: must be at most 100000000 tokens",
        "/max_output_tokens: must be at most 100000000 tokens",
        "/prices/input: must be US dollars per million tokens: a decimal such as 2.50, from 0 to 1000000, of at most 18 places",
    ];
    assert_eq!(told[..5], expected);
    assert!(told[5].starts_with("/prices/output: must be US dollars"), "{told:?}");
    let expected = [
        "/capabilities/reasoning/style: must be one of: none, effort, budget, adaptive, level",
        "/capabilities/rejects/0: must be one of: temperature, top_p, top_k, seed, presence_penalty, frequency_penalty, logit_bias",
    ];
    assert_eq!(told[6..], expected);
    assert_eq!(plane.outbox_depth().await, 0);
}

pub(crate) async fn what_is_said_of_what_a_model_takes_reaches_the_snapshot(plane: Plane) {
    let said = |value: Value| ChangeFacts {
        capabilities: Some(serde_json::from_value(value).unwrap()),
        ..ChangeFacts::default()
    };
    let published = async |name: &str| {
        plane.publish().await;
        let model = plane.published_model(name).await.unwrap();
        assert_eq!(reconcile(&plane.control).await.unwrap().repaired, []);
        serde_json::to_value(model.capabilities).unwrap()
    };
    plane.serves("one", &["house-llm"], "m", "house-llm").await;
    plane.serves("two", &["other-llm"], "n", "other-llm").await;
    assert_eq!(published("default.m").await, json!({}));

    let first = json!({"rejects": ["seed"], "token_cap": "max_completion_tokens"});
    let new = CreateModel { name: "house-llm".to_owned(), facts: said(first.clone()) };
    let model = plane.try_model(new).await.unwrap();
    assert_eq!(published("default.m").await, json!({"house-llm": first}));
    let change = ChangeModel { facts: ChangeFacts { supports_fim: Some(true), ..ChangeFacts::default() }, name: None };
    plane.try_change_model(model.id, change).await.unwrap();
    assert_eq!(published("default.m").await, json!({"house-llm": first}), "what is absent stays");
    let second = json!({"reasoning": {"style": "none"}});
    let change = ChangeModel { facts: said(second.clone()), name: None };
    plane.try_change_model(model.id, change).await.unwrap();
    assert_eq!(published("default.m").await, json!({"house-llm": second}), "it counts as a whole");
    let entry = audit::list(&plane.control, None, 1).await.unwrap().items.remove(0).entry;
    assert_eq!(entry.before.unwrap()["capabilities"], first);
    assert_eq!(entry.after.unwrap()["capabilities"], second);

    // Under the public name it is said of the upstream's model, too.
    let rename = ChangeModel { name: Some("n".to_owned()), ..ChangeModel::default() };
    plane.try_change_model(model.id, rename).await.unwrap();
    assert_eq!(published("default.n").await, json!({"other-llm": second}));
    assert_eq!(published("default.m").await, json!({}));
    let change = ChangeModel { facts: said(json!({})), name: None };
    plane.try_change_model(model.id, change).await.unwrap();
    assert_eq!(published("default.n").await, json!({}), "nothing is said any more");

    // The catalogue may say it, and an entry starts from that.
    let document = r#"{"source":"ours","version":"1","models":[{"name":"house-llm","capabilities":{"prefill":true}}]}"#;
    let renewal = catalogue::prepare(document).await.unwrap();
    let write = plane.write().await;
    catalogue::renew(&write, renewal).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(published("default.m").await, json!({"house-llm": {"prefill": true}}));
    let entered = plane.model("house-llm", 1).await;
    assert_eq!(entered.capabilities.fields(), json!({"prefill": true}).as_object().unwrap());
}

pub(crate) async fn an_entry_wins_over_the_catalogue_and_reaches_every_model_that_asks_for_it(plane: Plane) {
    let known = catalogue::bundled().get("gpt-4o").unwrap().context_window;
    plane.serves("one", &["gpt-4o"], "gpt-4o", "").await;
    plane.serves("two", &["openai/GPT-4o"], "team-model", "openai/GPT-4o").await;
    plane.serves("three", &["house-llm"], "m", "house-llm").await;
    let names = ["gpt-4o", "team-model", "m"];
    assert_eq!(plane.windows(names).await, [Some(known), Some(known), Some(0)]);
    let unknown = plane.published_model("default.m").await.unwrap();
    assert_eq!((unknown.kind.as_str(), unknown.supports_stream, unknown.prices.len()), ("chat", false, 0));

    // By the upstream's name; then under another name, by the public one; the upstream's wins.
    let entered = plane.model("house-llm", 11).await;
    assert_eq!(plane.windows(names).await, [Some(known), Some(known), Some(11)]);
    let rename = ChangeModel { name: Some("team-model".to_owned()), ..ChangeModel::default() };
    plane.try_change_model(entered.id, rename).await.unwrap();
    assert_eq!(plane.windows(names).await, [Some(known), Some(11), Some(0)]);
    let upstream = plane.model("openai/GPT-4o", 22).await;
    assert_eq!(plane.windows(names).await, [Some(known), Some(22), Some(0)]);
    let plain = plane.model("gpt-4o", 33).await;
    assert_eq!(plane.windows(names).await, [Some(33), Some(22), Some(0)], "an entry stands for its own name alone");

    for id in [upstream.id, plain.id, entered.id] {
        plane.delete_model(id).await;
    }
    assert_eq!(plane.windows(names).await, [Some(known), Some(known), Some(0)]);
}

pub(crate) async fn a_model_follows_what_can_serve_it(plane: Plane) {
    for (name, window) in [("large", 200), ("small", 100)] {
        plane.model(name, window).await;
    }
    let large = plane.serves("one", &["large"], "m", "large").await;
    let small = plane.serves("two", &["small", "large"], "m", "small").await;
    assert_eq!(plane.windows(["m"]).await, [Some(100)], "the smaller");

    let change_group = async |id, change| {
        let write = plane.write().await;
        provider_groups::update(&write, id, change).await.unwrap();
        write.commit().await.unwrap();
    };
    let status = |status| ChangeProviderGroup { status: Some(status), ..ChangeProviderGroup::default() };
    change_group(small.id, status(RecordStatus::Suspended)).await;
    assert_eq!(plane.windows(["m"]).await, [Some(200)], "a suspended group does not serve");
    change_group(large.id, status(RecordStatus::Suspended)).await;
    assert_eq!(plane.windows(["m"]).await, [None], "nor does any");
    change_group(small.id, status(RecordStatus::Active)).await;
    assert_eq!(plane.windows(["m"]).await, [Some(100)]);

    let of_small = ez_store::bindings::list_by_group(plane.control.store(), small.id).await.unwrap().remove(0);
    let change_binding = async |change| {
        let write = plane.write().await;
        bindings::update(&write, of_small.id, change).await.unwrap();
        write.commit().await.unwrap();
    };
    let select =
        |value: &str| ChangeBinding { selector_value: Some(Some(value.to_owned())), ..ChangeBinding::default() };
    change_binding(select("large")).await;
    assert_eq!(plane.windows(["m"]).await, [Some(200)], "another upstream model");
    change_binding(select("gone")).await;
    assert_eq!(plane.windows(["m"]).await, [None], "a selector without a hit");
    let rename = ChangeBinding { public_model: Some("n".to_owned()), ..select("small") };
    change_binding(rename).await;
    assert_eq!(plane.windows(["m", "n"]).await, [None, Some(100)]);
    let write = plane.write().await;
    provider_groups::delete(&write, small.id, true).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(plane.windows(["m", "n"]).await, [None, None]);
}

pub(crate) async fn a_model_follows_its_api_keys_and_its_namespace(plane: Plane) {
    for (name, window) in [("large", 200), ("small", 100)] {
        plane.model(name, window).await;
    }
    let large = plane.serves("one", &["large"], "m", "large").await;
    let small = plane.serves("two", &["small"], "m", "small").await;
    assert_eq!(plane.windows(["m"]).await, [Some(100)]);

    let keys_of = async |group: &ProviderGroup| {
        ez_store::api_keys::list_by_group(plane.control.store(), group.id).await.unwrap().remove(0).id
    };
    let (of_large, of_small) = (keys_of(&large).await, keys_of(&small).await);
    let change_key = async |id, change| {
        let write = plane.write().await;
        api_keys::update(&write, id, change).await.unwrap();
        write.commit().await.unwrap();
    };
    let status = |status| ChangeApiKey { status: Some(status), ..ChangeApiKey::default() };
    change_key(of_small, status(ApiKeyStatus::Suspended)).await;
    assert_eq!(plane.windows(["m"]).await, [Some(200)], "no key to call with");
    change_key(of_small, status(ApiKeyStatus::Active)).await;
    assert_eq!(plane.windows(["m"]).await, [Some(100)]);
    let write = plane.write().await;
    api_keys::delete(&write, of_small).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(plane.windows(["m"]).await, [Some(200)]);
    // To the group without a key: the one it leaves serves no more.
    change_key(of_large, ChangeApiKey { group_id: Some(small.id), ..ChangeApiKey::default() }).await;
    assert_eq!(plane.windows(["m"]).await, [Some(100)]);

    let namespace = ez_store::namespaces::get_by_name(plane.control.store(), "default").await.unwrap().unwrap();
    let change_namespace = async |status| {
        let write = plane.write().await;
        let change = ChangeNamespace { status: Some(status), ..ChangeNamespace::default() };
        namespaces::update(&write, namespace.id, change).await.unwrap();
        write.commit().await.unwrap();
    };
    change_namespace(RecordStatus::Suspended).await;
    assert_eq!(plane.windows(["m"]).await, [None]);
    change_namespace(RecordStatus::Active).await;
    assert_eq!(plane.windows(["m"]).await, [Some(100)]);
}

async fn renewal(version: &str, window: u64) -> Renewal {
    let text = format!(
        r#"{{"source":"ours","version":"{version}","upstream_url":"https://models.example",
        "models":[{{"name":"m","context_window":{window}}}]}}"#
    );
    catalogue::prepare(&text).await.unwrap()
}

async fn renew(plane: &Plane, version: &str, window: u64) -> CatalogueStatus {
    let renewal = renewal(version, window).await;
    let write = plane.write().await;
    let status = catalogue::renew(&write, renewal).await.unwrap();
    write.commit().await.unwrap();
    status
}

async fn reset(plane: &Plane) -> Result<(), ControlError> {
    let write = plane.write().await;
    catalogue::reset(&write).await?;
    write.commit().await
}

async fn published_origin(control: &Control) -> (String, String) {
    let meta = control.state().models_meta().await.unwrap().unwrap();
    (meta.source, meta.version)
}

pub(crate) async fn a_renewed_catalogue_reaches_all_models_and_all_control_planes(plane: Plane) {
    let other = plane.another().await;
    let bundled = catalogue::status(&other).await.unwrap();
    assert_eq!((bundled.origin.source.as_str(), bundled.renewed_at), ("litellm", None));
    reset(&plane).await.unwrap();
    assert_eq!(plane.outbox_depth().await, 0, "it counts already");
    plane.publish().await;
    assert_eq!(published_origin(&other).await, (bundled.origin.source.clone(), bundled.origin.version.clone()));

    // Even where there is no model yet that could change.
    let first = renew(&plane, "1", 10).await;
    assert_eq!((first.origin.version.as_str(), first.models, first.renewed_at), ("1", 1, Some(plane.control.now())));
    plane.publish().await;
    assert_eq!(published_origin(&other).await, ("ours".to_owned(), "1".to_owned()));

    let group = plane.group("openai").await;
    plane.api_key(group.id).await;
    plane.binding(group.id).await;
    assert_eq!(plane.windows(["m"]).await, [Some(10)]);
    let second = renew(&plane, "2", 20).await;
    assert_eq!(plane.windows(["m"]).await, [Some(20)]);
    assert_eq!(catalogue::status(&other).await.unwrap(), second);
    let page = Page { offset: 0, limit: 10 };
    let found = catalogue::list(&other, Some("M"), None, page).await.unwrap();
    assert_eq!((found.total, found.items[0].facts.context_window), (1, 20));
    let restarted = plane.another().await;
    assert_eq!(catalogue::status(&restarted).await.unwrap(), second, "it survives a restart");

    let entry = audit::list(&plane.control, None, 1).await.unwrap().items.remove(0).entry;
    assert_eq!((entry.action.as_str(), entry.record_kind, entry.record_id), ("renew", RecordKind::Model, None));
    assert_eq!((&entry.before.unwrap()["version"], &entry.after.unwrap()["version"]), (&"1".into(), &"2".into()));

    // One that cannot be read any more does not stop the others.
    plane.sql("UPDATE catalogues SET document = '{}'").await;
    assert_eq!(catalogue::status(&plane.another().await).await.unwrap(), bundled);

    reset(&plane).await.unwrap();
    assert_eq!(plane.windows(["m"]).await, [Some(0)]);
    assert_eq!(catalogue::status(&other).await.unwrap(), bundled);
    assert_eq!(published_origin(&other).await.0, "litellm");
}

pub(crate) async fn the_account_names_the_catalogue_that_the_models_were_made_with(plane: Plane) {
    let group = plane.group("openai").await;
    plane.api_key(group.id).await;
    plane.binding(group.id).await;
    plane.publish().await;
    let (known, account) = (plane.published_model("default.m").await, published_origin(&plane.control).await);

    // What is renewed waits, and something else is published before it.
    renew(&plane, "1", 10).await;
    plane.sql("UPDATE outbox SET next_attempt_at = next_attempt_at + 30000000 WHERE kind = 'model'").await;
    plane.master("acme").await;
    assert_eq!(publish_due(&plane.control).await.unwrap(), 1);
    assert_eq!(plane.published_model("default.m").await, known);
    assert_eq!(published_origin(&plane.control).await, account);

    plane.sql("UPDATE outbox SET next_attempt_at = 0").await;
    plane.publish().await;
    assert_eq!(plane.published_model("default.m").await.map(|model| model.context_window), Some(10));
    assert_eq!(published_origin(&plane.control).await, ("ours".to_owned(), "1".to_owned()));
}

pub(crate) async fn a_write_asks_for_the_catalogue_within_its_own_unit_of_work(plane: Plane) {
    // With a connection to spare for nobody, a second one would never come.
    let options =
        ConnectOptions { max_connections: 1, acquire_timeout: Duration::from_secs(3), ..ConnectOptions::default() };
    let store = Store::connect(plane.database.url(), options).await.unwrap();
    let parts = ControlParts { store, ..plane.parts_of_another(config()).await };
    let (control, _) = Control::prepare(parts).await.unwrap();
    let begin = async || control.write(Actor::admin(origin())).await.unwrap();

    let write = begin().await;
    catalogue::renew(&write, renewal("1", 10).await).await.unwrap();
    write.commit().await.unwrap();
    let write = begin().await;
    let new = CreateModel { name: "m".to_owned(), ..CreateModel::default() };
    assert_eq!(models::create(&write, new).await.unwrap().context_window, 10);
    catalogue::reset(&write).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(catalogue::status(&control).await.unwrap().renewed_at, None);
}

pub(crate) async fn models_edited_by_hand_are_repaired_with_their_account(plane: Plane) {
    let group = plane.group("openai").await;
    plane.api_key(group.id).await;
    plane.binding(group.id).await;
    plane.publish().await;
    let state = plane.control.state();
    let (model, meta) = (plane.published_model("default.m").await.unwrap(), state.models_meta().await.unwrap());
    let lines = format!("default.m\n{}\n", serde_json::to_string(&model).unwrap());
    assert_eq!(meta.as_ref().unwrap().checksum, TokenDigest::of(&lines).to_string());

    let edited = ModelSnapshot { context_window: 7, ..model.clone() };
    let changes = vec![SnapshotChange::Put(SnapshotEntry::Model(edited))];
    let by_hand = Publication { changes, scope: Scope::Changes, base: None };
    state.publish("hand", plane.control.now(), by_hand).await.unwrap();
    let report = reconcile(&plane.control).await.unwrap();
    let repaired: Vec<_> = report.repaired.iter().map(|one| (one.kind, one.id.as_str(), one.drift)).collect();
    assert_eq!(repaired, [(SnapshotKind::Model, "default.m", Drift::Differs)]);
    assert_eq!(plane.published_model("default.m").await, Some(model));
    let account =
        |meta: Option<ez_contract::models::ModelsMeta>| meta.map(|meta| (meta.checksum.clone(), meta.origin()));
    assert_eq!(account(state.models_meta().await.unwrap()), account(meta));
    assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 0);
}
