//! What is known of models: an administrator's word, else the catalogue's.

use std::collections::HashMap;
use std::sync::Arc;

use ez_contract::models::ModelsOrigin;
use ez_store::{StoreError, models};

use crate::Control;
use crate::catalogue::{self, Catalogue, ModelFacts};

/// All that is known of models at one moment.
pub(crate) struct KnownModels {
    /// What administrators entered, by name.
    entered: HashMap<String, ModelFacts>,
    catalogue: Arc<Catalogue>,
}

impl KnownModels {
    /// Reads it, and what is wrong with the models that cannot be read.
    pub(crate) async fn read(control: &Control) -> Result<(Self, Vec<StoreError>), StoreError> {
        let readable = models::list_readable(control.store()).await?;
        let entered =
            readable.records.into_iter().map(|model| (model.name.clone(), ModelFacts::from(&model))).collect();
        let catalogue = catalogue::standing(control, control.store()).await?;
        Ok((Self { entered, catalogue }, readable.faults))
    }

    /// Where the catalogue came from.
    pub(crate) fn origin(&self) -> &ModelsOrigin {
        &self.catalogue.origin
    }

    /// What is known of an upstream's model that clients know as `public_model`: by a model that an administrator entered
    /// under the one name or the other, else by the catalogue.
    pub(crate) fn find(&self, upstream: &str, public_model: &str) -> Option<ModelFacts> {
        let entered = self.entered.get(upstream).or_else(|| self.entered.get(public_model));
        entered.or_else(|| self.catalogue.find(upstream, public_model)).cloned()
    }
}
