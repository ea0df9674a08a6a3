//! Strict reading of a request's objects: nothing unknown, nothing of the wrong type.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// What a vendor says about a request that is wrong.
#[derive(Debug)]
pub(super) struct Wrong(pub(super) String);

pub(super) type Heeded<T> = Result<T, Wrong>;

/// A refusal.
pub(super) fn wrong<T>(message: impl Into<String>) -> Heeded<T> {
    Err(Wrong(message.into()))
}

/// Refuses unless `holds`.
pub(super) fn require(holds: bool, message: impl FnOnce() -> String) -> Heeded<()> {
    if holds { Ok(()) } else { wrong(message()) }
}

/// An object of a request and where it stands.
pub(super) struct Object<'v> {
    pub(super) path: String,
    members: &'v Map<String, Value>,
}

impl<'v> Object<'v> {
    /// An object with no other keys than these.
    pub(super) fn of(value: &'v Value, path: impl Into<String>, keys: &[&str]) -> Heeded<Self> {
        let object = Self::open(value, path)?;
        object.only(keys)?;
        Ok(object)
    }

    /// An object whose keys are looked at later.
    pub(super) fn open(value: &'v Value, path: impl Into<String>) -> Heeded<Self> {
        let path = path.into();
        match value.as_object() {
            Some(members) => Ok(Self { path, members }),
            None => wrong(format!("{path}: Input should be an object")),
        }
    }

    pub(super) fn only(&self, keys: &[&str]) -> Heeded<()> {
        match self.members.keys().find(|key| !keys.contains(&key.as_str())) {
            Some(key) => wrong(format!("{}: Extra inputs are not permitted", self.at(key))),
            None => Ok(()),
        }
    }

    pub(super) fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Whether there is such a member, be it `null`.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.members.contains_key(key)
    }

    /// A member that is not `null`.
    pub(super) fn get(&self, key: &str) -> Option<&'v Value> {
        self.members.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, key: &str) -> Heeded<Option<&'v str>> {
        self.typed(key, "a string", Value::as_str)
    }

    pub(super) fn require_text(&self, key: &str) -> Heeded<&'v str> {
        self.text(key)?.ok_or_else(|| Wrong(format!("{}: Field required", self.at(key))))
    }

    pub(super) fn flag(&self, key: &str) -> Heeded<Option<bool>> {
        self.typed(key, "a boolean", Value::as_bool)
    }

    pub(super) fn count(&self, key: &str) -> Heeded<Option<u64>> {
        self.typed(key, "a whole number", Value::as_u64)
    }

    pub(super) fn list(&self, key: &str) -> Heeded<Option<&'v Vec<Value>>> {
        self.typed(key, "a list", Value::as_array)
    }

    /// A list with something in it.
    pub(super) fn require_list(&self, key: &str) -> Heeded<&'v Vec<Value>> {
        let list = self.list(key)?.ok_or_else(|| Wrong(format!("{}: Field required", self.at(key))))?;
        require(!list.is_empty(), || format!("{}: too short, expected at least 1 item", self.at(key)))?;
        Ok(list)
    }

    /// An object with no other keys than these.
    pub(super) fn object(&self, key: &str, keys: &[&str]) -> Heeded<Option<Object<'v>>> {
        self.get(key).map(|value| Object::of(value, self.at(key), keys)).transpose()
    }

    pub(super) fn require_object(&self, key: &str, keys: &[&str]) -> Heeded<Object<'v>> {
        self.object(key, keys)?.ok_or_else(|| Wrong(format!("{}: Field required", self.at(key))))
    }

    /// A number within bounds.
    pub(super) fn number(&self, key: &str, least: f64, most: f64) -> Heeded<Option<f64>> {
        let number = self.typed(key, "a number", Value::as_f64)?;
        let fits = number.is_none_or(|number| (least..=most).contains(&number));
        require(fits, || format!("{}: must be from {least} to {most}", self.at(key)))?;
        Ok(number)
    }

    /// A string that is one of these.
    pub(super) fn word(&self, key: &str, words: &[&str]) -> Heeded<Option<&'v str>> {
        let word = self.text(key)?;
        let is_known = word.is_none_or(|word| words.contains(&word));
        require(is_known, || format!("{}: Input should be one of {words:?}, not {word:?}", self.at(key)))?;
        Ok(word)
    }

    /// Strings.
    pub(super) fn texts(&self, key: &str) -> Heeded<Vec<String>> {
        let texts = self.list(key)?.map(Vec::as_slice).unwrap_or_default();
        let text = |text: &Value| text.as_str().map(str::to_owned);
        texts.iter().map(|entry| text(entry).ok_or_else(|| Wrong(format!("{}: strings", self.at(key))))).collect()
    }

    /// Refuses members that must not be there.
    pub(super) fn without(&self, keys: &[&str], why: &str) -> Heeded<()> {
        match keys.iter().find(|key| self.has(key)) {
            Some(key) => wrong(format!("Unsupported parameter: '{}' {why}", self.at(key))),
            None => Ok(()),
        }
    }

    fn typed<T>(&self, key: &str, what: &str, read: impl Fn(&'v Value) -> Option<T>) -> Heeded<Option<T>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match read(value) {
                None => wrong(format!("{}: Input should be {what}", self.at(key))),
                read => Ok(read),
            },
        }
    }
}

/// A name of a tool that fits in so many characters, of letters, digits and these.
pub(super) fn check_name(name: &str, most: usize, further: &str, place: &str) -> Heeded<()> {
    let fits = (1..=most).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c) || further.contains(c));
    require(fits, || format!("{place}: '{name}' does not match the pattern of names of at most {most} characters"))
}

/// How many bytes base64 stands for.
pub(super) fn base64_bytes(data: &str, place: &str) -> Heeded<usize> {
    STANDARD.decode(data).map(|bytes| bytes.len()).map_err(|e| Wrong(format!("{place}: invalid base64 data: {e}")))
}

/// What a file in a data URL is: its type and size.
pub(super) fn data_url(url: &str, place: &str) -> Heeded<String> {
    match url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
        Some((media_type, data)) => Ok(seen(media_type, base64_bytes(data, place)?)),
        None if url.starts_with("http") => Ok(url.to_owned()),
        None => wrong(format!("{place}: neither a URL nor base64 data")),
    }
}

/// How the model names a file that it was given.
pub(super) fn seen(media_type: &str, bytes: usize) -> String {
    format!("{media_type} of {bytes} bytes")
}

/// A model of OpenAI's that reasons.
pub(super) fn is_reasoning_model(model: &str) -> bool {
    let is_newer = model.starts_with("gpt-5") || model.starts_with("gpt-6");
    (is_newer && !model.contains("chat")) || ["o1", "o3", "o4"].iter().any(|name| model.starts_with(name))
}

/// Whether OpenAI's strict mode takes a schema: every object closed, every property required.
pub(super) fn check_strict(schema: &Value, place: &str) -> Heeded<()> {
    if let Some(properties) = schema["properties"].as_object() {
        let is_closed = schema["additionalProperties"] == false;
        require(is_closed, || format!("{place}: 'additionalProperties' is required to be supplied and to be false"))?;
        let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let has_all = properties.keys().all(|key| required.contains(&key.as_str()));
        require(has_all, || format!("{place}: 'required' is required to include every key in properties"))?;
        properties.values().try_for_each(|property| check_strict(property, place))?;
    }
    if schema["items"].is_object() { check_strict(&schema["items"], place) } else { Ok(()) }
}
