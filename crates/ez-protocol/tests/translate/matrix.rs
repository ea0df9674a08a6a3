//! The matrix of `docs/protocols.md`: what becomes of each feature of each client at each upstream, found out by translating
//! it. `INSTA_UPDATE=always` renews the document.

use std::fmt::Write;
use std::path::Path;

use ez_contract::Protocol;
use serde_json::{Map, Value};

use crate::corpus::{least_request, model, translate};

/// Stands in a feature's value where the value itself is looked for in what is sent.
const SENTINEL: &str = "SENTINEL";

/// One row: its name, what it sets in the least request, and what is looked for in what is sent.
struct Feature {
    name: String,
    set: Map<String, Value>,
    sought: String,
    /// What it means where that is not found, and nothing was dropped.
    otherwise: String,
}

fn features(client: Protocol) -> Vec<Feature> {
    let all: Map<String, Value> = serde_json::from_str(include_str!("matrix.json")).unwrap();
    let feature = |row: &Value| Feature {
        name: row[0].as_str().unwrap().to_owned(),
        set: row[1].as_object().unwrap().clone(),
        sought: row[2].as_str().unwrap_or(SENTINEL).to_owned(),
        otherwise: row[3].as_str().unwrap_or("mapped").to_owned(),
    };
    all[client.as_str()].as_array().unwrap().iter().map(feature).collect()
}

/// What becomes of a feature.
fn outcome(client: Protocol, upstream: Protocol, feature: &Feature) -> String {
    let mut body: Map<String, Value> = serde_json::from_slice(least_request(client)).unwrap();
    body.extend(feature.set.clone());
    let body = Value::from(body).to_string();
    let Ok(translated) = translate(client, upstream, model(upstream), body.as_bytes()) else {
        return "refused".to_owned();
    };
    let is_carried = String::from_utf8_lossy(&translated.body).contains(&feature.sought);
    let dropped: Vec<_> = translated.dropped.iter().map(|name| format!("`{name}`")).collect();
    match (is_carried, dropped.is_empty()) {
        (true, true) => "carried".to_owned(),
        (false, true) => feature.otherwise.clone(),
        (true, false) => format!("carried, drops {}", dropped.join(", ")),
        (false, false) => format!("drops {}", dropped.join(", ")),
    }
}

fn matrix() -> String {
    let mut out = String::new();
    for client in Protocol::ALL {
        let upstreams: Vec<_> = Protocol::ALL.iter().filter(|upstream| *upstream != client).collect();
        let heads: Vec<_> = upstreams.iter().map(|upstream| format!("`{upstream}`")).collect();
        writeln!(out, "\n### Clients of `{client}`\n\n| | {} |", heads.join(" | ")).unwrap();
        writeln!(out, "| --- |{}", " --- |".repeat(heads.len())).unwrap();
        for feature in features(*client) {
            let cells: Vec<_> = upstreams.iter().map(|upstream| outcome(*client, **upstream, &feature)).collect();
            writeln!(out, "| {} | {} |", feature.name, cells.join(" | ")).unwrap();
        }
    }
    out
}

#[test]
#[expect(clippy::disallowed_methods, reason = "who renews the goldens renews the document, too")]
fn the_document_says_what_is_done() {
    const BEGIN: &str = "<!-- matrix: begin -->\n";
    const END: &str = "\n<!-- matrix: end -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocols.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("the document has a place for the matrix");
    let (written, after) = rest.split_once(END).expect("the place has an end");
    let matrix = matrix();
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", matrix.trim_end())).unwrap();
        return;
    }
    assert_eq!(written, matrix.trim_end(), "docs/protocols.md is stale: renew it with INSTA_UPDATE=always");
}
