//! `export`: every record of configuration as a document that `import` reads.

use std::fs::{self, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use ez_control::transfer::{self, ExportOptions};
use serde::Serialize;
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

/// Writes beside the file and then puts the whole in its place, so that there is never half of one. What is there and no
/// file, such as a pipe or `/dev/stdout`, is written to as it is: it must not be replaced.
fn write_file(document: &impl Serialize, file: &Path) -> anyhow::Result<()> {
    // Where a link leads, as the link is to stay.
    let followed = fs::canonicalize(file);
    let file = followed.as_deref().unwrap_or(file);
    if fs::metadata(file).is_ok_and(|found| !found.is_file()) {
        return write(document, OpenOptions::new().write(true).open(file)?);
    }
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

fn write(document: &impl Serialize, out: impl Write) -> anyhow::Result<()> {
    let mut out = BufWriter::new(out);
    serde_json::to_writer_pretty(&mut out, document)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_link_and_what_is_no_file_stay_what_they_are() {
        let dir = std::env::temp_dir().join(format!("ez-export-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let [file, link, device] = ["file", "link", "device"].map(|name| dir.join(name));
        fs::write(&file, "before").unwrap();
        symlink(&file, &link).unwrap();
        symlink("/dev/null", &device).unwrap();
        for path in [&link, &device] {
            write_file(&json!({"version": "2.0.0"}), path).unwrap();
            assert!(fs::symlink_metadata(path).unwrap().is_symlink(), "{}", path.display());
        }
        assert!(fs::read_to_string(&file).unwrap().contains("2.0.0"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert!(write_file(&json!({}), &dir).is_err(), "a directory is no place to write to");
        fs::remove_dir_all(&dir).unwrap();
    }
}
