use ez_contract::Protocol;
use serde_json::{Value as Json, json};

use super::super::super::opaque::{Opaque, OpaqueKind};
use super::super::super::params::Param;
use super::super::super::request::{
    Arguments, Block, Budget, ChatRequest, Effort, Reasoning, ReasoningRequest, Role, Shown, SummaryLength, Tool,
    ToolCall, ToolChoice, ToolKind, ToolResult,
};
use super::{hello, sent, text, turn};
use crate::json::{Escaped, Value};

const MANUAL: &str = "claude-sonnet-4-5";
const ADAPTIVE: &str = "claude-opus-4-6";
const NEWEST: &str = "claude-opus-4-7";
const PLAIN: &str = "claude-3-5-haiku-20241022";

fn effort(effort: Effort) -> ReasoningRequest {
    ReasoningRequest { effort: Some(effort), ..ReasoningRequest::default() }
}

fn budget(budget: Budget) -> ReasoningRequest {
    ReasoningRequest { budget: Some(budget), ..ReasoningRequest::default() }
}

fn shown(shown: Shown, wish: ReasoningRequest) -> ReasoningRequest {
    ReasoningRequest { shown: Some(shown), ..wish }
}

fn tool() -> Tool<'static> {
    let kind = ToolKind::Function { schema: None };
    Tool { name: Escaped::of("f"), description: None, kind, strict: None, cache: None }
}

#[test]
fn each_model_is_asked_to_think_in_its_own_way() {
    let summary = Shown::Summary(SummaryLength::Detailed);
    let cases = [
        (ReasoningRequest::default(), MANUAL, Json::Null, Json::Null, ""),
        (effort(Effort::Low), MANUAL, json!({"type": "enabled", "budget_tokens": 1_024}), Json::Null, ""),
        (budget(Budget::Adaptive), MANUAL, json!({"type": "enabled", "budget_tokens": 8_192}), Json::Null, ""),
        (budget(Budget::Off), MANUAL, json!({"type": "disabled"}), Json::Null, ""),
        (
            shown(Shown::Omitted, budget(Budget::Tokens(5_000))),
            MANUAL,
            json!({"type": "enabled", "budget_tokens": 5_000, "display": "omitted"}),
            Json::Null,
            "",
        ),
        (shown(summary, ReasoningRequest::default()), MANUAL, Json::Null, Json::Null, "reasoning_effort"),
        (effort(Effort::Xhigh), ADAPTIVE, json!({"type": "adaptive"}), json!("high"), ""),
        (effort(Effort::Xhigh), NEWEST, json!({"type": "adaptive"}), json!("xhigh"), ""),
        (effort(Effort::None), NEWEST, json!({"type": "disabled"}), Json::Null, ""),
        (budget(Budget::Tokens(8_192)), NEWEST, json!({"type": "adaptive"}), json!("medium"), ""),
        (
            shown(summary, ReasoningRequest::default()),
            NEWEST,
            json!({"type": "adaptive", "display": "summarized"}),
            Json::Null,
            "",
        ),
        (
            shown(Shown::Omitted, effort(Effort::Max)),
            NEWEST,
            json!({"type": "adaptive", "display": "omitted"}),
            json!("max"),
            "",
        ),
        (effort(Effort::High), PLAIN, Json::Null, Json::Null, "reasoning_effort"),
        (effort(Effort::None), PLAIN, Json::Null, Json::Null, ""),
    ];
    for (reasoning, model, thinking, word, lost) in cases {
        let (body, _, dropped) = sent(ChatRequest { reasoning, ..hello() }, model).unwrap();
        assert_eq!(
            (&body["thinking"], &body["output_config"]["effort"], dropped.join(" ").as_str()),
            (&thinking, &word, lost),
            "{reasoning:?} {model}"
        );
    }
}

#[test]
fn budgets_stay_below_the_cap() {
    let cases = [
        (MANUAL, None, ReasoningRequest::default(), 32_000, None),
        (PLAIN, None, ReasoningRequest::default(), 8_192, None),
        (MANUAL, Some(100), ReasoningRequest::default(), 100, None),
        (MANUAL, Some(16_000), effort(Effort::Medium), 16_000, Some(8_192)),
        (MANUAL, Some(4_000), effort(Effort::Medium), 12_192, Some(8_192)),
        (MANUAL, Some(8_192), effort(Effort::Medium), 16_384, Some(8_192)),
        (MANUAL, None, effort(Effort::Max), 32_000, Some(24_000)),
        (MANUAL, Some(10_000), effort(Effort::Max), 32_000, Some(22_000)),
        (MANUAL, Some(40_000), budget(Budget::Tokens(50_000)), 41_024, Some(1_024)),
    ];
    for (model, max_output_tokens, reasoning, cap, expected) in cases {
        let (body, _, _) = sent(ChatRequest { max_output_tokens, reasoning, ..hello() }, model).unwrap();
        assert_eq!(
            (body["max_tokens"].as_u64(), body["thinking"]["budget_tokens"].as_u64()),
            (Some(cap), expected),
            "{model} {max_output_tokens:?} {reasoning:?}"
        );
    }
}

#[test]
fn sampling_is_what_the_model_takes() {
    let given = Value::parse_object(r#"{"t":0.30,"hot":1.7,"one":1,"p":0.9,"k":40,"bad":"x"}"#).unwrap();
    let request = |temperature: &str, reasoning: ReasoningRequest| {
        let mut request = ChatRequest { reasoning, ..hello() };
        request.params.give(Param::Temperature, "temperature", given.get(temperature));
        request.params.give(Param::TopP, "top_p", given.get("p"));
        request.params.give(Param::TopK, "top_k", given.get("k"));
        request
    };
    let unasked = ReasoningRequest::default();
    let cases = [
        (PLAIN, "t", unasked, r#"0.30 0.9 40"#, ""),
        (PLAIN, "hot", unasked, "1.0 0.9 40", ""),
        (ADAPTIVE, "t", unasked, "0.30 - 40", "top_p"),
        (NEWEST, "t", unasked, "- - -", "temperature top_p top_k"),
        (MANUAL, "t", effort(Effort::Low), "- - -", "temperature top_p top_k"),
        (MANUAL, "one", effort(Effort::Low), "1 - -", "top_p top_k"),
        (MANUAL, "hot", effort(Effort::Low), "1.0 - -", "top_p top_k"),
        (MANUAL, "t", effort(Effort::None), "0.30 - 40", "top_p"),
    ];
    for (model, temperature, reasoning, expected, lost) in cases {
        let (body, _, dropped) = sent(request(temperature, reasoning), model).unwrap();
        let number = |key: &str| body.get(key).map(|number| number.as_f64().unwrap());
        let expected: Vec<Option<f64>> = expected.split(' ').map(|number| number.parse().ok()).collect();
        assert_eq!(
            [number("temperature"), number("top_p"), number("top_k")].to_vec(),
            expected,
            "{model} {temperature}"
        );
        assert_eq!(dropped.join(" "), lost, "{model} {temperature}");
    }
    assert_eq!(sent(request("bad", unasked), PLAIN).expect_err("no number").param, "temperature");
}

/// A conversation in which the model called a tool, with or without a thought before it.
fn called(issuer: Option<Protocol>) -> ChatRequest<'static> {
    let call = ToolCall {
        id: Escaped::of("a"),
        name: Escaped::of("f"),
        arguments: Arguments::Written(Escaped::EMPTY),
        signature: None,
        cache: None,
    };
    let result = ToolResult {
        id: Escaped::of("a"),
        name: None,
        content: vec![text("ok")],
        is_error: None,
        is_custom: false,
        cache: None,
    };
    let thought = issuer.map(|issuer| {
        let signature = Opaque { issuer, kind: OpaqueKind::Signature, data: Escaped::of("sig") };
        Block::Reasoning(Reasoning { text: Escaped::of("hm"), signature: Some(signature) })
    });
    let mut request = hello();
    request.tools = vec![tool()];
    request.turns.push(turn(Role::Assistant, thought.into_iter().chain([Block::ToolCall(call)]).collect()));
    request.turns.push(turn(Role::User, vec![Block::ToolResult(result)]));
    request
}

#[test]
fn thinking_is_left_out_where_anthropic_refuses_it() {
    let own = Some(Protocol::AnthropicMessages);
    let wish = effort(Effort::Medium);
    let forced =
        |reasoning| ChatRequest { tools: vec![tool()], tool_choice: Some(ToolChoice::Required), reasoning, ..hello() };
    let mut begun = ChatRequest { reasoning: wish, ..hello() };
    begun.turns.push(turn(Role::Assistant, vec![text("So")]));
    let mut later = ChatRequest { reasoning: wish, ..called(None) };
    later.turns.push(turn(Role::Assistant, vec![text("Done.")]));
    later.turns.push(turn(Role::User, vec![text("Thanks.")]));
    let cases = [
        ("forced", forced(wish), MANUAL, false),
        ("forced", forced(wish), NEWEST, false),
        ("begun", begun, MANUAL, false),
        ("with a thought", ChatRequest { reasoning: wish, ..called(own) }, MANUAL, true),
        ("without a thought", ChatRequest { reasoning: wish, ..called(None) }, MANUAL, false),
        ("with another's thought", ChatRequest { reasoning: wish, ..called(Some(Protocol::Gemini)) }, MANUAL, false),
        ("without a thought", ChatRequest { reasoning: wish, ..called(None) }, NEWEST, true),
        ("when that is over", later, MANUAL, true),
    ];
    for (name, request, model, thinks) in cases {
        let (body, _, dropped) = sent(request, model).unwrap();
        let lost = if thinks { "" } else { "reasoning_effort" };
        assert_eq!((body.get("thinking").is_some(), dropped.join(" ").as_str()), (thinks, lost), "{name} {model}");
    }
    let off = forced(effort(Effort::None));
    assert_eq!(sent(off, NEWEST).unwrap().0["thinking"], json!({"type": "disabled"}));
}

#[test]
fn thoughts_go_back_to_who_thought_them() {
    let thought = |issuer, kind, words: &'static str| {
        let signature = Some(Opaque { issuer, kind, data: Escaped::of("state") });
        Block::Reasoning(Reasoning { text: Escaped::of(words), signature })
    };
    let own = Protocol::AnthropicMessages;
    let mut request = hello();
    let said = vec![
        thought(own, OpaqueKind::Signature, "hm"),
        thought(own, OpaqueKind::Encrypted, ""),
        thought(Protocol::Gemini, OpaqueKind::Signature, "x"),
        thought(Protocol::OpenaiResponses, OpaqueKind::Encrypted, "x"),
        Block::Reasoning(Reasoning { text: Escaped::of("x"), signature: None }),
        text("yes"),
        thought(own, OpaqueKind::Signature, "to no purpose"),
    ];
    request.turns.push(turn(Role::Assistant, said));
    request.turns.push(turn(Role::Assistant, vec![thought(own, OpaqueKind::Signature, "alone")]));
    request.turns.push(turn(Role::User, vec![text("go on")]));
    let (body, _, dropped) = sent(request, NEWEST).unwrap();
    let expected = json!([
        {"type": "thinking", "thinking": "hm", "signature": "state"},
        {"type": "redacted_thinking", "data": "state"},
        {"type": "text", "text": "yes"},
    ]);
    assert_eq!((&body["messages"][1]["content"], dropped.len()), (&expected, 0));
}
