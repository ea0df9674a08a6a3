//! Tables over the pure part of snapshot building.

use chrono::Utc;
use ez_contract::provider::ProviderType;
use ez_contract::selector::SelectorType;
use ez_contract::status::KeyStatus;
use ez_store::{IssuedBy, QuotaReset};
use uuid::Uuid;

use super::*;

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
