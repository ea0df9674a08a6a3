//! Model references: how the `model` of a call names a namespace and a public model.

/// A resolved model reference; the parts borrow from the call and its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelRef<'a> {
    /// The namespace to look in.
    pub namespace: &'a str,
    /// The model's public name in that namespace.
    pub public_model: &'a str,
}

impl<'a> ModelRef<'a> {
    /// Resolves `model`: where the part before its first dot is a namespace that exists, the reference is
    /// `namespace.public_model`; otherwise all of it is a public model in `default_namespace`.
    pub fn resolve(model: &'a str, default_namespace: &'a str, namespace_exists: impl Fn(&str) -> bool) -> Self {
        match model.split_once('.') {
            Some((namespace, public_model)) if !public_model.is_empty() && namespace_exists(namespace) => {
                Self { namespace, public_model }
            }
            _ => Self { namespace: default_namespace, public_model: model },
        }
    }

    /// The key under which the binding and the model are published: `namespace.public_model`.
    pub fn key(&self) -> String {
        binding_key(self.namespace, self.public_model)
    }
}

/// `namespace.public_model`, the key of bindings and models in a snapshot. Namespaces hold no dot, so it is unique.
pub fn binding_key(namespace: &str, public_model: &str) -> String {
    let mut key = String::with_capacity(namespace.len() + 1 + public_model.len());
    key.push_str(namespace);
    key.push('.');
    key.push_str(public_model);
    key
}

/// Whether `name` can name a namespace: `[a-z0-9][a-z0-9_-]*`, at most 64 characters.
pub fn is_namespace_name(name: &str) -> bool {
    let starts_well = name.bytes().next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit());
    starts_well
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_kept_unless_a_namespace_stands_before_the_first() {
        let exists = |name: &str| name == "team-a";
        let cases = [
            ("gpt-4.1", ("default", "gpt-4.1")),
            ("gemini-2.5-pro", ("default", "gemini-2.5-pro")),
            ("team-a.gpt-4.1", ("team-a", "gpt-4.1")),
            ("team-b.gpt-4.1", ("default", "team-b.gpt-4.1")),
            ("team-a.", ("default", "team-a.")),
            ("plain", ("default", "plain")),
        ];
        for (model, (namespace, public_model)) in cases {
            let resolved = ModelRef::resolve(model, "default", exists);
            assert_eq!(resolved, ModelRef { namespace, public_model }, "{model}");
        }
    }

    #[test]
    fn namespace_names_hold_no_dot_and_start_well() {
        for good in ["default", "a", "0a_b-c"] {
            assert!(is_namespace_name(good), "{good}");
        }
        for bad in ["", "-a", "_a", "A", "a.b", "a b", &"a".repeat(65)] {
            assert!(!is_namespace_name(bad), "{bad}");
        }
    }
}
