//! What the catalogue says of what an upstream's model takes, in calls that are translated.

use ez_contract::Protocol;
use ez_contract::snapshot::{ModelSnapshot, ProviderSnapshot, SnapshotEntry};
use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{Answer, TestGateway, binding, provider};

/// A model that is published with this said of its upstream model.
fn model(capabilities: Value) -> SnapshotEntry {
    let golden = include_str!("../../../ez-contract/goldens/model.json");
    let golden: ModelSnapshot = serde_json::from_str(golden).unwrap();
    let capabilities = serde_json::from_value(capabilities).unwrap();
    SnapshotEntry::Model(ModelSnapshot { name: "default.house".to_owned(), capabilities, ..golden })
}

/// A gateway whose `house` is a model of OpenAI.
async fn gateway() -> TestGateway {
    let gateway = TestGateway::start().await;
    let openai = ProviderSnapshot {
        protocols: vec![Protocol::OpenaiChat],
        ..provider(20, &gateway.upstream.openai_base_url(), "sk-up-20")
    };
    let house = binding("house", &[(20, "gpt-4.1")]);
    gateway.apply(vec![SnapshotEntry::Provider(openai), SnapshotEntry::Binding(house)]).await;
    gateway
}

/// The answer to a client of Anthropic's, and what reached the upstream.
async fn ask(gateway: &TestGateway) -> (Answer, Value) {
    let body = json!({"model": "house", "max_tokens": 50, "temperature": 0.5, "top_p": 0.9,
        "messages": [{"role": "user", "content": "hi"}]});
    let answer = gateway.call(gateway.request("/v1/messages", body.to_string())).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let sent = gateway.upstream.requests().pop().unwrap();
    (answer, serde_json::from_slice(&sent.body).unwrap())
}

#[tokio::test]
async fn a_model_is_asked_as_the_catalogue_says_from_the_moment_that_it_is_published() {
    let gateway = gateway().await;
    let (plain, sent) = ask(&gateway).await;
    assert_eq!((&sent["temperature"], &sent["max_completion_tokens"]), (&json!(0.5), &json!(50)));
    assert_eq!(plain.header("x-ez-dropped-params"), None);

    let said = json!({"gpt-4.1": {"rejects": ["temperature"], "token_cap": "max_tokens", "telepathy": true}});
    gateway.apply(vec![model(said)]).await;
    let (told, sent) = ask(&gateway).await;
    assert_eq!((sent.get("temperature"), &sent["top_p"]), (None, &json!(0.9)));
    assert_eq!((sent.get("max_completion_tokens"), &sent["max_tokens"]), (None, &json!(50)));
    assert_eq!(told.header("x-ez-dropped-params"), Some("temperature"));

    gateway.apply(vec![model(json!({"another-model": {"rejects": ["temperature"]}}))]).await;
    let (again, sent) = ask(&gateway).await;
    assert_eq!((&sent["temperature"], &sent["max_completion_tokens"]), (&json!(0.5), &json!(50)));
    assert_eq!(again.header("x-ez-dropped-params"), None);
}
