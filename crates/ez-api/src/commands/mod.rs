//! Commands that do one thing and end.

mod config_reference;
mod doctor;
mod export;
mod health;
mod import;
mod migrate;
mod offline;
mod show_config;

pub(crate) use config_reference::config_reference;
pub(crate) use doctor::{Health, doctor};
pub(crate) use export::export;
pub(crate) use health::health;
pub(crate) use import::{Imported, import};
pub(crate) use migrate::migrate;
pub(crate) use show_config::show_config;

use std::io::Write;
use std::path::Path;

/// Writes a command's answer to standard output.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Whether a file's name stands for standard input or output.
fn is_standard_stream(file: &Path) -> bool {
    file.as_os_str() == "-"
}
