//! Official SDKs, pointed at the gateway by base URL and key alone.

use ez_testkit::sandbox::{Backends, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use tokio::process::Command;

use crate::{on_every_backend, start};

on_every_backend!(openai_python);

async fn openai_python(backends: Backends) {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let sandbox = start(backends).await;
    let tenant = Tenant::create(&sandbox, &TenantPlan::simple("acme", &upstream.openai_base_url())).await.unwrap();
    let output = Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/sdk/openai_chat.py"))
        .env("EZ_SDK_BASE_URL", format!("{}/v1", sandbox.gateway_url()))
        .env("EZ_SDK_API_KEY", &tenant.token)
        .env("EZ_SDK_MODEL", "gpt-sim")
        .output()
        .await
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("ok ").count(), 9, "{text}");
    assert!(upstream.requests().iter().all(|request| !request.body.is_empty()));
    let credentials = upstream.requests().into_iter().filter_map(|request| request.credential);
    assert!(credentials.clone().all(|credential| credential.starts_with("sk-up-")), "{credentials:?}");
}

#[expect(clippy::disallowed_methods, reason = "`make test` tells where it put the SDKs")]
fn python() -> String {
    std::env::var("EZ_TEST_PYTHON")
        .expect("EZ_TEST_PYTHON is not set: run the tests through `make test`, which installs the SDKs")
}
