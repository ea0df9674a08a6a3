//! `export`: every record of configuration as a document that `import` reads.

use std::fs::{self, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use ez_control::transfer::{self, ExportDocument, ExportOptions};
use serde_json::json;

use super::offline::open_control;
use super::{is_standard_stream, print};
use crate::config::Settings;
use crate::serve::BUILD;

/// Exports to a file that only its owner can read (`-`: standard output).
pub(crate) fn export(settings: Settings, file: &Path, with_secrets: bool, as_json: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let document = runtime.block_on(async {
        let control = open_control(settings).await?;
        let options = ExportOptions { with_secrets, source_version: BUILD.version.to_owned() };
        let document = transfer::export(&control, &options).await;
        control.store().close().await?;
        document.context("nothing was exported")
    })?;
    if with_secrets {
        tracing::warn!("the export holds upstream secrets in clear: keep it where only you can read it, and delete it");
    }
    if is_standard_stream(file) {
        return write(&document, std::io::stdout().lock());
    }
    write_file(&document, file).with_context(|| format!("`{}` cannot be written", file.display()))?;
    let (shown, counts) = (file.display().to_string(), document.counts());
    if as_json {
        let counts: serde_json::Map<_, _> =
            counts.map(|(kind, count)| (kind.to_owned(), json!(count))).into_iter().collect();
        return print(&format!("{:#}\n", json!({ "file": shown, "with_secrets": with_secrets, "counts": counts })));
    }
    let told = counts.map(|(kind, count)| format!("{count} {kind}")).join(", ");
    print(&format!("exported to {shown}: {told}\n"))
}

/// Writes beside the file and then puts the whole in its place, so that there is never half of one.
fn write_file(document: &ExportDocument, file: &Path) -> anyhow::Result<()> {
    let mut partial = file.as_os_str().to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    let partial = Path::new(&partial);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(partial)
        .map_err(anyhow::Error::from)
        .and_then(|out| write(document, &out).and_then(|()| Ok(out.sync_all()?)))
        .and_then(|()| Ok(fs::rename(partial, file)?));
    if written.is_err() && partial.exists() {
        fs::remove_file(partial)?;
    }
    written
}

fn write(document: &ExportDocument, out: impl Write) -> anyhow::Result<()> {
    let mut out = BufWriter::new(out);
    serde_json::to_writer_pretty(&mut out, document)?;
    writeln!(out)?;
    Ok(out.flush()?)
}
