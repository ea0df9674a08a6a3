//! Access: the namespaces of a master or a child key, and the default one among them.

use ez_contract::model_ref::is_namespace_name;
use ez_store::namespaces;

use crate::checks::deduplicated;
use crate::error::Faults;
use crate::{ControlError, Write};

/// Namespaces of a master or a child key.
const MAX_NAMESPACES: usize = 1000;

/// Namespaces that a message names.
const MAX_TOLD: usize = 10;

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
    /// Refuses a list that would keep everybody else waiting; to be asked before anything is looked up or compared.
    /// Errors: `Invalid`.
    pub(crate) fn refuse_endless(&self) -> Result<(), ControlError> {
        let mut faults = Faults::default();
        if self.namespaces.as_ref().is_some_and(|names| names.len() > MAX_NAMESPACES) {
            faults.add("/namespaces", format!("must have at most {MAX_NAMESPACES} entries"));
        }
        faults.into_result()
    }

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
            let (default, all) = (&self.default_namespace, told(&self.namespaces));
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
        // What is no name is not looked up: not every database takes every text.
        let names: Vec<String> = self.namespaces.iter().filter(|name| is_namespace_name(name)).cloned().collect();
        let existing = namespaces::list_by_names(write.tx(), &names).await?;
        let ids: Vec<i64> = existing.iter().map(|namespace| namespace.id).collect();
        let standing = namespaces::list_for_update(write.tx(), &ids).await?;
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
                let all = told(outer);
                let message = format!("`{name}` is not among the master's namespaces ({all})");
                faults.add(format!("/namespaces/{place}"), message);
            }
        }
    }
}

/// The first names of a list, for a message.
fn told(names: &[String]) -> String {
    let mut text = names.iter().take(MAX_TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > MAX_TOLD {
        text.push_str(", …");
    }
    text
}
