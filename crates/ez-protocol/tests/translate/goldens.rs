//! Every file of the corpus in every other protocol, as snapshots that people have read: one per file, with a section per
//! protocol. `INSTA_UPDATE=always` renews them.

use ez_contract::Protocol;

use crate::corpus::{Sample, folder, indented, model, samples, translate, translate_answer, translate_stream};

/// Checks what `translated` makes of each file for each other protocol.
fn check(kind: &str, translated: impl Fn(&Sample, Protocol) -> String) {
    for from in Protocol::ALL {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(format!("goldens/{}/{kind}", folder(*from)));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        for sample in samples(*from, kind) {
            let others = Protocol::ALL.iter().filter(|to| *to != from);
            let section = |to: &Protocol| format!("=== {}\n{}\n", folder(*to), translated(&sample, *to).trim_end());
            let text = others.map(section).collect::<Vec<_>>().join("\n");
            settings.bind(|| insta::assert_snapshot!(sample.name.as_str(), text));
        }
    }
}

#[test]
fn requests() {
    check("requests", |sample, upstream| match translate(sample.protocol, upstream, model(upstream), &sample.bytes) {
        Ok(translated) => {
            let body = indented(std::str::from_utf8(&translated.body).unwrap());
            format!("dropped: [{}]\n{body}", translated.dropped.join(", "))
        }
        Err(refused) => format!("refused: {} ({})\n{}", refused.param, refused.code, refused.message),
    });
}

#[test]
fn answers() {
    check("answers", |sample, client| match translate_answer(client, sample.protocol, &sample.bytes) {
        Ok(answer) => indented(&answer),
        Err(e) => format!("failed: {e}"),
    });
}

#[test]
fn streams() {
    check("streams", |sample, client| translate_stream(client, sample.protocol, &[&sample.bytes]).replace('\r', ""));
}
