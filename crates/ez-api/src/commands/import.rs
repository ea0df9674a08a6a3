//! `import`: records of another system or of an export into the configured database.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use ez_control::transfer::{self, ImportOptions, ImportSummary, MAX_DOCUMENT_BYTES};
use ez_control::{Actor, ControlError, FieldFault, Origin};
use secrecy::ExposeSecret;
use serde_json::{Value as Json, json};

use super::offline::open_control;
use super::{is_standard_stream, print};
use crate::config::Settings;

/// What came of an import.
pub(crate) enum Imported {
    /// The summary was told.
    Done,
    /// The document's faults were told.
    Refused,
}

/// Imports a file (`-`: standard input) and tells what was done.
pub(crate) fn import(
    settings: Settings,
    file: &Path,
    options: ImportOptions,
    as_json: bool,
) -> anyhow::Result<Imported> {
    let document = read(file)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let control = open_control(settings).await?;
        let actor = Actor::admin(Origin::default());
        let outcome = transfer::import(&control, actor, &document, options).await;
        control.store().close().await?;
        match outcome {
            Ok(summary) => {
                print(&if as_json { summary_json(&summary) } else { summary_text(&summary) })?;
                Ok(Imported::Done)
            }
            Err(ControlError::Invalid(faults)) => {
                print(&if as_json { faults_json(&faults) } else { faults_text(&faults) })?;
                Ok(Imported::Refused)
            }
            Err(error) => Err(anyhow::Error::from(error).context("nothing was imported")),
        }
    })
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    // One more than is allowed shows that there is more.
    let bound = MAX_DOCUMENT_BYTES as u64 + 1;
    let mut document = Vec::new();
    let shown = if is_standard_stream(file) { Path::new("standard input") } else { file };
    let done = match is_standard_stream(file) {
        true => std::io::stdin().lock().take(bound).read_to_end(&mut document),
        false => File::open(file).and_then(|file| file.take(bound).read_to_end(&mut document)),
    };
    done.with_context(|| format!("`{}` cannot be read", shown.display()))?;
    Ok(document)
}

fn summary_text(summary: &ImportSummary) -> String {
    let mut text = String::new();
    if summary.dry_run {
        text.push_str("dry run: nothing was changed\n");
    }
    text.push_str(&format!("{:<16}{:>9}{:>9}{:>9}{:>9}\n", "", "created", "updated", "skipped", "failed"));
    for (kind, counts) in summary.counts.by_kind() {
        let (created, updated) = (counts.created, counts.updated);
        let (skipped, failed) = (counts.skipped, counts.failed);
        text.push_str(&format!("{kind:<16}{created:>9}{updated:>9}{skipped:>9}{failed:>9}\n"));
    }
    if !summary.warnings.is_empty() {
        text.push_str("\nwarnings:\n");
    }
    for warning in &summary.warnings {
        text.push_str(&format!("  {warning}\n"));
    }
    if !summary.credentials.is_empty() {
        text.push_str("\nmaster keys (shown only now: keep them):\n");
    }
    for made in &summary.credentials {
        text.push_str(&format!("  {}: {}\n", made.master, made.master_key.expose_secret()));
    }
    text
}

fn summary_json(summary: &ImportSummary) -> String {
    let made = summary.credentials.iter();
    let credentials: Vec<Json> =
        made.map(|made| json!({ "master": made.master, "master_key": made.master_key.expose_secret() })).collect();
    let told = json!({
        "dry_run": summary.dry_run, "counts": summary.counts, "warnings": summary.warnings, "credentials": credentials,
    });
    format!("{told:#}\n")
}

fn faults_text(faults: &[FieldFault]) -> String {
    let mut text = "nothing was imported; the document has faults:\n".to_owned();
    for fault in faults {
        text.push_str(&format!("  {}: {}\n", fault.pointer, fault.message));
    }
    text
}

fn faults_json(faults: &[FieldFault]) -> String {
    let faults: Vec<Json> =
        faults.iter().map(|fault| json!({ "path": fault.pointer, "message": fault.message })).collect();
    let told = json!({ "error": "nothing was imported; the document has faults", "faults": faults });
    format!("{told:#}\n")
}
