//! Import and export with the real binary, beside a server that serves.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use ez_testkit::sandbox::{Backends, Sandbox, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::Method;
use serde_json::{Value, json};

use crate::logs::PLAIN;
use crate::{on_every_backend, start};

on_every_backend!(an_import_beside_a_server_is_served, an_export_makes_another_instance_serve_the_same_key);

/// What a document's changes may take to reach the gateway.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(5);

const TOKEN: &str = "TokenOfAClientOfTheOtherSystem0123456789";

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

fn answer(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(output)))
}

fn document(base_url: &str) -> Value {
    json!({"version": "1.0.0", "data": {
        "providers": [{"name": "sim", "type": "custom", "base_url": base_url, "api_key": "sk-up-1",
            "models": ["gpt-sim"], "primary_group": "default", "all_groups": ["default"], "status": "active"}],
        "masters": [{"name": "moved"}],
        "keys": [{"master_ref": "moved", "original_token": format!("sk-{TOKEN}"), "status": "active"}],
        "bindings": [{"namespace": "default", "route_group": "default", "model": "gpt-sim", "status": "active"}],
    }})
}

fn write(sandbox: &Sandbox, document: &Value) -> PathBuf {
    let file = sandbox.data_dir().join("document.json");
    std::fs::write(&file, document.to_string()).unwrap();
    file
}

async fn is_served(sandbox: &Sandbox, token: &str) {
    let gateway = &sandbox.gateway_as(token);
    let served = sandbox.eventually("the key works", PUBLISHED_WITHIN, || async move {
        Ok(gateway.call(Method::POST, "/v1/chat/completions", PLAIN).await?.status.is_success())
    });
    served.await.unwrap();
}

async fn an_import_beside_a_server_is_served(backends: Backends) {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let sandbox = start(backends).await;
    let file = write(&sandbox, &document(&upstream.openai_base_url()));
    let file = file.to_str().unwrap();
    let dry_run = sandbox.run(&["import", file, "--include-bindings", "--dry-run", "--json"], &[]).await.unwrap();
    assert_eq!((dry_run.status.code(), &answer(&dry_run)["dry_run"]), (Some(0), &json!(true)), "{}", text(&dry_run));

    // The server writes meanwhile.
    let admin = sandbox.admin();
    let others = async {
        for number in 0..20 {
            admin.post("/admin/masters", &json!({"name": format!("other-{number}")})).await.unwrap();
        }
    };
    let args = ["import", file, "--include-bindings", "--json"];
    let (imported, ()) = tokio::join!(sandbox.run(&args, &[]), others);
    let imported = imported.unwrap();
    assert_eq!(imported.status.code(), Some(0), "{}", text(&imported));
    let summary = answer(&imported);
    for kind in ["provider_groups", "api_keys", "masters", "keys", "bindings"] {
        assert_eq!(summary["counts"][kind]["created"], 1, "{kind} in {summary}");
    }
    for spelling in [format!("sk-{TOKEN}"), TOKEN.to_owned(), format!("sk-{TOKEN}-7")] {
        is_served(&sandbox, &spelling).await;
    }
    let master_key = summary["credentials"][0]["master_key"].as_str().unwrap();
    let own = sandbox.control_as(master_key).get("/v1/tokens").await.unwrap();
    assert_eq!(own["total"], 1, "the new master key signs in: {own}");

    let again = sandbox.run(&["import", file, "--include-bindings"], &[]).await.unwrap();
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    assert!(text(&again).contains("keys                    0        0        1        0\n"), "{}", text(&again));
}

async fn an_export_makes_another_instance_serve_the_same_key(backends: Backends) {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let sandbox = start(backends).await;
    let plan = TenantPlan {
        secrets: vec!["sk-canary-up".to_owned()],
        ..TenantPlan::simple("acme", &upstream.openai_base_url())
    };
    let tenant = Tenant::create(&sandbox, &plan).await.unwrap();
    let file = sandbox.data_dir().join("export.json");
    let path = file.to_str().unwrap();
    let plain = sandbox.run(&["export", "-"], &[]).await.unwrap();
    assert_eq!(plain.status.code(), Some(0), "{}", text(&plain));
    assert_eq!(answer(&plain)["version"], "2.0.0");
    assert!(!text(&plain).contains("canary"), "no secret unless asked for");
    let exported = sandbox.run(&["export", path, "--with-secrets", "--json"], &[]).await.unwrap();
    assert_eq!(
        (exported.status.code(), &answer(&exported)["counts"]["keys"]),
        (Some(0), &json!(1)),
        "{}",
        text(&exported)
    );
    assert!(!text(&exported).contains("canary"), "the file alone has the secrets");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let other = start(if backends == Backends::Embedded { Backends::Scaled } else { Backends::Embedded }).await;
    let imported = other.run(&["import", path, "--include-bindings", "--json"], &[]).await.unwrap();
    assert_eq!(imported.status.code(), Some(0), "{}", text(&imported));
    is_served(&other, &tenant.token).await;
    let master = other.control_as(&tenant.master_key);
    let own = master.get("/v1/tokens").await.unwrap();
    assert_eq!(own["total"], 1, "the master key is the one that it was: {own}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_end_with_1_and_wrong_usage_with_2() {
    let sandbox = start(Backends::Embedded).await;
    let mut broken = document("ftp://nowhere");
    broken["data"]["keys"][0]["allow_ips"] = json!(["10.0.0.1", "home"]);
    let file = write(&sandbox, &broken);
    let file = file.to_str().unwrap();
    let refused = sandbox.run(&["import", file], &[]).await.unwrap();
    assert_eq!(refused.status.code(), Some(1));
    for path in ["$.data.providers[0].base_url: must be", "$.data.keys[0].allow_ips[1]: `home`"] {
        assert!(text(&refused).contains(path), "{path} in {}", text(&refused));
    }
    let refused = sandbox.run(&["import", file, "--json"], &[]).await.unwrap();
    assert_eq!((refused.status.code(), answer(&refused)["faults"].as_array().unwrap().len()), (Some(1), 2));
    let missing = sandbox.run(&["import", "/nonexistent/document.json"], &[]).await.unwrap();
    assert_eq!(missing.status.code(), Some(1), "{}", text(&missing));
    let empty = sandbox.run(&["import", "-"], &[]).await.unwrap();
    assert_eq!((empty.status.code(), text(&empty).contains("$: ends too early")), (Some(1), true), "{}", text(&empty));
    for usage in [&["import"][..], &["import", file, "--conflict", "merge"], &["export"], &["doctor", "--role", "x"]] {
        let refused = sandbox.run(usage, &[]).await.unwrap();
        assert_eq!(refused.status.code(), Some(2), "{usage:?}: {}", text(&refused));
    }
    let wrong_key = [("EZ_SECRET_KEY", "00".repeat(32))];
    let wrong_key = wrong_key.each_ref().map(|(name, value)| (*name, value.as_str()));
    let refused =
        sandbox.run(&["import", write(&sandbox, &document("https://h")).to_str().unwrap()], &wrong_key).await.unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("EZ_SECRET_KEY"), "{}", text(&refused));
}
