//! Access: the namespaces of a master or a child key, and the default one among them.

use ez_store::namespaces;

use crate::checks::deduplicated;
use crate::error::Faults;
use crate::{ControlError, Write};

/// Which namespaces a record may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Access {
    /// A member of `namespaces`.
    pub(crate) default_namespace: String,
    /// At least one, each once.
    pub(crate) namespaces: Vec<String>,
}

/// What a request says about access; what it leaves out comes from elsewhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct AskedAccess {
    pub(crate) default_namespace: Option<String>,
    pub(crate) namespaces: Option<Vec<String>>,
}

impl AskedAccess {
    /// Access of a new record: what is left out is taken over from `base`. Where its default is not among the namespaces
    /// asked for, the first of these is the default.
    pub(crate) fn for_new(self, base: &Access, faults: &mut Faults) -> Access {
        let namespaces = self.namespaces.map_or_else(|| base.namespaces.clone(), deduplicated);
        let inherited = Some(&base.default_namespace).filter(|name| namespaces.contains(name)).or(namespaces.first());
        let default_namespace = self.default_namespace.or(inherited.cloned()).unwrap_or_default();
        Access { default_namespace, namespaces }.checked(faults)
    }

    /// Access of a record that has `standing` now: what is left out stays.
    pub(crate) fn over(self, standing: Access, faults: &mut Faults) -> Access {
        let namespaces = self.namespaces.map_or(standing.namespaces, deduplicated);
        let default_namespace = self.default_namespace.unwrap_or(standing.default_namespace);
        Access { default_namespace, namespaces }.checked(faults)
    }
}

impl Access {
    fn checked(self, faults: &mut Faults) -> Self {
        if self.namespaces.is_empty() {
            faults.add("/namespaces", "must name at least one namespace, such as `default`");
        } else if !self.namespaces.contains(&self.default_namespace) {
            let (default, all) = (&self.default_namespace, self.namespaces.join(", "));
            faults.add("/default_namespace", format!("`{default}` must be one of the namespaces ({all})"));
        }
        self
    }

    /// Notes every namespace that does not exist. Those that do stay until the transaction ends. `is_listed` says that
    /// the request lists them; otherwise it named the default one alone.
    pub(crate) async fn require_existing(
        &self,
        write: &Write,
        is_listed: bool,
        faults: &mut Faults,
    ) -> Result<(), ControlError> {
        let existing = namespaces::list_by_names(write.tx(), &self.namespaces).await?;
        let mut standing = Vec::with_capacity(existing.len());
        // By id, like everybody else, so that two of these wait for each other and never deadlock.
        for namespace in existing {
            standing.extend(namespaces::get_for_update(write.tx(), namespace.id).await?);
        }
        for (place, name) in self.namespaces.iter().enumerate() {
            if !standing.iter().any(|namespace| namespace.name == *name) {
                let listed = format!("/namespaces/{place}");
                let pointer = if is_listed { listed } else { "/default_namespace".to_owned() };
                faults.add(pointer, format!("namespace `{name}` does not exist; create it first"));
            }
        }
        Ok(())
    }

    /// Notes every namespace that is not in `outer`, the master's access.
    pub(crate) fn require_within(&self, outer: &[String], faults: &mut Faults) {
        for (place, name) in self.namespaces.iter().enumerate() {
            if !outer.contains(name) {
                let all = outer.join(", ");
                let message = format!("`{name}` is not among the master's namespaces ({all})");
                faults.add(format!("/namespaces/{place}"), message);
            }
        }
    }
}
