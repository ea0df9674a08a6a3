//! Official SDKs with models of other protocols: the real binary translates between them.

use ez_testkit::sandbox::{Backends, Sandbox, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, Fault, RecordedRequest, Rule, SimUpstream};

use crate::sdk::run_script;
use crate::start;

/// An upstream of one protocol: what the scripts call it, the type of its provider group, the status that it is overloaded
/// with, its endpoint, its newest model, and one of an older family, which is asked in other ways.
struct Vendor {
    name: &'static str,
    provider_type: &'static str,
    protocol: &'static str,
    overloaded: u16,
    path: &'static str,
    model: &'static str,
    older_model: &'static str,
}

const VENDORS: [Vendor; 4] = [
    Vendor {
        name: "chat",
        provider_type: "openai",
        protocol: "openai-chat",
        overloaded: 503,
        path: "/chat/completions",
        model: "gpt-5.4",
        older_model: "qwen3-32b",
    },
    Vendor {
        name: "responses",
        provider_type: "openai",
        protocol: "openai-responses",
        overloaded: 503,
        path: "/responses",
        model: "gpt-5.5",
        older_model: "gpt-4.1",
    },
    Vendor {
        name: "messages",
        provider_type: "anthropic",
        protocol: "anthropic-messages",
        overloaded: 529,
        path: "/v1/messages",
        model: "claude-opus-4-8",
        older_model: "claude-3-7-sonnet",
    },
    Vendor {
        name: "gemini",
        provider_type: "gemini",
        protocol: "gemini",
        overloaded: 503,
        path: "/v1beta/models/",
        model: "gemini-3-flash",
        older_model: "gemini-2.5-flash",
    },
];

/// A script of `tests/sdk`, the protocol of its SDK, the path that its base URL ends with, and how many steps it has with
/// every model; three more are with the newest alone.
struct Script {
    name: &'static str,
    client: &'static str,
    base_path: &'static str,
    steps: usize,
}

/// Behind the public name of an older model.
const OLDER: &str = "-older";

const STEPS_WITH_NEWEST: usize = 3;

const MESSAGES: Script =
    Script { name: "translated_anthropic_messages.py", client: "messages", base_path: "", steps: 11 };

const SCRIPTS: [Script; 4] = [
    Script { name: "translated_openai_chat.py", client: "chat", base_path: "/v1", steps: 11 },
    Script { name: "translated_openai_responses.py", client: "responses", base_path: "/v1", steps: 11 },
    MESSAGES,
    Script { name: "translated_google_genai.py", client: "gemini", base_path: "", steps: 12 },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sdk_with_every_other_protocol() {
    let (upstream, sandbox, tenant) = set_up(Backends::Apart, &SCRIPTS).await;
    let [chat, responses, messages, gemini] = SCRIPTS.each_ref().map(|script| run(script, &sandbox, &tenant));
    let (chat, responses, messages, gemini) = tokio::join!(chat, responses, messages, gemini);
    let failed: Vec<String> = [chat, responses, messages, gemini].into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    for request in upstream.requests() {
        assert!(request.credential.as_deref().is_some_and(|secret| secret.starts_with("sk-up-")), "{request:?}");
        assert!(VENDORS.iter().any(|vendor| vendor.serves(&request)), "another vendor's endpoint: {request:?}");
    }
}

/// The backends make no difference to translation: one SDK shows that it works over these, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sdk_with_every_other_protocol_on_embedded_backends() {
    let (_upstream, sandbox, tenant) = set_up(Backends::Embedded, std::slice::from_ref(&MESSAGES)).await;
    run(&MESSAGES, &sandbox, &tenant).await.unwrap();
}

/// The upstreams of every vendor; for each of these clients, a model that fails and one that breaks, as failures are held
/// against API keys, and the clients call at the same time.
async fn set_up(backends: Backends, scripts: &[Script]) -> (SimUpstream, Sandbox, Tenant) {
    let upstream = SimUpstream::start(Behaviour::attentive()).await.unwrap();
    let sandbox = start(backends).await;
    let mut tenant: Option<Tenant> = None;
    for vendor in &VENDORS {
        let mut endings = vec![String::new()];
        for script in scripts.iter().filter(|script| script.client != vendor.name) {
            let [failing, breaking] = ["failing", "breaking"].map(|how| format!("-{how}-{}", script.client));
            upstream.rule(Rule::any(Behaviour::status(vendor.overloaded)).model(format!("{}{failing}", vendor.model)));
            upstream.rule(Rule::any(vendor.breaking()).model(format!("{}{breaking}", vendor.model)));
            endings.extend([failing, breaking]);
        }
        let newest = endings.iter().map(|ending| vendor.plan(&upstream, ending, format!("{}{ending}", vendor.model)));
        for plan in newest.chain([vendor.plan(&upstream, OLDER, vendor.older_model.to_owned())]) {
            match &tenant {
                Some(tenant) => tenant.add_upstream(&sandbox, &plan).await.unwrap(),
                None => tenant = Some(Tenant::create(&sandbox, &plan).await.unwrap()),
            }
        }
    }
    (upstream, sandbox, tenant.unwrap())
}

impl Vendor {
    /// What the model is called by clients.
    fn public_model(&self, ending: &str) -> String {
        format!("{}-sim{ending}", self.name)
    }

    /// Begins well and ends in an error.
    fn breaking(&self) -> Behaviour {
        let fault = Fault::ErrorInStream { after_events: 4, status: self.overloaded, code: None, message: None };
        Behaviour { fault: Some(fault), ..Behaviour::attentive() }
    }

    fn plan(&self, upstream: &SimUpstream, ending: &str, upstream_model: String) -> TenantPlan {
        let base_url = if self.provider_type == "openai" { upstream.openai_base_url() } else { upstream.base_url() };
        let public_model = self.public_model(ending);
        TenantPlan {
            protocols: vec![self.protocol.to_owned()],
            models: vec![(public_model.clone(), upstream_model)],
            ..TenantPlan::of_type(self.provider_type, &base_url, &public_model)
        }
    }

    /// Whether a request came to its endpoint, for one of its models.
    fn serves(&self, request: &RecordedRequest) -> bool {
        let asked = format!("{}{}", request.path, String::from_utf8_lossy(&request.body));
        request.path.contains(self.path) && (asked.contains(self.model) || asked.contains(self.older_model))
    }
}

async fn run(script: &Script, sandbox: &Sandbox, tenant: &Tenant) -> Result<(), String> {
    let others = VENDORS.iter().filter(|vendor| vendor.name != script.client);
    let pair = |vendor: &Vendor| {
        let Vendor { name, .. } = vendor;
        format!("{name}={},{name}.older={}", vendor.public_model(""), vendor.public_model(OLDER))
    };
    let models = others.map(pair).collect::<Vec<_>>().join(",");
    let settings = [("EZ_SDK_MODELS", models.as_str()), ("EZ_SDK_CLIENT", script.client)];
    let steps = (2 * script.steps + STEPS_WITH_NEWEST) * (VENDORS.len() - 1);
    run_script(script.name, script.base_path, sandbox, tenant, &settings, steps).await
}
