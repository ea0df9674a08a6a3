//! Mixed traffic: callers that speak every protocol, plain and streaming, one call after the other until they are told
//! to stop or their gateway dies.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ez_testkit::http_client::{Answer, HttpClient};
use ez_testkit::sandbox::Sandbox;
use http::Method;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::logs::all_logs;

/// A call, and what only a whole answer to it contains.
struct Kind {
    path: &'static str,
    body: &'static str,
    mark: &'static str,
}

/// Every chat protocol, plain and streaming; the models are those of `Tenant::create_with_every_protocol`.
const KINDS: [Kind; 8] = [
    Kind {
        path: "/v1/chat/completions",
        body: r#"{"model":"gpt-sim","messages":[{"role":"user","content":"hi"}]}"#,
        mark: r#""usage":"#,
    },
    Kind {
        path: "/v1/chat/completions",
        body: r#"{"model":"gpt-sim","stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
        mark: "data: [DONE]\n\n",
    },
    Kind { path: "/v1/responses", body: r#"{"model":"gpt-sim","input":"hi"}"#, mark: r#""usage":"# },
    Kind {
        path: "/v1/responses",
        body: r#"{"model":"gpt-sim","stream":true,"input":"hi"}"#,
        mark: "event: response.completed\n",
    },
    Kind {
        path: "/v1/messages",
        body: r#"{"model":"claude-sim","max_tokens":64,"messages":[{"role":"user","content":"hi"}]}"#,
        mark: r#""usage":"#,
    },
    Kind {
        path: "/v1/messages",
        body: r#"{"model":"claude-sim","max_tokens":64,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
        mark: "event: message_stop\n",
    },
    Kind {
        path: "/v1beta/models/gemini-sim:generateContent",
        body: r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#,
        mark: r#""usageMetadata":"#,
    },
    Kind {
        path: "/v1beta/models/gemini-sim:streamGenerateContent?alt=sse",
        body: r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#,
        mark: r#""finishReason":"STOP""#,
    },
];

/// What came of the calls.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Request ids of those whose last byte arrived.
    pub(crate) whole: HashSet<String>,
    /// Answers that were no success or no whole one.
    pub(crate) failed: Vec<String>,
    /// Callers that lost their gateway, and stopped.
    pub(crate) cut: Vec<String>,
}

/// Callers at work.
pub(crate) struct Traffic {
    callers: JoinSet<()>,
    over: CancellationToken,
    tally: Arc<Mutex<Tally>>,
}

impl Traffic {
    /// So many callers, each of one kind and with one of the gateways.
    pub(crate) fn start(gateways: &[HttpClient], callers: usize) -> Self {
        let (over, tally) = (CancellationToken::new(), Arc::<Mutex<Tally>>::default());
        let mut set = JoinSet::new();
        for number in 0..callers {
            let kind = &KINDS[number % KINDS.len()];
            let gateway = gateways[number / KINDS.len() % gateways.len()].clone();
            set.spawn(call_on(gateway, kind, over.clone(), tally.clone()));
        }
        Self { callers: set, over, tally }
    }

    /// Calls that were whole so far.
    pub(crate) fn whole(&self) -> usize {
        self.tally.lock().unwrap().whole.len()
    }

    /// Lets the calls under way end.
    pub(crate) async fn stop(mut self) -> Tally {
        self.over.cancel();
        while let Some(ended) = self.callers.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut *self.tally.lock().unwrap())
    }
}

async fn call_on(gateway: HttpClient, kind: &'static Kind, over: CancellationToken, tally: Arc<Mutex<Tally>>) {
    while !over.is_cancelled() {
        let answer = gateway.call(Method::POST, kind.path, kind.body).await;
        let mut tally = tally.lock().unwrap();
        match answer {
            Ok(answer) if is_whole(&answer, kind) => {
                let request_id = answer.header("x-request-id").expect("every answer has a request id").to_owned();
                assert!(tally.whole.insert(request_id), "a request id came twice");
            }
            Ok(answer) => tally.failed.push(format!("{}: {} {}", kind.path, answer.status, answer.text())),
            Err(error) => {
                tally.cut.push(format!("{}: {error:#}", kind.path));
                return;
            }
        }
    }
}

fn is_whole(answer: &Answer, kind: &Kind) -> bool {
    answer.status.is_success() && answer.text().contains(kind.mark)
}

/// Waits until every call that was whole has a record, and checks that no call has two, and that the records of whole
/// calls say so.
pub(crate) async fn assert_accounted_once(sandbox: &Sandbox, whole: &HashSet<String>, within: Duration) {
    let admin = &sandbox.admin();
    let missing = &Mutex::new(0);
    let arrived = sandbox.eventually("every whole call has a record", within, || async move {
        let records = all_logs(admin, "/admin/logs").await;
        let known: HashSet<&str> = records.iter().filter_map(|record| record["request_id"].as_str()).collect();
        *missing.lock().unwrap() = whole.iter().filter(|id| !known.contains(id.as_str())).count();
        Ok(*missing.lock().unwrap() == 0)
    });
    let arrived = arrived.await;
    assert!(arrived.is_ok(), "{} of {} whole calls have no record", missing.lock().unwrap(), whole.len());
    let mut counts: HashMap<String, u32> = HashMap::new();
    for record in all_logs(admin, "/admin/logs").await {
        let request_id = record["request_id"].as_str().unwrap().to_owned();
        if whole.contains(&request_id) {
            assert_eq!(record["ended_by"], "complete", "{record}");
        }
        *counts.entry(request_id).or_default() += 1;
    }
    let doubled: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
    assert!(doubled.is_empty(), "{doubled:?}");
}
