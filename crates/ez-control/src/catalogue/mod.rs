//! The model catalogue: what is known of models without an administrator's word. One comes with the program; another
//! may take its place, as a document that the database keeps for all control planes.

mod document;
mod facts;
mod renewal;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Utc};
use ez_contract::TokenDigest;
use ez_contract::models::{ModelKind, ModelsOrigin};
use ez_contract::selector::normalize;
use ez_store::{Page, Paged};

pub use document::MAX_DOCUMENT_BYTES;
pub(crate) use facts::{MAX_TOKENS, parse_price};
pub use facts::{ModelFacts, Prices, Supports};
pub use renewal::{CatalogueStatus, Renewal, prepare, renew, reset, status};
pub(crate) use renewal::{Kept, standing};

use crate::error::chain;
use crate::{Control, ControlError};

/// The bundled document; `scripts/make-catalogue` writes it.
const BUNDLED: &str = include_str!("../../catalogue/models.json");

/// Read at first use. Its 3,500 models take 0.8 MB in memory, beside the 0.6 MB of the text in the program.
static BUNDLED_CATALOGUE: LazyLock<Arc<Catalogue>> = LazyLock::new(|| {
    let parsed = document::parse(BUNDLED).unwrap_or_else(|error| {
        tracing::error!(error = %chain(&error), "the bundled model catalogue cannot be read");
        Catalogue::new(ModelsOrigin::default(), String::new(), "", Vec::new())
    });
    Arc::new(parsed)
});

/// A model catalogue, ready to be asked.
#[derive(Debug)]
pub struct Catalogue {
    /// Where it came from.
    pub origin: ModelsOrigin,
    /// What its source may be used under, or empty.
    pub license: String,
    /// Lower-case hex SHA-256 of its document.
    pub checksum: String,
    /// When it took the place of the bundled one; none for that one.
    pub renewed_at: Option<DateTime<Utc>>,
    /// By name.
    models: Vec<CatalogueModel>,
    /// Normalised name to the place of the model that stands for it.
    by_normalized: HashMap<String, usize>,
}

/// A model of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueModel {
    /// Its name.
    pub name: String,
    /// What is known of it.
    pub facts: ModelFacts,
}

impl Catalogue {
    fn new(origin: ModelsOrigin, license: String, document: &str, mut models: Vec<CatalogueModel>) -> Self {
        models.sort_by(|a, b| a.name.cmp(&b.name));
        let mut by_normalized: HashMap<String, usize> = HashMap::new();
        for (place, model) in models.iter().enumerate() {
            let key = normalize(&model.name);
            let stands = by_normalized.get(&key).and_then(|standing| models.get(*standing));
            if stands.is_none_or(|standing| outranks(model, standing, &key)) {
                by_normalized.insert(key, place);
            }
        }
        let checksum = TokenDigest::of(document).to_string();
        Self { origin, license, checksum, renewed_at: None, models, by_normalized }
    }

    /// How many models it has.
    pub fn len(&self) -> usize {
        self.models.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// What is known of the model of exactly this name.
    pub fn get(&self, name: &str) -> Option<&ModelFacts> {
        let place = self.models.binary_search_by(|model| model.name.as_str().cmp(name)).ok()?;
        self.models.get(place).map(|model| &model.facts)
    }

    /// What is known of a model that upstreams know as `upstream` and clients as `public`: by the upstream's name, by
    /// that in lower case after its last `/`, by the public name.
    pub fn find(&self, upstream: &str, public: &str) -> Option<&ModelFacts> {
        let normalized = || {
            let place = self.by_normalized.get(&normalize(upstream))?;
            self.models.get(*place).map(|model| &model.facts)
        };
        self.get(upstream).or_else(normalized).or_else(|| self.get(public))
    }

    /// A page of its models by name, those with `search` in their name in any case, and of one kind where given.
    pub fn list(&self, search: Option<&str>, kind: Option<ModelKind>, page: Page) -> Paged<&CatalogueModel> {
        let search = search.map(str::to_lowercase);
        let matches = |model: &&CatalogueModel| {
            let is_found = search.as_ref().is_none_or(|term| model.name.to_lowercase().contains(term));
            is_found && kind.is_none_or(|kind| model.facts.kind == kind)
        };
        let found: Vec<&CatalogueModel> = self.models.iter().filter(matches).collect();
        let total = found.len() as u64;
        let [offset, limit] = [page.offset, page.limit].map(|rows| usize::try_from(rows).unwrap_or(usize::MAX));
        Paged { items: found.into_iter().skip(offset).take(limit).collect(), total }
    }
}

/// Whether `model` is a better answer than `standing` to a look-up by their common normalised name: its own name, else
/// the dearer of them, so that a budget is never under-counted.
fn outranks(model: &CatalogueModel, standing: &CatalogueModel, normalized: &str) -> bool {
    let rank = |model: &CatalogueModel| {
        let prices = model.facts.prices;
        (model.name == normalized, prices.input, prices.output)
    };
    rank(model) > rank(standing)
}

/// The catalogue that comes with the program.
pub fn bundled() -> Arc<Catalogue> {
    BUNDLED_CATALOGUE.clone()
}

/// A page of the models of the catalogue that counts now. Errors: `Unavailable`.
pub async fn list(
    control: &Control,
    search: Option<&str>,
    kind: Option<ModelKind>,
    page: Page,
) -> Result<Paged<CatalogueModel>, ControlError> {
    let catalogue = standing(control, control.store()).await?;
    let Paged { items, total } = catalogue.list(search, kind, page);
    Ok(Paged { items: items.into_iter().cloned().collect(), total })
}

#[cfg(test)]
mod tests;
