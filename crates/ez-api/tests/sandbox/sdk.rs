//! Official SDKs, pointed at the gateway by base URL and key alone.

use ez_testkit::sandbox::{Backends, Sandbox, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, Rule, SimUpstream};
use tokio::process::Command;

use crate::{on_every_backend, start};

on_every_backend!(official_python_sdks);

/// A script of `tests/sdk`, the path that its SDK's base URL ends with, its model, and how many steps it has.
struct Script {
    name: &'static str,
    base_path: &'static str,
    model: &'static str,
    steps: usize,
}

const SCRIPTS: [Script; 4] = [
    Script { name: "openai_chat.py", base_path: "/v1", model: "gpt-sim", steps: 9 },
    Script { name: "openai_responses.py", base_path: "/v1", model: "gpt-sim", steps: 11 },
    Script { name: "anthropic_messages.py", base_path: "", model: "claude-sim", steps: 13 },
    Script { name: "google_genai.py", base_path: "", model: "gemini-sim", steps: 13 },
];

/// Google's SDK goes by the name to tell which route a model is asked for embeddings.
const EMBEDDING_MODEL: &str = "embedding-sim";

async fn official_python_sdks(backends: Backends) {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let sandbox = start(backends).await;
    let tenant = Tenant::create_with_every_protocol(&sandbox, &upstream).await.unwrap();
    // With API keys of their own, as their failures are held against them.
    for (provider_type, base_url, model, status) in [
        ("openai", upstream.openai_base_url(), "gpt-failing", 503),
        ("anthropic", upstream.base_url(), "claude-failing", 529),
        ("gemini", upstream.base_url(), "gemini-failing", 503),
    ] {
        upstream.rule(Rule::any(Behaviour::status(status)).model(model));
        tenant.add_upstream(&sandbox, &TenantPlan::of_type(provider_type, &base_url, model)).await.unwrap();
    }
    let embedding = TenantPlan::of_type("gemini", &upstream.base_url(), EMBEDDING_MODEL);
    tenant.add_upstream(&sandbox, &embedding).await.unwrap();
    // Which SDK it is makes no difference to the backends; starting Python takes its time.
    let [chat, responses, messages, gemini] = SCRIPTS.each_ref().map(|script| run(script, &sandbox, &tenant));
    if backends == Backends::Apart {
        tokio::join!(chat, responses, messages, gemini);
    } else {
        chat.await;
    }
    let credentials = upstream.requests().into_iter().filter_map(|request| request.credential);
    assert!(credentials.clone().all(|credential| credential.starts_with("sk-up-")), "{credentials:?}");
}

async fn run(script: &Script, sandbox: &Sandbox, tenant: &Tenant) {
    let failing_model = script.model.replace("-sim", "-failing");
    let models = [
        ("EZ_SDK_MODEL", script.model),
        ("EZ_SDK_EMBEDDING_MODEL", EMBEDDING_MODEL),
        ("EZ_SDK_FAILING_MODEL", &failing_model),
    ];
    run_script(script.name, script.base_path, sandbox, tenant, &models, script.steps).await.unwrap();
}

/// Runs a script of `tests/sdk` against the gateway, with further settings; what it tells where it has not done all of its
/// steps.
pub(crate) async fn run_script(
    name: &str,
    base_path: &str,
    sandbox: &Sandbox,
    tenant: &Tenant,
    settings: &[(&str, &str)],
    steps: usize,
) -> Result<(), String> {
    let file = format!("{}/../../tests/sdk/{name}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(python())
        .args(["-B".to_owned(), file])
        .env("EZ_SDK_BASE_URL", format!("{}{base_path}", sandbox.gateway_url()))
        .env("EZ_SDK_API_KEY", &tenant.token)
        .envs(settings.iter().copied())
        .output()
        .await
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let done = text.lines().filter(|line| line.starts_with("ok ")).count();
    if output.status.success() && done == steps { Ok(()) } else { Err(format!("{name}: {done} of {steps}\n{text}")) }
}

#[expect(clippy::disallowed_methods, reason = "`make test` tells where it put the SDKs")]
pub(crate) fn python() -> String {
    std::env::var("EZ_TEST_PYTHON")
        .expect("EZ_TEST_PYTHON is not set: run the tests through `make test`, which installs the SDKs")
}
