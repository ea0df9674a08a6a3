//! The vendors' own types take what is made here: every request of the corpus as it is sent in every other protocol, and
//! every answer and event as clients of every other protocol get it (`tests/sdk/check_types.py`).

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use ez_contract::Protocol;
use ez_protocol::sse;

use crate::corpus::{events, folder, model, pairs, samples, translate, translate_answer, translate_stream};

/// What the checker is to check, as it reads it.
#[derive(Default)]
struct Sequence(String);

impl Sequence {
    fn add(&mut self, kind: &str, protocol: Protocol, name: &str, body: &str) {
        let protocol = folder(protocol);
        writeln!(
            self.0,
            "\u{1e}{{\"kind\":\"{kind}\",\"protocol\":\"{protocol}\",\"name\":\"{name}\",\"body\":{body}}}"
        )
        .unwrap();
    }

    /// Fails where the types refuse anything.
    fn check(self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sdk/check_types.py");
        let mut command = Command::new(python());
        command.arg("-B").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It reads everything before it writes anything.
        child.stdin.take().unwrap().write_all(self.0.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{told}{errors}");
    }
}

#[test]
fn every_translated_request_is_of_the_vendors_types() {
    let mut sequence = Sequence::default();
    for (from, to) in pairs() {
        for sample in samples(from, "requests") {
            // What is refused is not sent.
            let Ok(translated) = translate(from, to, model(to), &sample.bytes) else { continue };
            let name = format!("{}/{}", folder(from), sample.name);
            sequence.add("request", to, &name, std::str::from_utf8(&translated.body).unwrap());
        }
    }
    sequence.check();
}

#[test]
fn every_translated_answer_is_of_the_clients_types() {
    let mut sequence = Sequence::default();
    for (vendor, client) in pairs() {
        for sample in samples(vendor, "answers") {
            let name = format!("{}/{}", folder(vendor), sample.name);
            // Some tell that they went wrong.
            let Ok(answer) = translate_answer(client, vendor, &sample.bytes) else { continue };
            sequence.add("answer", client, &name, &answer);
        }
        for sample in samples(vendor, "streams") {
            let name = format!("{}/{}", folder(vendor), sample.name);
            let stream = translate_stream(client, vendor, &[&sample.bytes]);
            for event in events(&[stream.as_bytes()]) {
                let Some(data) = sse::data(&event).filter(|data| data.as_ref() != b"[DONE]") else { continue };
                sequence.add("event", client, &name, std::str::from_utf8(data.as_ref()).unwrap());
            }
        }
    }
    sequence.check();
}

#[expect(clippy::disallowed_methods, reason = "`make test` tells where it put the SDKs")]
fn python() -> String {
    std::env::var("EZ_TEST_PYTHON")
        .expect("EZ_TEST_PYTHON is not set: run the tests through `make test`, which installs the SDKs")
}
