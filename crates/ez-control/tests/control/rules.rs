//! What requests may say, and what is made of what they leave out.

use std::time::Duration;

use chrono::DateTime;
use ez_contract::provider::{Protocol, ProviderType};
use ez_contract::selector::SelectorType;
use ez_contract::status::{ApiKeyStatus, KeyStatus, RecordStatus};
use ez_control::api_keys::{ChangeApiKey, CreateApiKey};
use ez_control::bindings::{ChangeBinding, CreateBinding};
use ez_control::child_keys::{ChangeChildKey, CreateChildKey};
use ez_control::masters::{ChangeMaster, CreateMaster};
use ez_control::namespaces::{ChangeNamespace, CreateNamespace};
use ez_control::provider_groups::{ChangeProviderGroup, CreateProviderGroup};
use ez_control::{Actor, ControlError, Tenant, api_keys, bindings, child_keys, masters, namespaces, provider_groups};
use ez_store::child_keys::ChildKeyFilter;
use ez_store::{IssuedBy, Sort};
use secrecy::{ExposeSecret, SecretString};

use crate::support::{
    FIRST_PAGE, Plane, assert_not_found, conflict, faults, model_of, openai_group, origin, pointers, secret_in,
};

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub(crate) async fn what_is_left_out_takes_its_default(plane: Plane) {
    let created = plane.master("acme").await;
    let master = &created.master;
    assert_eq!((master.group.as_str(), master.status, master.epoch), ("default", RecordStatus::Active, 1));
    assert_eq!((master.default_namespace.as_str(), &master.namespaces), ("default", &texts(&["default"])));
    assert_eq!((master.max_child_keys, master.global_qps), (0, 0));
    assert!(created.master_key.expose_secret().starts_with(&master.prefix) && master.prefix.starts_with("ez-mk-"));
    assert!(master.key_hash.as_deref().unwrap().starts_with("$argon2id$"));

    let issued = plane.key(master.id).await;
    let key = &issued.key;
    assert_eq!((key.group.as_str(), key.status, key.issued_at_epoch), ("default", KeyStatus::Active, 1));
    assert_eq!((key.default_namespace.as_str(), &key.namespaces), ("default", &texts(&["default"])));
    assert_eq!((key.name.as_str(), key.scopes.len(), key.issued_by), ("", 0, IssuedBy::Admin));
    assert!(issued.token.expose_secret().starts_with(&key.prefix) && key.prefix.len() == 12, "{}", key.prefix);

    let group = plane.group("openai").await;
    assert_eq!((group.route_group.as_str(), group.base_url.as_str(), group.protocols.len()), ("default", "", 0));
    let vertex = CreateProviderGroup { provider_type: ProviderType::VertexExpress, ..openai_group("vertex") };
    assert_eq!(plane.try_group(vertex).await.unwrap().google_location, "global");

    let api_key = plane.api_key(group.id).await;
    assert_eq!((api_key.weight, api_key.status, api_key.auto_ban), (1, ApiKeyStatus::Active, true));
    let binding = plane.binding(group.id).await;
    assert_eq!((binding.weight, binding.priority, binding.selector_type), (1, 0, SelectorType::Exact));

    // A default namespace alone is the whole set; a set without `default` has its first as the default.
    plane.namespace("a").await;
    plane.namespace("b").await;
    let asked = |name: &str| CreateMaster { name: name.to_owned(), ..CreateMaster::default() };
    let alone = plane.try_master(CreateMaster { default_namespace: Some("a".to_owned()), ..asked("1") }).await.unwrap();
    assert_eq!(alone.master.namespaces, texts(&["a"]));
    let set = plane.try_master(CreateMaster { namespaces: Some(texts(&["b", "a", "b"])), ..asked("2") }).await.unwrap();
    assert_eq!((set.master.default_namespace.as_str(), set.master.namespaces), ("b", texts(&["b", "a"])));
}

pub(crate) async fn every_fault_of_a_request_is_told_at_once(plane: Plane) {
    let outcome = plane
        .try_master(CreateMaster {
            name: String::new(),
            group: Some(" x".to_owned()),
            namespaces: Some(texts(&["default", "nowhere"])),
            default_namespace: Some("elsewhere".to_owned()),
            ..CreateMaster::default()
        })
        .await;
    assert_eq!(pointers(outcome), ["/name", "/group", "/default_namespace", "/namespaces/1"]);
    let outcome = plane
        .try_master(CreateMaster { name: "x".to_owned(), namespaces: Some(Vec::new()), ..CreateMaster::default() })
        .await;
    assert_eq!(pointers(outcome), ["/namespaces"]);

    let elsewhere =
        CreateMaster { name: "x".to_owned(), default_namespace: Some("nowhere".to_owned()), ..CreateMaster::default() };
    assert_eq!(pointers(plane.try_master(elsewhere).await), ["/default_namespace"]);

    let master = plane.master("acme").await.master;
    let outcome = plane
        .try_key(
            master.id,
            CreateChildKey {
                name: Some("tab\t".to_owned()),
                group: Some("gold".to_owned()),
                scopes: Some(texts(&["chat:*", "chat"])),
                namespaces: Some(texts(&["default", "nowhere"])),
                status: Some(KeyStatus::Exhausted),
                expires_at: Some(plane.control.now()),
                allow_ips: Some(texts(&["10.0.0.0/8", "10.0.0.0/33"])),
                deny_ips: Some(texts(&["here"])),
                model_limits: Some(texts(&["m", ""])),
                ..CreateChildKey::default()
            },
        )
        .await;
    let expected = [
        "/name",
        "/group",
        "/scopes/1",
        "/status",
        "/expires_at",
        "/allow_ips/1",
        "/deny_ips/0",
        "/model_limits/1",
        "/namespaces/1",
    ];
    assert_eq!(pointers(outcome), expected);

    let outcome = plane
        .try_group(CreateProviderGroup {
            provider_type: ProviderType::Codex,
            base_url: Some("http://169.254.169.254/v1".to_owned()),
            models: Some(texts(&[""])),
            ..openai_group("")
        })
        .await;
    assert_eq!(pointers(outcome), ["/name", "/models/0", "/type", "/base_url"]);
    for provider_type in [ProviderType::Compatible, ProviderType::Azure] {
        let outcome = plane.try_group(CreateProviderGroup { provider_type, ..openai_group("own") }).await;
        assert_eq!(pointers(outcome), ["/base_url"], "{provider_type}");
    }

    let secret = SecretString::from("sk-hidden\nhidden");
    let outcome = plane.try_api_key(secret_in(77, secret.expose_secret())).await;
    let told = faults(outcome);
    assert!(told.len() == 2 && told[0].starts_with("/api_key") && told[1].starts_with("/group_id"), "{told:?}");
    assert!(!told[0].contains("hidden"), "a fault repeats nothing of a secret: {told:?}");
    let group = plane.group("openai").await;
    assert_eq!(pointers(plane.try_api_key(secret_in(group.id, " \n")).await), ["/api_key"]);
    let none = CreateApiKey { max_concurrency: Some(0), ..secret_in(group.id, "sk") };
    assert_eq!(pointers(plane.try_api_key(none).await), ["/max_concurrency"]);

    let outcome = plane
        .try_binding(CreateBinding {
            namespace: "nowhere".to_owned(),
            public_model: String::new(),
            group_id: 77,
            selector_type: Some(SelectorType::Regex),
            selector_value: Some("(".to_owned()),
            ..CreateBinding::default()
        })
        .await;
    assert_eq!(pointers(outcome), ["/public_model", "/selector_value", "/namespace", "/group_id"]);

    for name in ["", "Team", "a.b", "-a"] {
        let write = plane.write().await;
        let outcome =
            namespaces::create(&write, CreateNamespace { name: name.to_owned(), ..CreateNamespace::default() });
        assert_eq!(pointers(outcome.await), ["/name"], "{name}");
    }
}

pub(crate) async fn a_base_url_is_brought_into_one_form(plane: Plane) {
    let asked = |url: &str| CreateProviderGroup {
        provider_type: ProviderType::Compatible,
        base_url: Some(url.to_owned()),
        protocols: Some(vec![Protocol::OpenaiChat, Protocol::OpenaiChat]),
        models: Some(texts(&["a", "b", "a"])),
        ..openai_group(url)
    };
    let group = plane.try_group(asked("http://127.0.0.1:9000/v1/v1/")).await.unwrap();
    assert_eq!(group.base_url, "http://127.0.0.1:9000/v1");
    assert_eq!((group.models, group.protocols), (texts(&["a", "b"]), vec![Protocol::OpenaiChat]));

    // A type that must bring its URL cannot lose it.
    let write = plane.write().await;
    let change = ChangeProviderGroup { base_url: Some(None), ..ChangeProviderGroup::default() };
    assert_eq!(pointers(provider_groups::update(&write, group.id, change).await), ["/base_url"]);
}

pub(crate) async fn names_are_unique(plane: Plane) {
    plane.group("openai").await;
    let (message, _) = conflict(plane.try_group(openai_group("openai")).await);
    assert!(message.starts_with("another provider group has the same name"), "{message}");

    let group = plane.group("other").await;
    plane.binding(group.id).await;
    let (message, _) = conflict(plane.try_binding(model_of(group.id)).await);
    assert!(message.contains("namespace, public_model, group_id"), "{message}");

    plane.namespace("team").await;
    let write = plane.write().await;
    let outcome = namespaces::create(&write, CreateNamespace { name: "team".to_owned(), ..CreateNamespace::default() });
    conflict(outcome.await);
}

pub(crate) async fn a_key_takes_its_masters_access_and_never_more(plane: Plane) {
    for name in ["a", "b", "c"] {
        plane.namespace(name).await;
    }
    let asked = CreateMaster {
        name: "acme".to_owned(),
        group: Some("gold".to_owned()),
        namespaces: Some(texts(&["a", "b"])),
        default_namespace: Some("b".to_owned()),
        ..CreateMaster::default()
    };
    let master = plane.try_master(asked).await.unwrap().master;

    let key = plane.key(master.id).await.key;
    assert_eq!((key.group.as_str(), key.default_namespace.as_str()), ("gold", "b"));
    assert_eq!(key.namespaces, texts(&["a", "b"]));
    let narrow = CreateChildKey { namespaces: Some(texts(&["a"])), ..CreateChildKey::default() };
    let narrow = plane.try_key(master.id, narrow).await.unwrap().key;
    assert_eq!((narrow.default_namespace.as_str(), &narrow.namespaces), ("a", &texts(&["a"])));
    let wide = CreateChildKey { namespaces: Some(texts(&["a", "c"])), ..CreateChildKey::default() };
    assert_eq!(pointers(plane.try_key(master.id, wide).await), ["/namespaces/1"]);

    let write = plane.write().await;
    let change = ChangeChildKey { namespaces: Some(texts(&["b"])), ..ChangeChildKey::default() };
    let outcome = child_keys::update(&write, Tenant::Any, narrow.id, change).await;
    assert_eq!(pointers(outcome), ["/default_namespace"], "the default has to move along");
}

pub(crate) async fn a_master_is_issued_no_more_keys_than_it_may_have(plane: Plane) {
    let asked = CreateMaster { name: "acme".to_owned(), max_child_keys: Some(2), ..CreateMaster::default() };
    let master = plane.try_master(asked).await.unwrap().master;
    plane.key(master.id).await;
    plane.key(master.id).await;
    let (message, _) = conflict(plane.try_key(master.id, CreateChildKey::default()).await);
    assert!(message.contains("all 2 child keys"), "{message}");

    let other = plane.master("other").await.master;
    let write = plane.write().await;
    let suspend = ChangeMaster { status: Some(RecordStatus::Suspended), ..ChangeMaster::default() };
    masters::update(&write, other.id, suspend).await.unwrap();
    write.commit().await.unwrap();
    let (message, _) = conflict(plane.try_key(other.id, CreateChildKey::default()).await);
    assert!(message.contains("suspended"), "{message}");
    assert_not_found(plane.try_key(999, CreateChildKey::default()).await);
}

pub(crate) async fn a_change_changes_what_it_names_and_null_clears(plane: Plane) {
    let master = plane.master("acme").await.master;
    let end = plane.control.now() + Duration::from_secs(60);
    let asked = CreateChildKey {
        name: Some("app".to_owned()),
        expires_at: Some(end),
        scopes: Some(texts(&["chat:*"])),
        ..CreateChildKey::default()
    };
    let key = plane.try_key(master.id, asked).await.unwrap().key;
    plane.clock.advance(Duration::from_secs(1));

    let write = plane.write().await;
    let change = ChangeChildKey { allow_ips: Some(texts(&["10.0.0.1"])), ..ChangeChildKey::default() };
    let changed = child_keys::update(&write, Tenant::Any, key.id, change).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.expires_at, &changed.scopes), ("app", Some(end), &key.scopes));
    assert_eq!((changed.created_at, changed.updated_at), (key.created_at, plane.control.now()));
    let clear = ChangeChildKey { name: Some(None), expires_at: Some(None), ..ChangeChildKey::default() };
    let cleared = child_keys::update(&write, Tenant::Any, key.id, clear).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!((cleared.name.as_str(), cleared.expires_at, &cleared.allow_ips), ("", None, &texts(&["10.0.0.1"])));
    assert_eq!(child_keys::get(&plane.control, Tenant::Any, key.id).await.unwrap(), cleared);

    let group = plane.group("openai").await;
    let api_key = plane.api_key(group.id).await;
    let write = plane.write().await;
    let change = ChangeApiKey { weight: Some(3), status: Some(ApiKeyStatus::AutoDisabled), ..ChangeApiKey::default() };
    assert_eq!(pointers(api_keys::update(&write, api_key.id, change).await), ["/status"]);
    drop(write);
    let write = plane.write().await;
    let secret = Some(SecretString::from("sk-next"));
    let changed = api_keys::update(&write, api_key.id, ChangeApiKey { api_key: secret, ..ChangeApiKey::default() });
    let changed = changed.await.unwrap();
    assert_ne!(changed.api_key, api_key.api_key);
    for limit in [Some(8), None] {
        let change = ChangeApiKey { max_concurrency: Some(limit), ..ChangeApiKey::default() };
        let changed = api_keys::update(&write, api_key.id, change).await.unwrap();
        assert_eq!((changed.max_concurrency, changed.weight), (limit, 1));
    }
    assert_eq!((changed.uuid, changed.weight), (api_key.uuid, 1));

    let namespace = ChangeNamespace { description: Some(Some("d".to_owned())), ..ChangeNamespace::default() };
    assert_eq!(namespaces::update(&write, 1, namespace).await.unwrap().description, "d");
    let change = ChangeBinding { selector_value: Some(Some("x".to_owned())), ..ChangeBinding::default() };
    assert_not_found(bindings::update(&write, 1, change).await);
    let change = ChangeProviderGroup { models: Some(texts(&["n"])), ..ChangeProviderGroup::default() };
    let changed = provider_groups::update(&write, group.id, change).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!((changed.models.clone(), changed.name.as_str()), (texts(&["n"]), "openai"));
    assert_eq!(provider_groups::get(&plane.control, group.id).await.unwrap(), changed);
}

pub(crate) async fn a_master_keeps_the_namespaces_that_its_keys_have(plane: Plane) {
    plane.namespace("a").await;
    let asked =
        CreateMaster { name: "acme".to_owned(), namespaces: Some(texts(&["default", "a"])), ..CreateMaster::default() };
    let master = plane.try_master(asked).await.unwrap().master;
    let key = plane.key(master.id).await.key;
    let narrow = || ChangeMaster { namespaces: Some(texts(&["default"])), ..ChangeMaster::default() };

    let write = plane.write().await;
    let (_, references) = conflict(masters::update(&write, master.id, narrow()).await);
    assert_eq!(references, [format!("child key {} ({})", key.id, key.prefix)]);
    drop(write);

    let write = plane.write().await;
    let change = ChangeChildKey { namespaces: Some(texts(&["default"])), ..ChangeChildKey::default() };
    child_keys::update(&write, Tenant::Any, key.id, change).await.unwrap();
    let narrowed = masters::update(&write, master.id, narrow()).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(narrowed.namespaces, texts(&["default"]));
}

pub(crate) async fn a_master_reaches_its_own_keys_alone(plane: Plane) {
    let (acme, other) = (plane.master("acme").await.master, plane.master("other").await.master);
    let write = plane.control.write(Actor::master(acme.id, origin())).await.unwrap();
    let own = child_keys::create(&write, acme.id, CreateChildKey::default()).await.unwrap().key;
    write.commit().await.unwrap();
    assert_eq!(own.issued_by, IssuedBy::Master);
    let foreign = plane.key(other.id).await.key;

    let tenant = Tenant::Only(acme.id);
    assert_eq!(child_keys::get(&plane.control, tenant, own.id).await.unwrap(), own);
    assert_not_found(child_keys::get(&plane.control, tenant, foreign.id).await);
    let asking_for_more = ChildKeyFilter { master_id: Some(other.id), ..ChildKeyFilter::default() };
    let listed = child_keys::list(&plane.control, tenant, &asking_for_more, Sort::default(), FIRST_PAGE).await.unwrap();
    assert_eq!((listed.total, listed.items), (1, vec![own.clone()]));
    let everything = ChildKeyFilter::default();
    let all = child_keys::list(&plane.control, Tenant::Any, &everything, Sort::default(), FIRST_PAGE).await.unwrap();
    assert_eq!(all.total, 2);

    let write = plane.control.write(Actor::master(acme.id, origin())).await.unwrap();
    assert_not_found(child_keys::update(&write, tenant, foreign.id, ChangeChildKey::default()).await);
    assert_not_found(child_keys::delete(&write, tenant, foreign.id).await);
    child_keys::delete(&write, tenant, own.id).await.unwrap();
    write.commit().await.unwrap();
    let outcome = child_keys::get(&plane.control, Tenant::Any, own.id).await;
    assert!(
        matches!(&outcome, Err(ControlError::NotFound { what }) if what.contains(&own.id.to_string())),
        "{outcome:?}"
    );
}

pub(crate) async fn endless_lists_of_namespaces_are_refused_unread(plane: Plane) {
    let names = |count: usize| -> Vec<String> { (0..count).map(|number| format!("n{number}")).collect() };
    let master = plane.master("acme").await.master;
    for count in [1001, 40_000] {
        let asked = CreateMaster { namespaces: Some(names(count)), ..CreateMaster::default() };
        assert_eq!(faults(plane.try_master(asked).await), ["/namespaces: must have at most 1000 entries"]);
        let asked = CreateChildKey { namespaces: Some(names(count)), ..CreateChildKey::default() };
        assert_eq!(faults(plane.try_key(999, asked).await), ["/namespaces: must have at most 1000 entries"]);
        let write = plane.write().await;
        let change = ChangeMaster { namespaces: Some(names(count)), ..ChangeMaster::default() };
        assert_eq!(pointers(masters::update(&write, 999, change).await), ["/namespaces"]);
        let change = ChangeChildKey { namespaces: Some(names(count)), ..ChangeChildKey::default() };
        assert_eq!(pointers(child_keys::update(&write, Tenant::Any, 999, change).await), ["/namespaces"]);
    }
    let asked = CreateChildKey { namespaces: Some(names(1000)), ..CreateChildKey::default() };
    assert_eq!(faults(plane.try_key(master.id, asked).await).len(), 100, "so many are enough");
    let asked = CreateMaster { name: "many".to_owned(), namespaces: Some(names(1000)), ..CreateMaster::default() };
    assert_eq!(faults(plane.try_master(asked).await).len(), 100);
}

pub(crate) async fn control_characters_are_refused_before_any_look_up(plane: Plane) {
    let asked = CreateMaster {
        name: "a\0".to_owned(),
        namespaces: Some(texts(&["default", "a\0"])),
        ..CreateMaster::default()
    };
    assert_eq!(pointers(plane.try_master(asked).await), ["/name", "/namespaces/1"]);
    let group = plane.group("openai").await;
    let asked = CreateBinding { namespace: "default\0".to_owned(), ..model_of(group.id) };
    assert_eq!(pointers(plane.try_binding(asked).await), ["/namespace"]);
    let write = plane.write().await;
    let new = CreateNamespace { description: Some("a\0".to_owned()), name: "a".to_owned(), status: None };
    assert_eq!(pointers(namespaces::create(&write, new).await), ["/description"]);
    let new = CreateNamespace { description: Some("two\nlines".to_owned()), name: "a".to_owned(), status: None };
    namespaces::create(&write, new).await.unwrap();
}

pub(crate) async fn a_key_may_keep_the_group_that_its_master_had(plane: Plane) {
    let master = plane.master("acme").await.master;
    let key = plane.key(master.id).await.key;
    let write = plane.write().await;
    let change = ChangeMaster { group: Some("gold".to_owned()), ..ChangeMaster::default() };
    masters::update(&write, master.id, change).await.unwrap();
    let to = |group: &str| ChangeChildKey { group: Some(group.to_owned()), ..ChangeChildKey::default() };
    let kept = child_keys::update(&write, Tenant::Any, key.id, to("default")).await.unwrap();
    assert_eq!(kept.group, "default");
    assert_eq!(pointers(child_keys::update(&write, Tenant::Any, key.id, to("silver")).await), ["/group"]);
    let moved = child_keys::update(&write, Tenant::Any, key.id, to("gold")).await.unwrap();
    assert_eq!(moved.group, "gold");
    assert_eq!(pointers(child_keys::update(&write, Tenant::Any, key.id, to("default")).await), ["/group"]);
}

pub(crate) async fn a_key_ends_in_a_year_that_can_be_written(plane: Plane) {
    let master = plane.master("acme").await.master;
    let ending =
        |seconds| CreateChildKey { expires_at: DateTime::from_timestamp(seconds, 0), ..CreateChildKey::default() };
    assert_eq!(pointers(plane.try_key(master.id, ending(253_402_300_800)).await), ["/expires_at"]);
    plane.try_key(master.id, ending(253_402_300_799)).await.unwrap();
}
