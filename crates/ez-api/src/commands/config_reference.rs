//! `config-reference`: docs/configuration.md, written from the table of settings so that it cannot drift.

use crate::config::SETTINGS;

const INTRODUCTION: &str = "\
# Configuration

<!-- Written by `make generate` from the table in crates/ez-api/src/config/table.rs. -->

Flags stand over the environment, the environment over a TOML file (`--config FILE`, names without `EZ_` in lower
case), the file over the defaults. `ez-api serve --print-config` shows the result with secrets masked and where each
value came from. A wrong value stops the start with its name and what is allowed; a name that is not listed here is
warned about. Durations are written `500ms`, `30s`, `5m`, `1h`. A secret may also come from a file: `EZ_ADMIN_TOKEN_FILE`
names the file that holds `EZ_ADMIN_TOKEN`.

| setting | default | what for |
| --- | --- | --- |
";

/// The reference as Markdown.
pub(crate) fn config_reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    for setting in SETTINGS {
        let default = match setting.default {
            None | Some("") => "-".to_owned(),
            Some(default) => format!("`{default}`"),
        };
        let secret = if setting.is_secret { " (secret)" } else { "" };
        text.push_str(&format!("| `{}`{secret} | {default} | {} |\n", setting.name, setting.help));
    }
    text
}
