//! Commands that do one thing and end.

mod config_reference;
mod health;
mod migrate;
mod show_config;

pub(crate) use config_reference::config_reference;
pub(crate) use health::health;
pub(crate) use migrate::migrate;
pub(crate) use show_config::show_config;

use std::io::Write;

/// Writes a command's answer to standard output.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
