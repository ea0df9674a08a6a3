//! Layers: which value stands for each setting, and where it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::table::{SETTINGS, Setting};

/// A value and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) value: String,
    pub(crate) source: Source,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Default,
    ConfigFile,
    Environment,
    /// A file named by `<NAME>_FILE`.
    SecretFile(String),
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::ConfigFile => f.write_str("config file"),
            Self::Environment => f.write_str("environment"),
            Self::SecretFile(path) => write!(f, "file {path}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// Where values may come from besides the defaults.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    /// Text of the TOML file, where there is one.
    pub(crate) config_file: Option<String>,
    /// The process's environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// Flags, by setting name.
    pub(crate) flags: Overrides,
}

/// Values by setting name.
pub(crate) type Overrides = BTreeMap<&'static str, String>;

/// What the layers come to. `None` where nothing was given and there is no default.
#[derive(Debug)]
pub(crate) struct ResolvedSettings {
    pub(crate) values: BTreeMap<&'static str, Resolved>,
    pub(crate) warnings: Vec<String>,
    pub(crate) faults: Vec<String>,
}

/// Merges the layers.
pub(crate) fn resolve(layers: Layers) -> ResolvedSettings {
    let mut resolved = ResolvedSettings { values: BTreeMap::new(), warnings: Vec::new(), faults: Vec::new() };
    for setting in SETTINGS {
        if let Some(default) = setting.default {
            resolved.put(setting, default.to_owned(), Source::Default);
        }
    }
    if let Some(text) = &layers.config_file {
        resolved.read_config_file(text);
    }
    resolved.read_environment(&layers.environment);
    for (name, value) in layers.flags {
        resolved.values.insert(name, Resolved { value, source: Source::Flag });
    }
    resolved
}

impl ResolvedSettings {
    fn put(&mut self, setting: &Setting, value: String, source: Source) {
        self.values.insert(setting.name, Resolved { value, source });
    }

    /// Keys of the file are the names without `EZ_`, in lower case.
    fn read_config_file(&mut self, text: &str) {
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(e) => return self.faults.push(format!("the config file is not valid TOML: {e}")),
        };
        for (key, value) in table {
            let name = format!("EZ_{}", key.to_uppercase());
            let Some(setting) = Setting::lookup(&name) else {
                self.warnings.push(format!("the config file sets `{key}`, which is no setting of ez-api"));
                continue;
            };
            match as_text(&value) {
                Some(value) => self.put(setting, value, Source::ConfigFile),
                None => self.faults.push(format!("`{key}` in the config file must be a string, number or boolean")),
            }
        }
    }

    fn read_environment(&mut self, environment: &BTreeMap<String, String>) {
        for (name, value) in
            environment.iter().filter(|(name, _)| name.starts_with("EZ_") && !name.starts_with("EZ_TEST_"))
        {
            if let Some(setting) = Setting::lookup(name) {
                // An empty variable is how compose files and shells say "not set".
                if !value.is_empty() {
                    self.put(setting, value.clone(), Source::Environment);
                }
                continue;
            }
            let secret = name.strip_suffix("_FILE").and_then(Setting::lookup).filter(|setting| setting.is_secret);
            match secret {
                Some(setting) if environment.get(setting.name).is_some_and(|value| !value.is_empty()) => {
                    self.faults.push(format!("{} and {name} are both set: keep one", setting.name));
                }
                Some(_) if value.is_empty() => {}
                Some(setting) => match std::fs::read_to_string(Path::new(value)) {
                    Ok(text) if text.trim().is_empty() => {
                        self.faults.push(format!("{name} names `{value}`, which is empty"))
                    }
                    Ok(text) => self.put(setting, text.trim_end().to_owned(), Source::SecretFile(value.clone())),
                    Err(e) => self.faults.push(format!("{name} names `{value}`, which cannot be read: {e}")),
                },
                None => self
                    .warnings
                    .push(format!("{name} is set, but ez-api has no such setting: see docs/configuration.md")),
            }
        }
    }
}

fn as_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}
