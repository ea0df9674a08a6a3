//! Fences: what a key reaches is what it was checked for, however the request is written.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::protocols::with_every_vendor;
use crate::support::{TOKEN, TestGateway};

const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

/// Requests with one field that names something outside them: path, body, the field as the refusal names it.
fn naming_other_models() -> Vec<(&'static str, Value, &'static str)> {
    let chat = json!([{"role": "user", "content": "hi"}]);
    vec![
        ("/v1/chat/completions", json!({"model": "m", "messages": chat, "models": ["alias"]}), "models"),
        ("/v1/chat/completions", json!({"model": "m", "messages": chat, "fallbacks": ["alias"]}), "fallbacks"),
        ("/v1/completions", json!({"model": "m", "prompt": "hi", "models": ["alias"]}), "models"),
        (
            "/v1/responses",
            json!({"model": "m", "input": "hi", "tools": [{"type": "image_generation", "model": "alias"}]}),
            "tools[].model",
        ),
        (
            "/v1/messages",
            json!({"model": "claude", "max_tokens": 9, "messages": chat, "fallbacks": [{"model": "x"}]}),
            "fallbacks",
        ),
        (
            "/v1beta/models/gemini:generateContent",
            json!({"contents": [], "generationConfig": {"routingConfig": {"manualMode": {"modelName": "x"}}}}),
            "routingConfig",
        ),
    ]
}

fn naming_what_is_kept() -> Vec<(&'static str, Value, &'static str)> {
    let file = json!([{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]);
    vec![
        ("/v1/chat/completions", json!({"model": "m", "messages": file}), "file_id"),
        ("/v1/responses", json!({"model": "m", "input": "hi", "conversation": "conv_1"}), "conversation"),
        ("/v1/responses", json!({"model": "m", "prompt": {"id": "pmpt_1"}}), "prompt"),
        (
            "/v1/messages",
            json!({"model": "claude", "max_tokens": 9, "messages": [], "container": "container_1"}),
            "container",
        ),
        (
            "/v1beta/models/gemini:generateContent",
            json!({"contents": [], "cachedContent": "cachedContents/1"}),
            "cachedContent",
        ),
        (
            "/v1beta/models/gemini:generateContent",
            json!({"contents": [], "tools": [{"fileSearch": {"fileSearchStoreNames": ["fileSearchStores/1"]}}]}),
            "fileSearchStoreNames",
        ),
        (
            "/v1beta/models/gemini:generateContent",
            json!({"contents": [], "tools": [{"retrieval": {"vertexAiSearch": {"datastore": "projects/p/dataStores/d"}}}]}),
            "retrieval",
        ),
    ]
}

fn error_of(body: &Value) -> String {
    body["error"]["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_request_reaches_the_one_model_that_it_was_checked_for() {
    let gateway = with_every_vendor().await;
    for (path, body, field) in naming_other_models() {
        let answer = gateway.call(gateway.request(path, body.to_string())).await;
        let message = error_of(&answer.json());
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}: {message}");
        assert!(message.contains(&format!("`{field}`")) && message.contains("one model"), "{body}: {message}");
    }
    assert_eq!(gateway.upstream.request_count(), 0, "nothing reaches a vendor");
    gateway.finish().await;
}

#[tokio::test]
async fn what_a_vendor_keeps_is_refused_unless_the_operator_shares_it() {
    let gateway = with_every_vendor().await;
    for (path, body, field) in naming_what_is_kept() {
        let answer = gateway.call(gateway.request(path, body.to_string())).await;
        let message = error_of(&answer.json());
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}: {message}");
        assert!(message.contains(&format!("`{field}`")) && message.contains("the content itself"), "{body}: {message}");
        assert!(message.contains("EZ_VENDOR_OBJECTS"), "what the operator can do: {message}");
    }
    assert_eq!(gateway.upstream.request_count(), 0, "nothing reaches a vendor");
    gateway.finish().await;

    let gateway = TestGateway::start_with(|config| config.passes_vendor_objects = true).await;
    let (path, body, _) = naming_what_is_kept().swap_remove(0);
    assert_eq!(gateway.call(gateway.request(path, body.to_string())).await.status, StatusCode::OK);
    assert_eq!(gateway.upstream.requests()[0].body, body.to_string().into_bytes());
    let (path, body, _) = naming_other_models().swap_remove(0);
    let answer = gateway.call(gateway.request(path, body.to_string())).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "other models stay fenced");
    gateway.finish().await;
}

/// What official SDKs and usual agents send, with names that look like references and are none.
fn usual_requests() -> Vec<(&'static str, Value)> {
    let user = json!({"role": "user", "content": "hi"});
    let schema = json!({"type": "object", "properties": {
        "file_id": {"type": "string", "default": "f"}, "model": {"enum": ["a"]}, "route": {"type": "string"},
        "container_id": {"examples": ["c"]}, "url": {"type": "string", "format": "uri"}}, "required": ["file_id", "model"]});
    vec![
        (
            "/v1/responses",
            json!({"model": "m", "instructions": "be brief", "store": false, "stream": false, "parallel_tool_calls": true,
                "include": ["reasoning.encrypted_content", "file_search_call.results"], "prompt_cache_key": "k",
                "safety_identifier": "s", "metadata": {"file_id": "f", "model": "x"}, "text": {"verbosity": "low"},
                "reasoning": {"effort": "low", "summary": "auto"}, "conversation": null, "prompt": null,
                "previous_response_id": null, "background": false, "tool_choice": "auto",
                "tools": [
                    {"type": "function", "name": "f", "strict": false, "parameters": schema},
                    {"type": "local_shell"}, {"type": "shell", "environment": {"type": "container_auto"}},
                    {"type": "custom", "name": "apply_patch", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
                    {"type": "web_search", "filters": {"allowed_domains": ["x.test"]}, "search_context_size": "low"},
                    {"type": "code_interpreter", "container": {"type": "auto", "file_ids": []}},
                    {"type": "image_generation", "quality": "low", "input_image_mask": null},
                    {"type": "mcp", "server_label": "l", "server_url": "https://x.test/mcp", "headers": {"x-model": "a"},
                        "require_approval": "never", "allowed_tools": ["t"]},
                    {"type": "computer_use_preview", "display_width": 1, "display_height": 1, "environment": "browser"}],
                "input": [user, {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
                    {"type": "item_reference", "id": "msg_1"},
                    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"file_id\":\"f\"}"},
                    {"type": "function_call_output", "call_id": "c", "output": "{\"url\":\"gs://b/o\"}"},
                    {"type": "code_interpreter_call", "id": "ci_1", "code": "1", "container_id": "cntr_1", "outputs": null},
                    {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]},
                        "environment": {"type": "container_reference", "container_id": "cntr_1"}},
                    {"type": "message", "role": "assistant", "id": "msg_2", "content": [{"type": "output_text", "text": "t",
                        "annotations": [{"type": "container_file_citation", "container_id": "cntr_1", "file_id": "cfile_1"}]}]},
                    {"type": "message", "role": "user", "content": [
                        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
                        {"type": "input_image", "image_url": "https://x.test/a.png", "file_id": null}]}]}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "m", "store": true, "metadata": {"model": "x"}, "prediction": {"type": "content", "content": "x"},
                "web_search_options": {"user_location": null}, "modalities": ["text", "audio"],
                "audio": {"voice": "alloy", "format": "wav"}, "prompt_cache_key": "k", "safety_identifier": "s",
                "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
                "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}],
                "messages": [{"role": "user", "content": [
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}},
                    {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                    {"type": "image_url", "image_url": {"url": "https://x.test/a.png", "detail": "auto"}}]},
                    {"role": "assistant", "audio": {"id": "audio_1"}, "tool_calls": [
                        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"model\":\"x\"}"}}]},
                    {"role": "tool", "tool_call_id": "c", "content": "{\"file_id\":\"f\"}"}]}),
        ),
        (
            "/v1/messages",
            json!({"model": "claude", "max_tokens": 9, "metadata": {"user_id": "u"}, "system": [{"type": "text", "text": "s"}],
                "container": {"skills": [{"type": "anthropic", "skill_id": "pptx", "version": "latest"}]},
                "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
                "mcp_servers": [{"type": "url", "url": "https://x.test/sse", "name": "n", "authorization_token": "t"}],
                "tools": [{"name": "t", "input_schema": schema, "input_examples": [{"file_id": "f", "url": "gs://b/o"}]},
                    {"type": "code_execution_20250825", "name": "code_execution"},
                    {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
                    {"type": "mcp_toolset", "mcp_server_name": "n"}],
                "messages": [user, {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "t1", "name": "t", "input": {"file_id": "f", "model": "x", "container": "c"}},
                    {"type": "bash_code_execution_tool_result", "tool_use_id": "t2", "content": {
                        "type": "bash_code_execution_result", "stdout": "", "stderr": "", "return_code": 0,
                        "content": [{"type": "bash_code_execution_output", "file_id": "file_1"}]}}]},
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [
                        {"type": "text", "text": "file_id"}]}]}]}),
        ),
        (
            "/v1beta/models/gemini:generateContent",
            json!({"systemInstruction": {"parts": [{"text": "s"}]},
                "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema, "parameters": schema}]},
                    {"googleSearch": {}}, {"urlContext": {}}, {"codeExecution": {}}],
                "generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": schema},
                "contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "gs0A"}},
                    {"fileData": {"fileUri": "https://www.youtube.com/watch?v=1"}}]},
                    {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"fileUri": "f", "model": "x"}}}]},
                    {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"file_id": "f"}}}]}]}),
        ),
        ("/v1/rerank", json!({"model": "ranker", "query": "q", "documents": [{"text": "t", "file_id": "f"}]})),
        ("/v1/embeddings", json!({"model": "m", "input": ["a"], "encoding_format": "float"})),
    ]
}

#[tokio::test]
async fn what_sdks_and_agents_send_passes_as_it_came() {
    let gateway = with_every_vendor().await;
    for (path, body) in usual_requests() {
        let body = body.to_string();
        let answer = gateway.call(gateway.request(path, body.clone())).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        let asked = gateway.upstream.requests().pop().unwrap().body;
        assert_eq!(asked, body.into_bytes(), "{path}");
    }
    gateway.finish().await;
}

/// Paths that some server on the way could read differently, or that name what no vendor has.
fn odd_paths() -> Vec<String> {
    let long = "a".repeat(10_000);
    let mut paths: Vec<String> = Vec::new();
    for id in [
        "../x",
        "..%2fx",
        "%2e%2e",
        "%2E%2E%2Fx",
        "a%00",
        "a;b",
        "a//b",
        "a%2fb",
        "a%3Fb",
        "a%23b",
        "a%0d%0ab",
        "%",
        "r\u{e9}sp",
    ] {
        let id = id.replace('\u{e9}', "%C3%A9");
        for suffix in ["", "/cancel", "/input_items", "/delete"] {
            paths.push(format!("/v1/responses/{id}{suffix}"));
        }
    }
    paths.extend(["/v1/responses/", "/v1/responses//cancel", "/v1/responses/resp_1/input_items/x"].map(str::to_owned));
    paths.extend([format!("/v1/responses/{long}"), format!("/v1/responses/{long}/cancel")]);
    for model in [
        "a/b",
        "a%2Fb",
        "..%2F..%2Fx",
        "a%3Ab",
        "a:b",
        "a;b",
        "a%00b",
        "a%5cb",
        "a%20b",
        "a%3Fkey=x",
        "%2e",
        "a//b",
        "foreign.m",
        "gemini.",
        ".gemini",
        "gemini%",
        long.as_str(),
    ] {
        for method in ["generateContent", "streamGenerateContent", "countTokens", "embedContent", "generatecontent"] {
            paths.push(format!("/v1beta/models/{model}:{method}"));
        }
        paths.push(format!("/v1beta/tunedModels/{model}:generateContent"));
        paths.push(format!("/v1beta/publishers/google/models/{model}:generateContent"));
        paths.push(format!("/v1beta/publishers/other/models/{model}:generateContent"));
        paths.push(format!("/v1/models/{model}"));
    }
    paths.extend(
        [
            "/v1beta/cachedContents",
            "/v1beta/files",
            "/v1/files",
            "/v1/conversations",
            "/v1/vector_stores",
            "/v1/batches",
        ]
        .map(str::to_owned),
    );
    paths
}

#[tokio::test]
async fn odd_paths_are_refused_and_reach_nobody() {
    let gateway = with_every_vendor().await;
    for path in odd_paths() {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let mut request = gateway.request("/", r#"{"contents":[]}"#);
            // What is no URI at all never gets as far as a gateway.
            let Ok(uri) = format!("http://{}{path}", gateway.address).parse() else { continue };
            *request.uri_mut() = uri;
            *request.method_mut() = method.clone();
            let answer = gateway.call(request).await;
            let shown: String = path.chars().take(80).collect();
            assert!(answer.status.is_client_error(), "{method} {shown}: {} {}", answer.status, answer.text());
            assert!(answer.json().get("error").is_some(), "{method} {shown}: {}", answer.text());
        }
    }
    let asked: Vec<_> = gateway.upstream.requests().into_iter().map(|request| request.path).collect();
    assert!(asked.is_empty(), "nothing reaches a vendor: {asked:?}");
    gateway.finish().await;
}

fn get(gateway: &TestGateway, path_and_query: &str, headers: &[(&'static str, &str)]) -> Request<Full<Bytes>> {
    let mut request = gateway.request(path_and_query, CHAT);
    request.headers_mut().remove("authorization");
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn credentials_given_twice_are_one_key_and_go_no_further() {
    let gateway = with_every_vendor().await;
    let own = format!("Bearer {TOKEN}");
    let own = own.as_str();
    const PATH: &str = "/v1/chat/completions";
    let in_query = |keys: &str| format!("{PATH}?{}", keys.replace("OWN", TOKEN));
    type Case<'c> = (String, Vec<(&'static str, &'c str)>, u16);
    let cases: Vec<Case<'_>> = vec![
        (PATH.to_owned(), vec![("authorization", own), ("authorization", "Bearer sk-other")], 200),
        (PATH.to_owned(), vec![("authorization", "Bearer sk-other"), ("authorization", own)], 401),
        (PATH.to_owned(), vec![("x-api-key", TOKEN), ("x-api-key", "sk-other")], 200),
        (PATH.to_owned(), vec![("x-api-key", "sk-other"), ("x-goog-api-key", TOKEN)], 401),
        (PATH.to_owned(), vec![("authorization", own), ("x-api-key", "sk-other"), ("api-key", "sk-more")], 200),
        (in_query("key=OWN&key=sk-other"), vec![], 200),
        (in_query("key=sk-other&key=OWN"), vec![], 401),
        (in_query("k%65y=OWN&key=sk-other"), vec![], 200),
        (in_query("KEY=OWN"), vec![], 401),
        (in_query("a=1;key=OWN"), vec![], 401),
    ];
    for (path, headers, expected) in cases {
        let answer = gateway.call(get(&gateway, &path, &headers)).await;
        assert_eq!(answer.status.as_u16(), expected, "{path} {headers:?}: {}", answer.text());
    }
    for request in gateway.upstream.requests() {
        let told = format!("{} {:?}", request.path, request.headers);
        for secret in [TOKEN, "sk-other", "sk-more"] {
            assert!(!told.contains(secret), "{told}");
        }
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_form_names_one_model_for_every_reader() {
    let gateway = with_every_vendor().await;
    let file = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n";
    let own = "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n";
    let named = |disposition: &str, more: &str| {
        format!("--XX\r\nContent-Disposition: form-data; {disposition}\r\n{more}\r\nother\r\n")
    };
    let cases = [
        named("name=\"model\"", ""),
        named("name= \"model\"", ""),
        named("name='model'", ""),
        named("name=\"Model\"", ""),
        named("name=\"model\"; filename=\"x\"", ""),
        named("name=\"=?utf-8?B?bW9kZWw=?=\"", ""),
        named("name=\"x\"", "Content-Type: multipart/mixed; boundary=YY\r\n"),
        named("name=\"_charset_\"", ""),
        "--XX\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n\n--XX\nContent-Disposition: form-data; name=\"model\"\n\nother\r\n".to_owned(),
    ];
    for twin in cases {
        for body in [format!("{own}{twin}{file}--XX--\r\n"), format!("{twin}{file}{own}--XX--\r\n")] {
            let mut request = gateway.request("/v1/audio/transcriptions", body.clone());
            request.headers_mut().insert("content-type", "multipart/form-data; boundary=XX".parse().unwrap());
            let answer = gateway.call(request).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body:?}: {}", answer.text());
        }
    }
    for content_type in
        ["multipart/form-data; boundary=XX; boundary=YY", "multipart/form-data", "multipart/mixed; boundary=XX"]
    {
        let mut request = gateway.request("/v1/audio/transcriptions", format!("{own}{file}--XX--\r\n"));
        request.headers_mut().insert("content-type", content_type.parse().unwrap());
        assert_eq!(gateway.call(request).await.status, StatusCode::BAD_REQUEST, "{content_type}");
    }
    assert_eq!(gateway.upstream.request_count(), 0, "nothing reaches a vendor");
    gateway.finish().await;
}
