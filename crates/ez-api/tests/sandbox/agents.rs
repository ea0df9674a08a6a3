//! Agent programs from the npm registry do a task through the gateway, at upstreams of other protocols than their own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use ez_contract::Protocol;
use ez_testkit::sandbox::{Backends, Sandbox, Tenant, TenantPlan};
use ez_testkit::upstream::{ATTENTIVE_USAGE, Attentive, Behaviour, PlannedCall, SimUpstream};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::logs::wait_for_logs;
use crate::start;

const TASK: &str = "Write the file answer.txt with the content 42.";
/// What Codex's own tool for changes takes: text in a format of its own, no JSON.
const PATCH: &str = "*** Begin Patch\n*** Add File: answer.txt\n+42\n*** End Patch\n";
/// What Codex runs for models that write programs instead of calls.
const PROGRAM: &str = "text(await tools.exec_command({cmd: 'printf 42 > answer.txt'}));";
/// Each asks for a call, and again with its result.
const CALLS: usize = 2;
/// A program takes a second or two.
const PATIENCE: Duration = Duration::from_secs(60);
/// Nobody listens there: what a program sends elsewhere than to the gateway does not leave the machine.
const NO_PROXY: &str = "http://127.0.0.1:9";

#[derive(Debug, Clone, Copy)]
enum Agent {
    /// Speaks Responses.
    Codex,
    /// Speaks Messages.
    ClaudeCode,
}

/// A program at an upstream, which calls one tool of the program's.
struct Run {
    agent: Agent,
    upstream: Protocol,
    /// As the program asks for it; Codex has other tools for models that it knows.
    model: &'static str,
    upstream_model: &'static str,
    tool: &'static str,
    arguments: fn(&Path) -> Value,
}

const RUNS: [Run; 6] = [
    Run {
        agent: Agent::Codex,
        upstream: Protocol::AnthropicMessages,
        model: "house-model",
        upstream_model: "claude-opus-4-8",
        tool: "exec_command",
        arguments: |_| json!({"cmd": "printf 42 > answer.txt"}),
    },
    Run {
        agent: Agent::Codex,
        upstream: Protocol::Gemini,
        model: "gpt-5.5",
        upstream_model: "gemini-3-pro",
        tool: "apply_patch",
        arguments: |_| json!({"input": PATCH}),
    },
    Run {
        agent: Agent::Codex,
        upstream: Protocol::OpenaiChat,
        model: "gpt-6.1-sol",
        upstream_model: "deepseek-chat",
        tool: "functions__exec",
        arguments: |_| json!({"input": PROGRAM}),
    },
    Run {
        agent: Agent::ClaudeCode,
        upstream: Protocol::OpenaiChat,
        model: "claude-a",
        upstream_model: "deepseek-chat",
        tool: "Bash",
        arguments: |_| json!({"command": "printf 42 > answer.txt", "description": "Writes the file"}),
    },
    Run {
        agent: Agent::ClaudeCode,
        upstream: Protocol::OpenaiResponses,
        model: "claude-b",
        upstream_model: "gpt-5.4",
        tool: "Write",
        arguments: |directory| json!({"file_path": directory.join("answer.txt"), "content": "42"}),
    },
    Run {
        agent: Agent::ClaudeCode,
        upstream: Protocol::Gemini,
        model: "claude-c",
        upstream_model: "gemini-3-pro",
        tool: "Write",
        arguments: |directory| json!({"file_path": directory.join("answer.txt"), "content": "42"}),
    },
];

/// Which backends there are makes no difference to a program; starting one takes its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_finish_a_task() {
    let sandbox = start(Backends::Embedded).await;
    let mut tenant: Option<Tenant> = None;
    for run in &RUNS {
        let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
        let plan = run.plan(&upstream);
        let tenant = match &tenant {
            None => tenant.insert(Tenant::create(&sandbox, &plan).await.unwrap()),
            Some(tenant) => {
                tenant.add_upstream(&sandbox, &plan).await.unwrap();
                tenant
            }
        };
        run.check(&sandbox, tenant, &upstream).await;
    }
    check_records(&sandbox).await;
}

impl Run {
    fn plan(&self, upstream: &SimUpstream) -> TenantPlan {
        let (openai, base_url) = (upstream.openai_base_url(), upstream.base_url());
        let (provider_type, base_url) = match self.upstream {
            Protocol::OpenaiChat | Protocol::OpenaiResponses => ("openai", openai),
            Protocol::AnthropicMessages => ("anthropic", base_url),
            Protocol::Gemini => ("gemini", base_url),
        };
        TenantPlan {
            protocols: vec![self.upstream.to_string()],
            models: vec![(self.model.to_owned(), self.upstream_model.to_owned())],
            ..TenantPlan::of_type(provider_type, &base_url, self.model)
        }
    }

    async fn check(&self, sandbox: &Sandbox, tenant: &Tenant, upstream: &SimUpstream) {
        let (home, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let call = PlannedCall { tool: self.tool.to_owned(), arguments: (self.arguments)(directory.path()) };
        upstream.set(Behaviour { attentive: Some(Attentive { calls: vec![call] }), ..Behaviour::default() });

        let what = format!("{:?} at {}", self.agent, self.upstream);
        let mut command = self.command(sandbox.gateway_url(), &tenant.token, &home);
        let done = tokio::time::timeout(PATIENCE, command.current_dir(&directory).output()).await;
        let done = done.unwrap_or_else(|_| panic!("{what} does not end")).unwrap();
        let stdout = String::from_utf8_lossy(&done.stdout);
        let text = format!("{stdout}{}", String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{what}: {text}");
        let answer = std::fs::read_to_string(directory.path().join("answer.txt"));
        assert_eq!(answer.as_deref().map(str::trim).ok(), Some("42"), "{what}: {text}");

        assert_eq!(upstream.requests().len(), CALLS, "{what}: {text}");
        // What the upstream says only when it has the tool's result, and its own state of before.
        for said in ["The tools say: ", "(I remember what I thought.)"] {
            assert!(text.contains(said), "{what}: {text}");
        }
        let [input, _, _, output, _] = ATTENTIVE_USAGE.map(|tokens| tokens * CALLS as u64);
        assert_eq!(self.usage(&stdout), (input, output), "{what}: {text}");
    }

    /// The program, pointed at the gateway, with all its traffic of other kinds switched off.
    fn command(&self, gateway_url: &str, token: &str, home: &TempDir) -> Command {
        let agents = agents();
        let mut command = Command::new(format!("{agents}/node"));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", home.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command.env("HTTPS_PROXY", NO_PROXY).env("HTTP_PROXY", NO_PROXY).env("NO_PROXY", "127.0.0.1");
        match self.agent {
            Agent::Codex => {
                let config = CODEX_CONFIG.replace("GATEWAY", gateway_url);
                std::fs::write(home.path().join("config.toml"), config).unwrap();
                command.arg(format!("{agents}/node_modules/@openai/codex/bin/codex.js"));
                command.args(["exec", "--json", "--skip-git-repo-check", "--sandbox", "danger-full-access"]);
                command.args(["--model", self.model, TASK]);
                command.env("CODEX_HOME", home.path()).env("EZ_KEY", token);
            }
            Agent::ClaudeCode => {
                command.arg(format!("{agents}/node_modules/@anthropic-ai/claude-code/cli-wrapper.cjs"));
                command.args(["--print", "--output-format", "json", "--strict-mcp-config", "--model", self.model]);
                command.args(["--allowedTools", "Bash Write", "--", TASK]);
                command.env("ANTHROPIC_BASE_URL", gateway_url).env("ANTHROPIC_AUTH_TOKEN", token);
                for switch in ["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_TELEMETRY", "DISABLE_AUTOUPDATER"] {
                    command.env(switch, "1");
                }
            }
        }
        command
    }

    /// The input and output tokens of the task by the program's own account.
    fn usage(&self, stdout: &str) -> (u64, u64) {
        let last: Value = serde_json::from_str(stdout.lines().last().unwrap_or_default()).unwrap_or_default();
        let tokens = |name: &str| last["usage"][name].as_u64().unwrap_or_default();
        let input = match self.agent {
            Agent::Codex => tokens("input_tokens"),
            // What the cache took and gave is counted apart.
            Agent::ClaudeCode => {
                tokens("input_tokens") + tokens("cache_creation_input_tokens") + tokens("cache_read_input_tokens")
            }
        };
        (input, tokens("output_tokens"))
    }
}

const CODEX_CONFIG: &str = r#"
model_provider = "ez"
check_for_update_on_startup = false

[model_providers.ez]
name = "ez"
base_url = "GATEWAY/v1"
env_key = "EZ_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0

[features]
apps = false
plugins = false
remote_plugin = false

[analytics]
enabled = false
"#;

/// Each call of each run is accounted for, at the first try, with the usage that its vendor told.
async fn check_records(sandbox: &Sandbox) {
    let records = wait_for_logs(sandbox, RUNS.len() * CALLS).await;
    let [input, cache_read, cache_write, output, reasoning] = ATTENTIVE_USAGE;
    for run in &RUNS {
        let own: Vec<&Value> = records.iter().filter(|record| record["model"] == run.model).collect();
        assert_eq!(own.len(), CALLS, "{}", run.model);
        let cache_write = if run.upstream == Protocol::Gemini { Value::Null } else { json!(cache_write) };
        let expected = [
            ("status", json!(200)),
            ("attempts", json!(1)),
            ("ended_by", json!("complete")),
            ("usage_source", json!("exact")),
            ("upstream_model", json!(run.upstream_model)),
            ("input_tokens", json!(input)),
            ("cache_read_tokens", json!(cache_read)),
            ("cache_write_tokens", cache_write),
            ("output_tokens", json!(output)),
            ("reasoning_tokens", json!(reasoning)),
        ];
        for (record, (field, expected)) in own.iter().flat_map(|record| expected.iter().map(move |it| (record, it))) {
            assert_eq!(record[field], *expected, "{field} of {record}");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "`make test` tells where it put the programs")]
fn agents() -> String {
    std::env::var("EZ_TEST_AGENTS")
        .expect("EZ_TEST_AGENTS is not set: run the tests through `make test`, which installs the agent programs")
}
