//! Lists of configuration: pages, order, filters, search.

use ez_contract::provider::ProviderType;
use ez_contract::status::{ApiKeyStatus, KeyStatus, RecordStatus};
use ez_store::api_keys::ApiKeyFilter;
use ez_store::bindings::BindingFilter;
use ez_store::child_keys::ChildKeyFilter;
use ez_store::masters::MasterFilter;
use ez_store::namespaces::NamespaceFilter;
use ez_store::provider_groups::ProviderGroupFilter;
use ez_store::{Page, Sort, SortField};
use ez_store::{api_keys, bindings, child_keys, masters, namespaces, provider_groups};

use crate::fixture::{FIRST_PAGE, Fixture, new_binding, new_master, texts};

pub(crate) async fn pages_add_up_in_either_order(db: Fixture) {
    for name in ["c", "a", "e", "b", "d"] {
        db.master(name).await;
    }
    for (descending, expected) in [(false, ["a", "b", "c", "d", "e"]), (true, ["e", "d", "c", "b", "a"])] {
        let sort = Sort { by: SortField::Name, descending };
        let mut names = Vec::new();
        for offset in [0, 2, 4, 6] {
            let page = Page { offset, limit: 2 };
            let part = masters::list(&db.store, &MasterFilter::default(), sort, page).await.unwrap();
            assert_eq!(part.total, 5);
            names.extend(part.items.into_iter().map(|master| master.name));
        }
        assert_eq!(names, expected);
    }
    // Equal times are ordered by id.
    let sort = Sort { by: SortField::CreatedAt, descending: true };
    let newest = masters::list(&db.store, &MasterFilter::default(), sort, Page { offset: 0, limit: 1 }).await.unwrap();
    assert_eq!(newest.items[0].name, "d");
}

pub(crate) async fn filters_narrow_the_list(db: Fixture) {
    let (acme, other) = (db.master("acme").await, db.master("other").await);
    let key = db.child_key(acme.id, "sk-1").await;
    db.child_key(other.id, "sk-2").await;
    let of_acme = ChildKeyFilter { master_id: Some(acme.id), ..ChildKeyFilter::default() };
    let keys = child_keys::list(&db.store, &of_acme, Sort::default(), FIRST_PAGE).await.unwrap();
    assert_eq!((keys.items, keys.total), (vec![key], 1));
    let dead = ChildKeyFilter { status: Some(KeyStatus::Expired), ..of_acme };
    assert_eq!(child_keys::list(&db.store, &dead, Sort::default(), FIRST_PAGE).await.unwrap().total, 0);

    let suspended = MasterFilter { status: Some(RecordStatus::Suspended), ..MasterFilter::default() };
    assert_eq!(masters::list(&db.store, &suspended, Sort::default(), FIRST_PAGE).await.unwrap().total, 0);
    let of_group = MasterFilter { group: Some("research".to_owned()), ..MasterFilter::default() };
    assert_eq!(masters::list(&db.store, &of_group, Sort::default(), FIRST_PAGE).await.unwrap().total, 2);

    for (namespace, expected) in [("other", 2), ("oth__", 0), ("the", 0), ("OTHER", 0), ("%", 0), ("a\"b", 0)] {
        let using = MasterFilter { namespace: Some(namespace.to_owned()), ..MasterFilter::default() };
        let found = masters::list(&db.store, &using, Sort::default(), FIRST_PAGE).await.unwrap();
        assert_eq!(found.total, expected, "{namespace}");
    }
    for (group, expected) in [(acme.group.as_str(), 1), ("gold", 0)] {
        let of_group =
            ChildKeyFilter { group: Some(group.to_owned()), master_id: Some(acme.id), ..ChildKeyFilter::default() };
        let keys = child_keys::list(&db.store, &of_group, Sort::default(), FIRST_PAGE).await.unwrap();
        assert_eq!(keys.total, expected, "{group}");
    }

    let (one, two) = (db.provider_group("one").await, db.provider_group("two").await);
    let of_type = |provider_type| ProviderGroupFilter { provider_type: Some(provider_type), ..Default::default() };
    for (provider_type, expected) in [(ProviderType::VertexExpress, 2), (ProviderType::Openai, 0)] {
        let groups = provider_groups::list(&db.store, &of_type(provider_type), Sort::default(), FIRST_PAGE).await;
        assert_eq!(groups.unwrap().total, expected, "{provider_type}");
    }
    for (label, expected) in [(one.route_group.as_str(), 2), ("none", 0)] {
        let labelled = ProviderGroupFilter { route_group: Some(label.to_owned()), ..Default::default() };
        let groups = provider_groups::list(&db.store, &labelled, Sort::default(), FIRST_PAGE).await.unwrap();
        assert_eq!(groups.total, expected, "{label}");
    }
    db.api_key(one.id, "first").await;
    db.api_key(two.id, "second").await;
    let active_of_two =
        ApiKeyFilter { group_id: Some(two.id), status: Some(ApiKeyStatus::Active), search: Some("ACCT".to_owned()) };
    let keys = api_keys::list(&db.store, &active_of_two, Sort::default(), FIRST_PAGE).await.unwrap();
    assert_eq!(keys.items.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["second"]);

    for (model, group) in [("m1", one.id), ("m1", two.id), ("m2", two.id)] {
        db.commit(async |tx| bindings::create(tx, &new_binding("default", model, group)).await).await;
    }
    let filter = BindingFilter {
        namespace: Some("default".to_owned()),
        public_model: Some("m1".to_owned()),
        group_id: Some(two.id),
        search: Some("M".to_owned()),
        status: Some(RecordStatus::Active),
    };
    assert_eq!(bindings::list(&db.store, &filter, Sort::default(), FIRST_PAGE).await.unwrap().total, 1);
    let active = NamespaceFilter { search: Some("def".to_owned()), status: Some(RecordStatus::Active) };
    assert_eq!(namespaces::list(&db.store, &active, Sort::default(), FIRST_PAGE).await.unwrap().total, 1);
}

pub(crate) async fn search_ignores_case_and_takes_wildcards_literally(db: Fixture) {
    for name in ["100% Acme", "100x acme", "a_b", "axb", r"back\slash", "quote'd", "Ärger"] {
        db.master(name).await;
    }
    for (term, expected) in [
        ("ACME", &["100% Acme", "100x acme"][..]),
        ("0%", &["100% Acme"]),
        ("A_B", &["a_b"]),
        (r"K\S", &[r"back\slash"]),
        ("'", &["quote'd"]),
        ("Ärger", &["Ärger"]),
        ("%", &["100% Acme"]),
        ("nothing", &[]),
    ] {
        let filter = MasterFilter { search: Some(term.to_owned()), ..MasterFilter::default() };
        let found = masters::list(&db.store, &filter, Sort::default(), FIRST_PAGE).await.unwrap();
        assert_eq!(found.items.iter().map(|master| master.name.as_str()).collect::<Vec<_>>(), expected, "{term}");
    }
}

pub(crate) async fn a_namespace_is_found_among_others_by_its_whole_name(db: Fixture) {
    for (name, listed) in [("one", &["team_a", "x"][..]), ("two", &["teamxa"]), ("three", &["team_ab"]), ("four", &[])]
    {
        let mut new = new_master(name);
        new.namespaces = texts(listed);
        db.commit(async |tx| masters::create(tx, &new).await).await;
    }
    let using = masters::list_by_namespace(&db.store, "team_a", 10).await.unwrap();
    assert_eq!(using.iter().map(|master| master.name.as_str()).collect::<Vec<_>>(), ["one"]);
    let master_id = using[0].id;
    let key = db.child_key(master_id, "sk-1").await;
    assert_eq!(child_keys::list_by_namespace(&db.store, "default", 10).await.unwrap(), [key]);
    assert_eq!(child_keys::list_by_namespace(&db.store, "defaul", 10).await.unwrap(), []);
}

pub(crate) async fn a_whole_table_can_be_walked(db: Fixture) {
    for number in 0..7 {
        db.master(&format!("m{number}")).await;
    }
    let (mut walked, mut after) = (Vec::new(), 0);
    loop {
        let part = masters::list_after(&db.store, after, 3).await.unwrap();
        let Some(last) = part.last() else { break };
        after = last.id;
        walked.extend(part);
    }
    assert_eq!(walked, masters::list_all(&db.store).await.unwrap());
    assert_eq!(walked.len(), 7);
}
