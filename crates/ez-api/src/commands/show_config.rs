//! `serve --print-config`: what the layers come to, and where each value came from.

use crate::config::{ResolvedSettings, SETTINGS};

/// One line a setting; secrets are masked.
pub(crate) fn show_config(resolved: &ResolvedSettings) -> String {
    let mut text = String::new();
    for setting in SETTINGS {
        let line = match resolved.values.get(setting.name) {
            None => format!("# {} is not set\n", setting.name),
            Some(value) if setting.is_secret => format!("{}=***   # {}\n", setting.name, value.source),
            Some(value) => format!("{}={}   # {}\n", setting.name, value.value, value.source),
        };
        text.push_str(&line);
    }
    for warning in &resolved.warnings {
        text.push_str(&format!("# warning: {warning}\n"));
    }
    for fault in &resolved.faults {
        text.push_str(&format!("# error: {fault}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Layers, resolve};

    #[test]
    fn secrets_are_masked_and_sources_told() {
        let environment = [
            ("EZ_ADMIN_TOKEN".to_owned(), "canary-canary-canary".to_owned()),
            ("EZ_DATABASE_URL".to_owned(), "postgres://u:canary@h/d".to_owned()),
            ("EZ_MAX_ATTEMPTS".to_owned(), "5".to_owned()),
        ];
        let text = show_config(&resolve(Layers { environment: environment.into(), ..Layers::default() }));
        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("EZ_MAX_ATTEMPTS=5   # environment"), "{text}");
        assert!(text.contains("EZ_DRAIN_TIMEOUT=30s   # default"), "{text}");
    }
}
