//! Tables over the pure part of snapshot building.

use chrono::Utc;
use ez_contract::capability::CapabilityOverrides;
use ez_contract::models::ModelKind;
use ez_contract::provider::ProviderType;
use ez_contract::selector::SelectorType;
use ez_contract::snapshot::ModelSnapshot;
use ez_contract::status::KeyStatus;
use ez_store::{IssuedBy, QuotaReset};
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::catalogue::{ModelFacts, Prices, Supports};

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
}

fn namespace() -> Namespace {
    Namespace {
        id: 1,
        name: "ns".to_owned(),
        description: String::new(),
        status: RecordStatus::Active,
        created_at: at(0),
        updated_at: at(0),
    }
}

fn binding(id: i64, group_id: i64) -> Binding {
    Binding {
        id,
        namespace: "ns".to_owned(),
        public_model: "m".to_owned(),
        group_id,
        weight: 1,
        priority: 0,
        on_client_gone: None,
        selector_type: SelectorType::Exact,
        selector_value: String::new(),
        status: RecordStatus::Active,
        created_at: at(0),
        updated_at: at(0),
    }
}

fn group(id: i64) -> ProviderGroup {
    ProviderGroup {
        id,
        name: format!("pg{id}"),
        provider_type: ProviderType::Openai,
        protocols: Vec::new(),
        route_group: "default".to_owned(),
        base_url: String::new(),
        google_project: String::new(),
        google_location: String::new(),
        api_version: None,
        models: vec!["m".to_owned(), "m-2025".to_owned()],
        status: RecordStatus::Active,
        total_requests: 0,
        success_requests: 0,
        failure_requests: 0,
        last_used_at: None,
        created_at: at(0),
        updated_at: at(0),
    }
}

fn api_key(id: i64, group_id: i64) -> ApiKey {
    ApiKey {
        id,
        uuid: Uuid::from_u128(7),
        group_id,
        name: String::new(),
        api_key: Some("enc:v1:x".to_owned()),
        access_token: None,
        refresh_token: None,
        expires_at: None,
        account_id: None,
        project_id: None,
        weight: 1,
        max_concurrency: None,
        status: ApiKeyStatus::Active,
        auto_ban: true,
        ban_reason: None,
        ban_until: None,
        total_requests: 0,
        success_requests: 0,
        failure_requests: 0,
        last_used_at: None,
        created_at: at(0),
        updated_at: at(0),
    }
}

fn child_key() -> ChildKey {
    ChildKey {
        id: 5,
        master_id: 2,
        name: "app".to_owned(),
        token_hash: None,
        token_digest: TokenDigest::of("now"),
        prefix: String::new(),
        previous_digest: Some(TokenDigest::of("before")),
        previous_expires_at: Some(at(60)),
        group: "default".to_owned(),
        scopes: vec!["*".to_owned()],
        default_namespace: "ns".to_owned(),
        namespaces: vec!["ns".to_owned()],
        status: KeyStatus::Active,
        issued_at_epoch: 1,
        issued_by: IssuedBy::Admin,
        expires_at: Some(at(3600)),
        allow_ips: Vec::new(),
        deny_ips: Vec::new(),
        model_limits_enabled: false,
        model_limits: Vec::new(),
        quota_limit: Some(100),
        quota_reset: QuotaReset::None,
        quota_reset_at: None,
        global_qps: 0,
        rpm: Some(60),
        tpm: None,
        rpd: None,
        tpd: None,
        max_concurrency: Some(8),
        quota_used: 5,
        request_count: 0,
        used_tokens: 0,
        last_used_at: None,
        created_at: at(0),
        updated_at: at(0),
    }
}

/// Compiles one binding to one group with the API keys 1 (active) and 2 (suspended), after `change`.
fn compile_one(change: impl FnOnce(&mut Binding, &mut Supply)) -> Candidate {
    let mut binding = binding(1, 7);
    let suspended = ApiKey { status: ApiKeyStatus::Suspended, ..api_key(2, 7) };
    let mut supply = Supply { group: group(7), api_keys: vec![api_key(1, 7), suspended] };
    change(&mut binding, &mut supply);
    let compiled = compile_binding(&namespace(), "m", &[binding], &BTreeMap::from([(7, supply)]));
    compiled.candidates.into_iter().next().unwrap()
}

#[test]
fn a_candidate_serves_or_says_why_not() {
    use CandidateError::{ConfigError, NoProvider};
    use RecordStatus::{Active, Suspended};
    type Change = fn(&mut Binding, &mut Supply);
    type Upstreams<'a> = &'a [(i64, &'a str)];
    type Case<'a> = (&'a str, Change, RecordStatus, Option<CandidateError>, Upstreams<'a>);
    let cases: &[Case<'_>] = &[
        ("as it is", |_, _| {}, Active, None, &[(1, "m")]),
        ("selector value", |b, _| b.selector_value = "m-2025".to_owned(), Active, None, &[(1, "m-2025")]),
        (
            "regex",
            |b, _| {
                b.selector_type = SelectorType::Regex;
                b.selector_value = "2025$".to_owned();
            },
            Active,
            None,
            &[(1, "m-2025")],
        ),
        ("several hits", |b, _| b.selector_type = SelectorType::Regex, Active, Some(ConfigError), &[]),
        ("no hit", |_, s| s.group.models.clear(), Active, Some(ConfigError), &[]),
        ("no API keys", |_, s| s.api_keys.clear(), Active, Some(NoProvider), &[]),
        ("auto_disabled", |_, s| s.api_keys[0].status = ApiKeyStatus::AutoDisabled, Active, Some(NoProvider), &[]),
        (
            "neither model nor key",
            |_, s| {
                s.group.models.clear();
                s.api_keys.clear();
            },
            Active,
            Some(ConfigError),
            &[],
        ),
        ("banned is the gateway's matter", |_, s| s.api_keys[0].ban_until = Some(at(1)), Active, None, &[(1, "m")]),
        ("suspended binding", |b, _| b.status = Suspended, Suspended, None, &[(1, "m")]),
        ("suspended group", |_, s| s.group.status = Suspended, Suspended, Some(NoProvider), &[]),
    ];
    for (name, change, status, error, upstreams) in cases {
        let candidate = compile_one(change);
        let upstreams: BTreeMap<i64, String> = upstreams.iter().map(|(id, model)| (*id, (*model).to_owned())).collect();
        assert_eq!((candidate.status, candidate.error, candidate.upstreams), (*status, *error, upstreams), "{name}");
    }
}

#[test]
fn candidates_come_by_priority_and_then_by_group() {
    let supplies = [3, 4, 5, 6].map(|id| (id, Supply { group: group(id), api_keys: Vec::new() }));
    let with_priority = |group_id, priority| Binding { priority, ..binding(group_id, group_id) };
    let bindings = [with_priority(5, 0), with_priority(4, -1), with_priority(3, 0), with_priority(6, 9)];
    let compiled = compile_binding(&namespace(), "m", &bindings, &BTreeMap::from(supplies));
    let order: Vec<i64> = compiled.candidates.iter().map(|candidate| candidate.group_id).collect();
    assert_eq!(order, [6, 3, 5, 4]);
}

#[test]
fn a_binding_tells_of_its_namespace_and_of_its_newest_part() {
    let suspended = Namespace { status: RecordStatus::Suspended, ..namespace() };
    let newest = ApiKey { updated_at: at(9), ..api_key(1, 7) };
    let supply = Supply { group: ProviderGroup { updated_at: at(5), ..group(7) }, api_keys: vec![newest] };
    let gone = binding(2, 8);
    let compiled = compile_binding(&suspended, "m", &[binding(1, 7), gone], &BTreeMap::from([(7, supply)]));
    assert_eq!((compiled.namespace.as_str(), compiled.public_model.as_str()), ("ns", "m"));
    assert_eq!((compiled.status, compiled.updated_at), (RecordStatus::Suspended, at(9).timestamp()));
    assert_eq!(compiled.candidates.len(), 1, "a group that was deleted leaves no candidate");
}

#[test]
fn a_suspended_group_suspends_its_active_api_keys_and_no_others() {
    use ApiKeyStatus::{Active, AutoDisabled, ManualDisabled, Suspended};
    let cases = [
        (RecordStatus::Active, Active, Active),
        (RecordStatus::Active, AutoDisabled, AutoDisabled),
        (RecordStatus::Suspended, Active, Suspended),
        (RecordStatus::Suspended, Suspended, Suspended),
        (RecordStatus::Suspended, ManualDisabled, ManualDisabled),
    ];
    for (of_group, own, expected) in cases {
        let group = ProviderGroup { status: of_group, ..group(7) };
        let snapshot = provider_snapshot(&group, &ApiKey { status: own, ..api_key(42, 7) });
        assert_eq!(snapshot.status, expected, "{of_group} {own}");
        assert_eq!((snapshot.name.as_str(), snapshot.weight), ("pg7#42", None));
    }
    let heavy = provider_snapshot(&group(7), &ApiKey { weight: 0, ..api_key(42, 7) });
    assert_eq!(heavy.weight, Some(0), "only a weight of 1 goes without saying");
}

#[test]
fn a_token_carries_its_limits_and_its_previous_digest_counts_for_a_while() {
    let key = child_key();
    let snapshot = token_snapshot(&key, &key.token_digest);
    assert_eq!((snapshot.id, snapshot.master_id, snapshot.expires_at), (5, 2, Some(at(3600).timestamp())));
    let limits = Limits { rpm: Some(60), concurrency: Some(8), ..Limits::default() };
    assert_eq!(snapshot.limits, limits, "0 calls per second means unlimited");
    assert_eq!(snapshot.quota, Some(Quota { limit: 100, used: 5, reset_at: None }));

    let (now, before) = (TokenDigest::of("now"), TokenDigest::of("before"));
    assert_eq!(token_digests(&key), [now, before]);
    assert_eq!(token_snapshot(&key, &before).expires_at, Some(at(60).timestamp()), "the earlier of both ends");
    let endless = ChildKey { expires_at: None, ..key.clone() };
    assert_eq!(token_snapshot(&endless, &before).expires_at, Some(at(60).timestamp()));
    assert_eq!(token_snapshot(&endless, &now).expires_at, None);
    let short = ChildKey { expires_at: Some(at(30)), ..key.clone() };
    assert_eq!(token_snapshot(&short, &before).expires_at, Some(at(30).timestamp()));
    let without_end = ChildKey { previous_expires_at: None, ..key };
    assert_eq!(token_digests(&without_end), [now], "a digest without an end never counts");
}

/// What the model `ns.m` can do with candidates of these priorities, upstream models and facts, after `change`.
fn compile_models(
    candidates: &[(i32, &str, Option<&ModelFacts>)],
    change: impl FnOnce(&mut BindingSnapshot),
) -> Option<ModelSnapshot> {
    let mut supplies = BTreeMap::new();
    let mut bindings = Vec::new();
    for (id, (priority, model, _)) in (1..).zip(candidates) {
        let group = ProviderGroup { models: vec![(*model).to_owned()], ..group(id) };
        supplies.insert(id, Supply { group, api_keys: vec![api_key(id * 10, id), api_key(id * 10 + 1, id)] });
        bindings.push(Binding { priority: *priority, selector_value: (*model).to_owned(), ..binding(id, id) });
    }
    let mut compiled = compile_binding(&namespace(), "m", &bindings, &supplies);
    change(&mut compiled);
    let known = |upstream: &str| candidates.iter().find(|(_, model, _)| *model == upstream)?.2.cloned();
    model_snapshot(&compiled, known)
}

fn facts(kind: ModelKind, sizes: [u64; 2], prices: [&str; 4], supports: [bool; 5]) -> Option<ModelFacts> {
    let [input, output, cache_read, cache_write] = prices.map(|price| price.parse().ok());
    let [vision, functions, tool_choice, fim, stream] = supports;
    Some(ModelFacts {
        kind,
        context_window: sizes[0],
        max_output_tokens: sizes[1],
        prices: Prices { input, output, cache_read, cache_write },
        supports: Supports { vision, functions, tool_choice, fim, stream },
        capabilities: CapabilityOverrides::default(),
    })
}

/// Kind, sizes, prices and capabilities of `ns.m`.
type Expected<'a> = (&'a str, [u64; 2], &'a [(&'a str, &'a str)], [bool; 5]);

fn model_of((kind, [context_window, max_output_tokens], prices, supports): Expected<'_>) -> ModelSnapshot {
    ModelSnapshot {
        name: "ns.m".to_owned(),
        kind: kind.to_owned(),
        context_window,
        supports_vision: supports[0],
        supports_functions: supports[1],
        supports_tool_choice: supports[2],
        supports_fim: supports[3],
        supports_stream: supports[4],
        max_output_tokens,
        prices: prices.iter().map(|(name, price)| ((*name).to_owned(), (*price).to_owned())).collect(),
        capabilities: BTreeMap::new(),
    }
}

#[test]
fn a_model_can_do_what_all_that_can_serve_it_can_do() {
    use ModelKind::{Chat, Embedding, Rerank};
    type Change = fn(&mut BindingSnapshot);
    type Candidates<'a> = &'a [(i32, &'a str, Option<&'a ModelFacts>)];
    type Case<'a> = (&'a str, Candidates<'a>, Change, Option<Expected<'a>>);
    let large = facts(Chat, [200, 20], ["3", "15", "0.3", "3.75"], [true, true, true, false, true]);
    let small = facts(Chat, [100, 50], ["10", "9.99", "0.1", ""], [true, false, true, true, true]);
    let embedding = facts(Embedding, [8, 0], ["0.02", "0", "", ""], [false; 5]);
    let rerank = facts(Rerank, [4, 4], ["", "", "", ""], [false; 5]);
    let [large, small, embedding, rerank] = [&large, &small, &embedding, &rerank].map(Option::as_ref);
    let all_large: Expected<'_> = (
        "chat",
        [200, 20],
        &[("cache_read", "0.3"), ("cache_write", "3.75"), ("input", "3"), ("output", "15")],
        [true, true, true, false, true],
    );
    let both: Expected<'_> = (
        "chat",
        [100, 20],
        &[("cache_read", "0.3"), ("input", "10"), ("output", "15")],
        [true, false, true, false, true],
    );
    let unknown: Expected<'_> = ("chat", [0, 0], &[], [false; 5]);
    let as_it_is: Change = |_| {};
    let cases: &[Case<'_>] = &[
        ("one candidate", &[(0, "a", large)], as_it_is, Some(all_large)),
        ("the least of two", &[(0, "a", large), (0, "b", small)], as_it_is, Some(both)),
        ("in either order", &[(0, "a", small), (0, "b", large)], as_it_is, Some(both)),
        ("of two priorities", &[(0, "a", large), (9, "b", small)], as_it_is, Some(both)),
        ("nothing is known", &[(0, "a", None)], as_it_is, Some(unknown)),
        ("one is not known", &[(0, "a", large), (0, "b", None)], as_it_is, Some(unknown)),
        (
            "the kind of the first by priority",
            &[(0, "a", embedding), (1, "b", rerank)],
            as_it_is,
            Some(("rerank", [4, 0], &[], [false; 5])),
        ),
        (
            "the kind of the first that is known",
            &[(0, "a", embedding), (1, "b", None)],
            as_it_is,
            Some(("embedding", [0, 0], &[], [false; 5])),
        ),
        (
            "a suspended one does not count",
            &[(0, "a", large), (0, "b", small)],
            |binding| binding.candidates[1].status = RecordStatus::Suspended,
            Some(all_large),
        ),
        (
            "nor one with an error",
            &[(0, "a", large), (0, "b", small)],
            |binding| binding.candidates[1].error = Some(CandidateError::ConfigError),
            Some(all_large),
        ),
        (
            "nor one without upstreams",
            &[(0, "a", large), (0, "b", small)],
            |binding| binding.candidates[1].upstreams.clear(),
            Some(all_large),
        ),
        ("none can serve", &[(0, "a", large)], |binding| binding.candidates[0].upstreams.clear(), None),
        ("no candidates", &[], as_it_is, None),
        ("a suspended namespace", &[(0, "a", large)], |binding| binding.status = RecordStatus::Suspended, None),
    ];
    for (name, candidates, change, expected) in cases {
        let model = compile_models(candidates, change);
        let expected = expected.map(model_of);
        assert_eq!(model, expected, "{name}");
    }
}

#[test]
fn what_is_said_of_an_upstream_model_stays_its_own() {
    let saying = |said: serde_json::Value| ModelFacts {
        capabilities: serde_json::from_value(said).unwrap(),
        ..ModelFacts::default()
    };
    let (a, b) = (saying(json!({"rejects": ["seed"]})), saying(json!({"prefill": true})));
    let (plain, c) = (ModelFacts::default(), saying(json!({"prefill": false})));
    let candidates =
        [(0, "a", Some(&a)), (0, "b", Some(&b)), (0, "plain", Some(&plain)), (0, "?", None), (0, "c", Some(&c))];
    let model = compile_models(&candidates, |binding| binding.candidates[4].status = RecordStatus::Suspended).unwrap();
    let said = json!({"a": {"rejects": ["seed"]}, "b": {"prefill": true}});
    assert_eq!(serde_json::to_value(&model.capabilities).unwrap(), said);
}
